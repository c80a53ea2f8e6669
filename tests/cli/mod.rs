//! The command line, through the real binary.

mod agent;
mod api_owner;
mod auth;
mod claim;
mod connection;
mod curl;
mod doctor;
mod echo;
mod export;
mod gateway_life;
mod hostile_directory;
mod household;
mod init;
pub(crate) mod owner_scene;
mod service;
mod shell;
mod sign;
pub(crate) mod stage;
mod up;
mod vault;
mod walkthrough;
mod wrong;
