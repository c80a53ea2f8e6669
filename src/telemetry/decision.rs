//! The decision log: one JSON line per decision.
use std::net::IpAddr;
use std::time::Duration;
/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed and answered by the upstream.
    Allowed,
    /// Refused by the gateway.
    Rejected,
    /// Allowed, then failed towards the upstream.
    Error,
}
/// How identities are logged.
#[derive(Debug, Clone)]
pub enum Identities {
    /// As keyed fingerprints under this key, stable while the key is.
    Fingerprint([u8; 16]),
    /// As they are.
    Plain,
}
/// One decision.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Decision<'a> {
    pub request_id: &'a str,
    pub connection: Option<&'a str>,
    pub outcome: Outcome,
    /// The refusal's or fault's code.
    pub code: Option<&'a str>,
    /// SIG_…
    pub reason: Option<&'a str>,
    /// (namespace, subject, agent id) once verified.
    pub principal: Option<(&'a str, &'a str, Option<&'a str>)>,
    pub claim: Option<&'a str>,
    pub method: &'a str,
    /// Upstream path without query.
    pub path: &'a str,
    pub status: u16,
    pub client: Option<IpAddr>,
    pub total: Duration,
    pub upstream: Option<Duration>,
    pub request_bytes: u64,
    pub response_bytes: u64,
}
/// Writes decisions.
#[derive(Debug)]
pub struct DecisionLog { _private: () }
impl DecisionLog {
    /// `allowed_too`: allowed requests are written as well as refused ones (`log.proxy_requests`).
    #[must_use]
    pub fn new(_identities: Identities, _allowed_too: bool) -> Self { unimplemented!() }
    /// Writes one line (target `sigilum::decision`, level INFO when allowed, WARN otherwise).
    pub fn write(&self, _decision: &Decision<'_>) { unimplemented!() }
}
