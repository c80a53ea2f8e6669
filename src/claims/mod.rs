//! The approved claims that this gateway knows, and where they come from.

mod feed;
mod index;
mod register;

pub use feed::{Feed, FeedConfig, FeedFault};
pub use index::{ClaimsIndex, ClaimsState, FeedFailure, Lookup};
pub use register::{Registrar, RegistrarConfig, Registration, SubmitRateLimited};
