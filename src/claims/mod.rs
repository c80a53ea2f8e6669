//! The approved claims that this gateway knows, and where they come from.

mod control_plane;
mod feed;
mod index;
mod page;
mod register;

pub use control_plane::CallFault;
pub(crate) use control_plane::ControlPlane;
pub use feed::{Feed, FeedConfig, FeedFault};
pub use index::{ClaimsIndex, ClaimsState, FeedFailure, Lookup};
pub use register::{Registrar, RegistrarConfig, Registration, SubmitRateLimited};
