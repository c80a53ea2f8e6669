//! The data plane's own state: what every stage reads.

use std::sync::Arc;

use ipnet::IpNet;

use super::certificates::ProvenCertificates;
use super::exchange::RequestIds;
use super::handles::{AdminDoor, Handles};
use super::limits::NamespaceGates;
use super::open::OpenExchanges;
use super::provider::Provider;
use super::refusal::Refusal;
use super::routes::Routes;
use super::settings::GatewayConfig;
use crate::claims::{ClaimsIndex, Lookup, Registrar};
use crate::clock::{Clock, UnixTime};
use crate::policy::Claim;
use crate::protocol::{Certificates, Freshness};
use crate::replay::MemoryStore;
use crate::telemetry::{DecisionLog, InFlight, Metrics};
use crate::usage::Usage;

/// The data plane. Clones share everything.
#[derive(Clone)]
pub(super) struct Gateway(Arc<Inner>);

struct Inner {
    config: GatewayConfig,
    handles: Handles,
    routes: Routes,
    request_ids: RequestIds,
    certificates: ProvenCertificates,
    namespaces: NamespaceGates,
}

impl Gateway {
    pub(super) fn new(config: GatewayConfig, handles: Handles, routes: Routes) -> Self {
        let namespaces = NamespaceGates::new(config.limits.per_namespace);
        Self(Arc::new(Inner {
            config,
            handles,
            routes,
            request_ids: RequestIds::new(),
            certificates: ProvenCertificates::new(),
            namespaces,
        }))
    }

    pub(super) fn config(&self) -> &GatewayConfig {
        &self.0.config
    }

    pub(super) fn request_ids(&self) -> &RequestIds {
        &self.0.request_ids
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.handles.clock
    }

    pub(super) fn claims(&self) -> &ClaimsIndex {
        &self.0.handles.claims
    }

    /// The exchanges that run under claims.
    pub(super) fn open_exchanges(&self) -> &OpenExchanges {
        &self.0.handles.open
    }

    /// Where the control plane is told what agents did, where it is.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.0.handles.usage.as_ref()
    }

    pub(super) fn registrar(&self) -> Option<&Registrar> {
        self.0.handles.registrar.as_deref()
    }

    pub(super) fn replay(&self) -> &MemoryStore {
        &self.0.handles.replay
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.handles.metrics
    }

    pub(super) fn decisions(&self) -> &DecisionLog {
        &self.0.handles.decisions
    }

    /// Why the gateway is not ready, where it is not.
    pub(super) fn ready(&self) -> Result<(), &'static str> {
        (self.0.handles.ready)()
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.0.config.freshness
    }

    pub(super) fn certificates(&self) -> &dyn Certificates {
        &self.0.certificates
    }

    pub(super) fn namespaces(&self) -> &NamespaceGates {
        &self.0.namespaces
    }

    pub(super) fn trusted_proxies(&self) -> &[IpNet] {
        &self.0.config.trusted_proxies
    }

    /// Where the data port hands admin requests to, where it does.
    pub(super) fn admin(&self) -> Option<&AdminDoor> {
        self.0.handles.admin.as_ref()
    }

    pub(super) fn provider(&self, id: &str) -> Option<Arc<Provider>> {
        self.0.routes.get(id)
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.0.routes
    }

    /// The claim that allows at `now` what `claim` did: the same one where it was only prolonged, or another one of the
    /// same agent. One with other scopes does not: what runs is to be asked for again, and judged by them.
    pub(super) fn standing(&self, claim: &Claim, now: UnixTime) -> Option<Arc<Claim>> {
        let stands =
            |found: &Arc<Claim>| found.scopes == claim.scopes && found.expires_at.is_none_or(|end| now < end);
        match self.claims().lookup(&claim.namespace, &claim.public_key, &claim.service, now) {
            Lookup::Found(found) => Some(found).filter(stands),
            _ => None,
        }
    }

    /// Counts a request in, where the limit leaves room.
    pub(super) fn enter(&self) -> Result<InFlight, Refusal> {
        let guard = self.metrics().in_flight();
        if self.metrics().requests_in_flight() > self.0.config.limits.requests_in_flight as u64 {
            return Err(Refusal::Overloaded);
        }
        Ok(guard)
    }
}
