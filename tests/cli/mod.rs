//! The command line, through the real binary.

mod agent;
mod connection;
mod curl;
mod echo;
mod init;
mod shell;
mod sign;
pub(crate) mod stage;
mod vault;
