//! The admin sidecar: its own listener, apart from the data plane. It gets handles to what it shows, and imports nothing
//! of the gateway.

mod access;
mod listener;
mod refusal;
mod service;
mod settings;

pub use listener::Bound;
pub use service::{Admin, AdminFault, Handles, Ready};
pub use settings::{Access, AdminSettings};
