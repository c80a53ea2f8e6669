//! What the gateway endures: slow and many clients, hostile upstreams, too few descriptors, and a vault that is killed,
//! filled and damaged.

mod hostile_upstream;
mod overload;
mod panics;
mod slow_clients;
mod vault_damage;
mod vault_disk;
mod vault_kill;
pub mod vault_kit;
mod vault_life;
mod vault_rekey;
