//! What is known about one request so far.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::Body;
use super::limits::Slots;
use super::provider::Provider;
use super::reflect::BodyGuard;
use super::refusal::Refusal;
use super::reject::{About, Verdict};
use crate::clock::{Clock, UnixTime};
use crate::connections::Credential;
use crate::names::RequestId;
use crate::policy::Permit;
use crate::protocol::VerifiedSignature;

/// One request, from its head to its record. Each stage adds what it proved.
#[derive(Debug)]
pub(super) struct Exchange {
    request_id: RequestId,
    received: UnixTime,
    started: Instant,
    pub(super) client: Option<IpAddr>,
    pub(super) route: Option<Route>,
    pub(super) verified: Option<VerifiedSignature>,
    pub(super) permit: Option<Permit>,
    pub(super) body: Body,
    pub(super) slots: Slots,
    pub(super) times: Times,
    /// The endpoint of the present attempt.
    pub(super) endpoint: Option<Arc<super::resolver::EndpointFacts>>,
    pub(super) attempts: usize,
    /// The credential that the present attempt carries.
    pub(super) injected: Option<Arc<Credential>>,
    /// Watches the answer's body for it.
    pub(super) reflected: Option<BodyGuard>,
    /// Set by a stage that must end a running exchange; `fail` answers with it.
    pub(super) fault: Option<Refusal>,
    /// The answer, where it was ours.
    refused: Option<(Verdict, Option<&'static str>)>,
    /// Answered by the gateway itself (health, metrics).
    pub(super) local: bool,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) provider: Arc<Provider>,
    /// Path and query at the upstream, without any secret.
    pub(super) target: String,
}

impl Route {
    /// The upstream path without query.
    pub(super) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// When what happened, as far as it did.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Waiting for the client's body before the upstream was contacted.
    pub(super) body_wait: Duration,
    /// The first attempt towards the upstream began.
    pub(super) upstream_began: Option<Instant>,
    /// The head of the upstream's answer was there.
    pub(super) upstream_head: Option<Instant>,
    /// The last part of the upstream's answer was there.
    pub(super) upstream_last: Option<Instant>,
}

impl Exchange {
    pub(super) fn begin(clock: &Clock, client: Option<IpAddr>) -> Self {
        Self {
            request_id: random_id(),
            received: clock.now(),
            started: clock.instant(),
            client,
            route: None,
            verified: None,
            permit: None,
            body: Body::Absent,
            slots: Slots::default(),
            times: Times::default(),
            endpoint: None,
            attempts: 0,
            injected: None,
            reflected: None,
            fault: None,
            refused: None,
            local: false,
        }
    }

    pub(super) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Takes the client's id over where it has the form of one.
    pub(super) fn identify_request(&mut self, header: Option<&http::HeaderValue>) {
        if let Some(id) = header.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok()) {
            self.request_id = id;
        }
    }

    /// When the request's head was read.
    pub(super) fn received(&self) -> UnixTime {
        self.received
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn connection_id(&self) -> Option<&str> {
        self.route.as_ref().map(|route| route.provider.config().id.as_str())
    }

    /// What a refusal says of this request.
    pub(super) fn about(&self) -> About<'_> {
        About {
            request_id: &self.request_id,
            received: self.received,
            connection: self.connection_id().unwrap_or_default(),
        }
    }

    pub(super) fn refused(&mut self, refusal: Refusal, verdict: Verdict) {
        let class = match refusal {
            Refusal::Upstream(fault) => Some(fault.class()),
            Refusal::UpstreamTimeout => Some("timeout"),
            Refusal::UpstreamUnavailable => Some("unavailable"),
            _ => None,
        };
        self.refused = Some((verdict, class));
    }

    /// The verdict that was answered, where it was a refusal.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.refused.map(|(verdict, _)| verdict)
    }

    /// The class of the upstream's fault, where there was one.
    pub(super) fn upstream_fault(&self) -> Option<&'static str> {
        self.refused.and_then(|(_, class)| class)
    }
}

fn random_id() -> RequestId {
    let mut bytes = [0_u8; 16];
    // Only a log's reader would miss the randomness: an id of zeros still answers.
    let _ = getrandom::fill(&mut bytes);
    RequestId::from_random(bytes)
}
