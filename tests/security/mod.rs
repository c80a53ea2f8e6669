//! What an attacker may try, over real sockets.

mod canary;
mod control_owners;
mod core_dump;
mod desync;
mod frames;
mod h2_hostile;
mod heads;
mod mutations;
pub mod stage;
mod strangers;
mod strict;
mod vault_at_rest;
mod vault_tampering;
