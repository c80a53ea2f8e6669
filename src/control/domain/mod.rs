//! What the control plane is about: owners, services, claims and what happens to them. Pure: no SQL, no sockets.

pub mod api_key;
pub mod claim;
pub mod feed;
pub mod owner;
pub mod pairing;
pub mod service;
pub mod usage;
pub mod webhook;
