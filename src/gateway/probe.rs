//! Health probes: each endpoint is asked by its own name, with what the connection's TLS shows and trusts.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use pingora_core::upstreams::peer::PeerOptions;
use pingora_core::utils::tls::CertKey;
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck as Check, HttpHealthCheck};

use super::resolver::{EndpointFacts, server_name};
use crate::connections::{BaseUrl, Connection, HealthCheck};

/// The probes of one connection's endpoints.
pub(super) struct Probe {
    by_authority: HashMap<HeaderValue, HttpHealthCheck>,
    healthy: usize,
    unhealthy: usize,
}

impl Probe {
    pub(super) fn new(
        check: &HealthCheck,
        config: &Connection,
        options: &PeerOptions,
        client_cert: Option<&Arc<CertKey>>,
    ) -> Self {
        let of_endpoint = |url: &BaseUrl| {
            let authority = HeaderValue::try_from(url.authority()).ok()?;
            let mut probe = probe(check, url, config.tls.server_name.as_deref());
            probe.peer_template.options.ca = options.ca.clone();
            probe.peer_template.client_cert_key = client_cert.cloned();
            Some((authority, probe))
        };
        let by_authority = config.endpoints.iter().filter_map(|endpoint| of_endpoint(&endpoint.url));
        Self { by_authority: by_authority.collect(), healthy: check.healthy, unhealthy: check.unhealthy }
    }
}

#[async_trait]
impl Check for Probe {
    async fn check(&self, target: &Backend) -> Result<()> {
        let facts = target.ext.get::<Arc<EndpointFacts>>();
        match facts.and_then(|facts| self.by_authority.get(&facts.authority)) {
            Some(probe) => probe.check(target).await,
            None => Error::e_explain(ErrorType::InternalError, "an endpoint without a probe"),
        }
    }

    fn health_threshold(&self, success: bool) -> usize {
        if success { self.healthy } else { self.unhealthy }
    }
}

fn probe(check: &HealthCheck, url: &BaseUrl, configured_name: Option<&str>) -> HttpHealthCheck {
    let mut probe = HttpHealthCheck::new(&url.authority(), url.is_https());
    probe.peer_template.sni = if url.is_https() { server_name(url, configured_name) } else { String::new() };
    probe.reuse_connection = true;
    // The path was parsed by the configuration; one that is refused here leaves `/`.
    let _ = probe.req.set_raw_path(check.path.as_bytes());
    probe.validator = Some(Box::new(|head| {
        if head.status.is_success() {
            Ok(())
        } else {
            Error::e_explain(ErrorType::HTTPStatus(head.status.as_u16()), "health check")
        }
    }));
    probe
}
