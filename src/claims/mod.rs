//! The approved claims that this gateway knows, and where they come from.

mod aside;
mod attend;
mod control_plane;
mod desk;
mod events;
mod fault;
mod feed;
mod group;
mod health;
mod index;
mod ledger;
mod opening;
mod page;
mod pauses;
mod reader;
mod register;
mod services;
mod shares;
mod shelf;
mod snapshot;
mod state;

pub use control_plane::CallFault;
// The signed client serves the other rooms that call the control plane.
pub(crate) use control_plane::ControlPlane;
pub use desk::FeedSource;
pub use fault::FeedFault;
pub use feed::{Feed, FeedConfig};
pub use index::{ClaimsIndex, Delta, Lookup};
pub use register::{Registrar, RegistrarConfig, Registration, SubmitRateLimited};
pub use services::Services;
pub use state::{ClaimsSource, ClaimsState, FeedFailure, ServiceClaims};
