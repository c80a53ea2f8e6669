//! What an attacker may try, over real sockets.

mod heads;
pub mod stage;
mod strict;
