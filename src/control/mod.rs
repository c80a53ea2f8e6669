//! The control plane: who owns what, which agent key may use which service, and who is told when that changes. It never
//! sees a provider's secret.

pub mod api;
pub mod domain;
mod metrics;
mod plane;
mod relay;
mod seal;
pub mod store;
mod tasks;
mod token;
mod webhooks;

pub use metrics::{ClaimEvent, CommandOutcome, DeliveryOutcome, Metrics};
pub use plane::{Bound, ControlConfig, ControlFault, ControlPlane, Environment, Limits};
pub use relay::{Relay, RelayFault};
pub use seal::{SealFault, Sealer};
pub use token::{OwnerToken, TokenFault, TokenKey};
