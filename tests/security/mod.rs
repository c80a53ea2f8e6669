//! What an attacker may try, over real sockets.

mod desync;
mod heads;
pub mod stage;
mod strict;
