//! The gateway's side of a pairing: an outbound WebSocket to the control plane, over which an owner administers a gateway
//! that nobody reaches from outside.
//!
//! The bridge is an authority of its own: commands come from the paired control plane alone, pass the allow list
//! ([`crate::protocol::pairing::allow`]), and are executed by the admin router in this process.

mod backoff;
mod bridge;
mod execute;
mod kept;
mod link;

pub use bridge::{Bridge, BridgeConfig};
