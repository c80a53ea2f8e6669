//! What agents did, told to the control plane in the background: never in a request's way.
//!
//! Requests that got past authorization are told, whatever became of them then. What cannot be told is given up in
//! the end, and counted: usage is no proof of anything, and the decision log has every request.

mod event;
mod queue;
mod reporter;

pub use event::{Event, Result};
pub use queue::{Usage, UsageConfig, open};
pub use reporter::Reporter;
