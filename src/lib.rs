//! Sigilum: the gateway that lets AI agents use other people's APIs without ever holding their keys.
//!
//! The modules stand in the order of the house (`docs/architecture.md`): a file imports only from
//! rooms above its own, and `tests/conformance/house.rs` holds it to that.

pub mod names;
pub mod clock;
pub mod secret;
pub mod envelope;
pub mod json;
pub mod protocol;
pub mod policy;
pub mod telemetry;
pub mod identity;
pub mod vault;
pub mod connections;
pub mod claims;
pub mod replay;
pub mod usage;
pub mod gateway;
pub mod agent;
pub mod admin;
pub mod pairing;
pub mod control;
pub mod config;
pub mod cli;
