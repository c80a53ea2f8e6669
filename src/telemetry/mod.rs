//! Metrics and the decision log.

mod decision;
mod logging;
mod metrics;

pub use decision::{Decision, DecisionLog, Identities, Outcome};
pub use logging::{LogConfig, LogFormat, LogGuard, start_logging};
pub use metrics::{InFlight, Metrics, Protocol};
