//! What the gateway makes of slowness, overload, damage and kills.

mod control_kill;
mod control_herd;
mod control_outage;
mod control_replaced;
mod gateway_disk;
mod hostile_upstream;
mod overload;
mod panics;
mod rotation_under_load;
mod slow_clients;
mod vault_damage;
pub mod vault_disk;
mod vault_kill;
pub mod vault_kit;
mod vault_life;
mod vault_rekey;
