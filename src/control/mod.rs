//! The control plane: who owns what, which agent key may use which service, and who is told when that changes. It never
//! sees a provider's secret.

pub mod api;
pub mod domain;
mod health;
mod lock;
mod metrics;
mod nonces;
mod places;
mod plane;
mod rates;
mod recent;
mod relay;
mod seal;
mod server;
mod sole;
pub mod store;
mod streams;
mod tasks;
mod token;
mod webhooks;

pub use metrics::{ClaimEvent, CommandOutcome, DeliveryOutcome, Metrics};
pub use plane::{ControlConfig, ControlFault, ControlPlane, Environment, Limits};
pub use relay::{Relay, RelayFault};
pub use seal::{SealFault, Sealer};
pub use server::Bound;
pub use sole::SoleFault;
pub use token::{OwnerToken, TokenFault, TokenKey};
