//! The local signing proxy and the signing client under it: unsigned in, signed out.
//!
//! The proxy is built on hyper's server and reqwest, not on Pingora: the digest of a body stands in the signed
//! headers, so a body is read to its end before the first byte goes out, and Pingora cannot send on a body
//! above 64 KiB that was read that early.

mod admission;
mod client;
mod headers;
mod proxy;
mod refusal;
mod server;
mod signer;
mod target;

pub use client::{ClientFault, client, is_loopback_host, root_cause};
pub use server::{Agent, AgentConfig, AgentFault, DEFAULT_MAX_BODY_BYTES};
pub use signer::{Signer, SignerFault};
pub use target::{Target, TargetFault};
