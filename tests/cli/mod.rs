//! The command line, through the real binary.

mod agent;
mod connection;
mod curl;
mod doctor;
mod echo;
mod gateway_life;
mod household;
mod init;
mod shell;
mod sign;
pub(crate) mod stage;
mod up;
mod vault;
