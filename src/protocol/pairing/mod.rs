//! What a gateway and the control plane that it is paired with say to each other, and which commands may pass.
//!
//! Both ends call [`allow`] on every command: the control plane before it keeps or sends anything of it, the gateway
//! before it executes it.

mod allow;
mod code;
mod message;
mod refusal;
mod sealing;

pub use allow::{Allowed, allow};
pub use code::{PairCode, code_digest};
pub use message::{Command, Frame, Reply};
pub use refusal::CommandRefusal;

/// The largest body of a command and of a reply, in bytes.
pub const MOST_BODY_BYTES: usize = 1024 * 1024;
/// The largest message: a body as a JSON text in a JSON text, where each quotation mark takes two bytes, and its head.
pub const MOST_MESSAGE_BYTES: usize = 2 * MOST_BODY_BYTES + 64 * 1024;
/// Commands of one session that are under way at once.
pub const MOST_IN_FLIGHT: usize = 64;
/// How often the gateway sends a ping, in seconds.
pub const PING_EVERY_SECS: u64 = 15;
/// After how many seconds without any message either end takes the other for gone.
pub const DEAD_AFTER_SECS: u64 = 45;
