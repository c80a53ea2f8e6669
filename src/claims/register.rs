//! Registration of callers without a claim.
use crate::names::ConnectionId;
use crate::protocol::VerifiedSignature;
/// stub
#[derive(Debug)]
pub struct Registrar { _private: () }
/// Where claims are submitted.
#[derive(Debug, Clone)]
pub struct RegistrarConfig {
    /// The control plane's base URL.
    pub url: url::Url,
    /// The service API key, sent as bearer.
    pub service_api_key: crate::connections::SecretSource,
    /// Keys of single services, which go before the one above.
    pub service_api_keys: std::collections::HashMap<ConnectionId, crate::connections::SecretSource>,
    /// Submissions a minute at the most.
    pub per_minute: std::num::NonZeroU32,
}
/// What a caller without a claim is told: serialized as the envelope's `claim`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Registration {
    /// `pending`, `approved`, `rejected`, `revoked`, `expired`, `unregistered` (nothing was submitted).
    pub status: String,
    /// The claim's id where the control plane gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_id: Option<String>,
    /// Where the owner approves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_url: Option<String>,
}
/// More registrations than allowed a minute: 429 AUTH_CLAIM_SUBMIT_RATE_LIMITED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmitRateLimited {
    /// Retry after so many seconds.
    pub retry_after_secs: u64,
}
impl Registrar {
    /// Submits a claim for the agent, once per (namespace, key, service) and a while, and answers within 2 s:
    /// later answers of the control plane are remembered for the next caller.
    ///
    /// # Errors
    /// When too many were submitted in this minute.
    pub async fn register(&self, _verified: &VerifiedSignature, _service: &ConnectionId, _agent_ip: std::net::IpAddr) -> Result<Registration, SubmitRateLimited> { unimplemented!() }
}
