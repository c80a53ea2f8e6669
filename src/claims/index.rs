//! The index of approved claims.
use std::sync::Arc;
use std::time::Duration;
use crate::clock::UnixTime;
use crate::names::{ConnectionId, Namespace};
use crate::policy::Claim;
use crate::protocol::PublicKey;

/// What a lookup finds.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// An approved claim (expired ones too: authorize() judges).
    Found(Arc<Claim>),
    /// There is none, and the index is fresh enough to say so.
    Absent,
    /// The feed was never received, or is staler than allowed: 503 AUTH_CLAIMS_UNAVAILABLE.
    Unavailable,
    /// The control plane answers, but refuses this gateway or sends what cannot be read, and no state within the staleness limit is left: AUTH_CLAIMS_LOOKUP_FAILED.
    Failed,
}
/// For readiness, metrics, and admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimsState {
    /// Received once, or no feed configured.
    pub ready: bool,
    /// Claims held.
    pub entries: usize,
    /// Since the last good reading of the feed; `None` without a feed or before the first.
    pub age: Option<Duration>,
}
/// Approved claims: those of the configuration (never stale) and those of the feed. Reads take no lock.
#[derive(Debug)]
pub struct ClaimsIndex { _private: () }
impl ClaimsIndex {
    /// `max_staleness` is `None` where there is no feed: static claims alone decide then.
    #[must_use]
    pub fn new(_static_claims: Vec<Claim>, _max_staleness: Option<Duration>) -> Self { unimplemented!() }
    /// Looks a claim up. A static claim is found whatever the feed's state.
    #[must_use]
    pub fn lookup(&self, _namespace: &Namespace, _key: &PublicKey, _service: &ConnectionId, _now: UnixTime) -> Lookup { unimplemented!() }
    /// The state.
    #[must_use]
    pub fn state(&self, _now: UnixTime) -> ClaimsState { unimplemented!() }
}
