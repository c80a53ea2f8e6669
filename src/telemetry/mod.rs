//! Metrics, log lines and the decision log.

mod decision;
mod logging;
mod metrics;
mod series;

pub use decision::{Decision, DecisionLog, Identities, Outcome};
pub use logging::{DroppedLines, LogConfig, LogFormat, LogGuard, start_logging};
pub use metrics::{InFlight, Metrics, Protocol, UsageFate};
