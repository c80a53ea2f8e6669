//! What the sidecar is handed: it shows and changes these, and owns none of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;

use super::bridge::Pairing;
use crate::claims::ClaimsIndex;
use crate::clock::{Clock, UnixTime};
use crate::connections::Book;
use crate::replay::MemoryStore;
use crate::telemetry::Metrics;
use crate::vault::Vault;

/// Whether the gateway is ready; if not, what it waits for, as in "the approved claims".
pub type Ready = Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// Puts the book's connections into the data plane's service. When it is done, the next request sees them. The error is
/// a sentence.
pub type Apply = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Reads the configuration file again, and puts what is in it into service, whole or not at all.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<Reloaded, ReloadFault>> + Send + Sync>;

/// What the sidecar shows and changes.
#[derive(Clone)]
pub struct Handles {
    /// The time.
    pub clock: Clock,
    /// What `GET /metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `GET /health/ready` asks.
    pub ready: Ready,
    /// The gateway's id, for which secrets are sealed.
    pub gateway_id: String,
    /// When the gateway was started.
    pub started: UnixTime,
    /// The connections.
    pub book: Book,
    /// The vault, for its state and its master key.
    pub vault: Option<Vault>,
    /// Where the vault lies.
    pub vault_directory: Option<PathBuf>,
    /// The approved claims.
    pub claims: Arc<ClaimsIndex>,
    /// Nonces seen.
    pub replay: Arc<MemoryStore>,
    /// Called after every change of a connection.
    pub apply: Apply,
    /// Called by `POST /api/admin/reload`.
    pub reload: Reload,
    /// The bridge to a dashboard, for `/api/admin/pairing`; `None`: this gateway has none.
    pub pairing: Option<Arc<dyn Pairing>>,
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A configuration that was put into service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// How many connections it has.
    pub connections: usize,
    /// What is worth a look.
    pub warnings: Vec<ConfigFault>,
    /// Sections that differ from those running, and count only after a restart.
    pub restart_needed_for: Vec<String>,
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigFault {
    /// The file, or the environment variable.
    pub source: String,
    /// The line, from 1; null where there is none.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// The setting, as in `providers[0].base_url`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Why a configuration was not put into service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadFault {
    /// The gateway was started without one.
    #[error("this gateway was started without a configuration file, so there is none to read again")]
    NoFile,
    /// It has faults.
    #[error("the configuration has {} faults", .0.len())]
    Invalid(Vec<ConfigFault>),
    /// It is right, and cannot be served.
    #[error("the configuration cannot be put into service: {0}")]
    NotInService(String),
}
