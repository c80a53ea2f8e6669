//! A claim, and the decision that it carries.

use std::sync::Arc;

use super::Scopes;
use crate::clock::UnixTime;
use crate::names::{ClaimId, ConnectionId, Namespace};
use crate::protocol::{PublicKey, VerifiedSignature};

/// An approved claim: this key of this namespace may use this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The control plane's id, or `static` for a claim of the configuration.
    pub id: ClaimId,
    /// The agent's namespace.
    pub namespace: Namespace,
    /// The agent's key.
    pub public_key: PublicKey,
    /// The service: the id of the connection it opens.
    pub service: ConnectionId,
    /// From when on it no longer holds; `None`: it has no end.
    pub expires_at: Option<UnixTime>,
    /// What it allows there.
    pub scopes: Scopes,
}

/// Proof that [`authorize`] allowed this request. Only it makes one.
#[derive(Debug)]
pub struct Permit {
    claim: Arc<Claim>,
}

impl Permit {
    /// The claim that allowed it.
    #[must_use]
    pub fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }
}

/// Why a verified request is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No approved claim for (namespace, key, service), or one that has ended.
    #[error(
        "this agent key has no approved claim on this service; ask the owner of the namespace to approve it"
    )]
    ClaimRequired,
    /// The claim's scopes do not cover the request.
    #[error(
        "the claim of this agent key does not cover this method and path; ask the owner of the namespace for a wider scope"
    )]
    ScopeDenied,
}

/// Decides whether `claim`, found for the verified key and `service`, allows this request.
///
/// # Errors
/// When there is no claim, it is another's, it has ended, or its scopes do not cover the request.
pub fn authorize(
    verified: &VerifiedSignature,
    service: &ConnectionId,
    claim: Option<Arc<Claim>>,
    method: &str,
    upstream_path: &str,
    now: UnixTime,
) -> Result<Permit, Denied> {
    let agent = verified.agent();
    let claim = claim
        .filter(|claim| {
            claim.namespace == agent.namespace
                && claim.public_key == agent.public_key
                && claim.service == *service
                && claim.expires_at.is_none_or(|end| now < end)
        })
        .ok_or(Denied::ClaimRequired)?;
    if claim.scopes.cover(method, upstream_path) { Ok(Permit { claim }) } else { Err(Denied::ScopeDenied) }
}
