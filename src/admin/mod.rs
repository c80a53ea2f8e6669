//! The admin sidecar: its own listener, apart from the data plane. It gets handles to what it shows and changes, and
//! imports nothing of the gateway.

mod access;
mod answer;
mod audit;
mod body;
mod bridge;
mod catalog;
mod change;
mod connections;
mod excerpt;
mod gateway;
mod handles;
mod json;
mod listener;
mod openapi;
mod pairing;
mod probe;
mod refusal;
mod routes;
mod service;
mod service_keys;
mod settings;
mod target;
mod variables;
mod vault;

pub use bridge::{PairFault, PairRequest, Pairing, PairingState, PairingView, SealingKeyView, Trouble};
pub use handles::{Apply, ConfigFault, Handles, Ready, Reload, ReloadFault, Reloaded};
pub use listener::Bound;
pub use service::{Admin, AdminFault};
pub use settings::{Access, AdminSettings};
