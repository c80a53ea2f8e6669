//! The gateway's side of the control plane's protocol, over real sockets.

mod claims_feed;
mod claims_register;
mod claims_stream;
pub(crate) mod pushed;
pub(crate) mod server;
