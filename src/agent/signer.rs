//! Signs requests as one identity, each with a nonce and a moment of its own.

use crate::clock::Clock;
use crate::names::hex;
use crate::protocol::{ContentDigest, Identity, SignFault, SignedHeaders, Unsigned, sign};

/// An identity, who it acts for, and where its time comes from.
pub struct Signer {
    identity: Identity,
    subject: Option<String>,
    agent_id: Option<String>,
    clock: Clock,
}

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerFault {
    /// The system gave no randomness for the nonce.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A part of it cannot stand in a signed request.
    #[error(transparent)]
    Sign(#[from] SignFault),
}

impl Signer {
    /// Signs as `identity`, on behalf of `subject` (the namespace where `None`), under the agent's name `agent_id`.
    ///
    /// # Errors
    /// When subject or name cannot stand in a signed request, so that it is known before the first one.
    pub fn new(
        identity: Identity,
        subject: Option<String>,
        agent_id: Option<String>,
        clock: Clock,
    ) -> Result<Self, SignerFault> {
        let signer = Self { identity, subject, agent_id, clock };
        signer.sign("GET", "http://localhost/", &[])?;
        Ok(signer)
    }

    /// The identity that signs.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The `sigilum-subject` that is sent.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or_else(|| self.identity.namespace().as_str())
    }

    /// The headers that sign `method` on the absolute `uri`; an empty body is none (RFC 9530 digest left out).
    ///
    /// # Errors
    /// When a part cannot stand in a signed request, or there is no randomness.
    pub fn sign(&self, method: &str, uri: &str, body: &[u8]) -> Result<SignedHeaders, SignerFault> {
        let headers = sign(
            &self.identity,
            &Unsigned {
                method,
                uri,
                content_digest: (!body.is_empty()).then(|| ContentDigest::of(body)),
                subject: self.subject.as_deref(),
                agent_id: self.agent_id.as_deref(),
                nonce: &nonce()?,
                now: self.clock.now(),
            },
        )?;
        Ok(headers)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key_id", self.identity.key_id()).finish_non_exhaustive()
    }
}

/// 128 random bits as 32 hexadecimal digits.
fn nonce() -> Result<String, SignerFault> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(SignerFault::Random)?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_differ_and_have_128_bits() {
        let (one, other) = (nonce().unwrap(), nonce().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
