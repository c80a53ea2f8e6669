//! Proven certificates, kept so that each is proven once.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::clock::UnixTime;
use crate::protocol::{Agent, CertificateFault, Certificates, Uncached};

/// Certificates kept at the most; the least used make room.
const KEPT: usize = 16_384;
/// A larger one is proven each time: anybody can make certificates, and those kept must not fill the memory.
const KEPT_BYTES: usize = 2_048;

/// Certificates whose proof held, by their exact header value.
pub(super) struct ProvenCertificates(Cache<Box<str>, Arc<Agent>>);

impl ProvenCertificates {
    pub(super) fn new() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Certificates for ProvenCertificates {
    fn prove(&self, header: &str, now: UnixTime) -> Result<Arc<Agent>, CertificateFault> {
        if let Some(agent) = self.0.get(header) {
            return if agent.expires_at.is_none_or(|end| now < end) {
                Ok(agent)
            } else {
                Err(CertificateFault::Expired)
            };
        }
        let agent = Uncached.prove(header, now)?;
        if header.len() <= KEPT_BYTES {
            self.0.insert(header.into(), Arc::clone(&agent));
        }
        Ok(agent)
    }
}
