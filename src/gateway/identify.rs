//! Second stage: who signed this request? Proven certificates are kept, so that each is proven once.

use std::sync::Arc;

use pingora_proxy::Session;
use quick_cache::sync::Cache;

use super::accept::Message;
use super::proxy::Gateway;
use super::refusal::Refusal;
use crate::clock::UnixTime;
use crate::protocol::{self, Agent, CertificateFault, Certificates, Uncached, VerifiedSignature};

/// Certificates kept at the most; the least used make room.
const KEPT: usize = 16_384;

pub(super) fn identify(
    gateway: &Gateway,
    session: &Session,
    message: &Message,
    now: UnixTime,
) -> Result<VerifiedSignature, Refusal> {
    let request = session.req_header();
    let message = protocol::Message {
        method: request.method.as_str(),
        target_uri: &message.target_uri,
        headers: &request.headers,
        has_body: message.has_body,
    };
    Ok(protocol::verify(&message, gateway.freshness(), now, gateway.certificates())?)
}

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
        self.0.insert(header.into(), Arc::clone(&agent));
        Ok(agent)
    }
}
