//! Agent certificates.
use std::sync::Arc;
use crate::clock::UnixTime;
use crate::names::Namespace;
use super::{KeyId, PublicKey};

/// A parsed certificate, not yet proven.
#[derive(Debug, Clone)]
pub struct Certificate { _private: () }

/// What is wrong with a certificate (of spec: SIG_CERT_HEADER_INVALID, SIG_CERT_INVALID, SIG_CERT_EXPIRED).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// The header is not base64url of a certificate's JSON.
    #[error("stub")]
    Unreadable,
    /// Its parts disagree or the proof is wrong.
    #[error("stub")]
    Invalid,
    /// It is past its `expiresAt`.
    #[error("stub")]
    Expired,
}

/// An agent whose certificate has been proven: it holds the private key of `public_key` and names itself
/// `namespace`. That is possession, not authority.
#[derive(Debug)]
pub struct Agent {
    /// stub
    pub namespace: Namespace,
    /// stub
    pub public_key: PublicKey,
    /// stub
    pub key_id: KeyId,
    /// stub
    pub expires_at: Option<UnixTime>,
}
impl Agent {
    /// Verifies an Ed25519 signature of this agent, strictly (RFC 8032).
    #[must_use]
    pub fn signed(&self, _message: &[u8], _signature: &[u8; 64]) -> bool { unimplemented!() }
}

/// Where proven certificates come from: made anew each time, or a cache.
pub trait Certificates: Send + Sync {
    /// Parses and proves the value of `sigilum-agent-cert`; refuses an expired one at `now`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn prove(&self, header: &str, now: UnixTime) -> Result<Arc<Agent>, CertificateFault>;
}

/// Proves every certificate anew.
#[derive(Debug, Default, Clone, Copy)]
pub struct Uncached;
impl Certificates for Uncached {
    fn prove(&self, _header: &str, _now: UnixTime) -> Result<Arc<Agent>, CertificateFault> { unimplemented!() }
}
