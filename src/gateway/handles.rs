//! What the data plane is handed: it uses these and does not own them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::open::OpenExchanges;
use crate::claims::{ClaimsIndex, Registrar};
use crate::clock::Clock;
use crate::replay::MemoryStore;
use crate::telemetry::{DecisionLog, Metrics};
use crate::usage::Usage;

/// Answers a request that belongs to the admin sidecar, from a client at this address, under the sidecar's own rules.
pub type AdminDoor =
    Arc<dyn Fn(http::Request<Bytes>, IpAddr) -> BoxFuture<'static, http::Response<Bytes>> + Send + Sync>;

/// What the data plane uses and does not own.
#[derive(Clone)]
pub struct Handles {
    /// The time.
    pub clock: Clock,
    /// The approved claims.
    pub claims: Arc<ClaimsIndex>,
    /// What runs under them; the index tells it which are withdrawn.
    pub open: OpenExchanges,
    /// Where callers without a claim are registered, where they are.
    pub registrar: Option<Arc<Registrar>>,
    /// Nonces seen.
    pub replay: Arc<MemoryStore>,
    /// Where the control plane is told what agents did, where it is.
    pub usage: Option<Usage>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The decision log.
    pub decisions: Arc<DecisionLog>,
    /// Whether requests can be served; the error says what is awaited.
    pub ready: Arc<dyn Fn() -> Result<(), &'static str> + Send + Sync>,
    /// The admin sidecar, where the data port serves `/metrics` and `/api/admin/*` (`admin.on_data_port`).
    pub admin: Option<AdminDoor>,
}
