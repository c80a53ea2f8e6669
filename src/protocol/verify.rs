//! The verification order (rows 1 to 9).
use std::sync::Arc;
use std::time::Duration;
use crate::clock::UnixTime;
use super::{Agent, Certificates, ContentDigest};

/// A request as its signer saw it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The absolute URI that the client requested, without fragment.
    pub target_uri: &'a str,
    /// Its headers.
    pub headers: &'a http::HeaderMap,
    /// Whether a body follows (or may follow).
    pub has_body: bool,
}
/// How far `created` may lie from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How old at most (default 300 s).
    pub created_tolerance: Duration,
    /// How far ahead at most (default 30 s).
    pub future_skew: Duration,
}
/// Proof that rows 1 to 9 hold. Only [`verify`] makes one.
#[derive(Debug)]
pub struct VerifiedSignature { _private: () }
impl VerifiedSignature {
    /// The agent whose key signed.
    #[must_use]
    pub fn agent(&self) -> &Arc<Agent> { unimplemented!() }
    /// `sigilum-subject`.
    #[must_use]
    pub fn subject(&self) -> &str { unimplemented!() }
    /// `sigilum-agent-id`, where sent.
    #[must_use]
    pub fn agent_id(&self) -> Option<&str> { unimplemented!() }
    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> &str { unimplemented!() }
    /// `created`, in Unix seconds.
    #[must_use]
    pub fn created(&self) -> i64 { unimplemented!() }
    /// The digest that the body must have; `None` only where there is no body.
    #[must_use]
    pub fn content_digest(&self) -> Option<&ContentDigest> { unimplemented!() }
}
/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// stub
    #[error("stub")]
    Stub,
}
impl Refusal {
    /// The stable code, `AUTH_…`.
    #[must_use]
    pub fn code(&self) -> &'static str { unimplemented!() }
    /// The reason, `SIG_…`, where the code has one.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> { unimplemented!() }
}
/// Checks rows 1 to 9 of the verification order, in that order.
///
/// # Errors
/// The first row that does not hold.
pub fn verify(_message: &Message<'_>, _freshness: Freshness, _now: UnixTime, _certificates: &dyn Certificates) -> Result<VerifiedSignature, Refusal> { unimplemented!() }
