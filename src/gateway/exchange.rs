//! What is known about one request so far.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use super::body::Body;
use super::limits::Slots;
use super::line::Line;
use super::provider::Provider;
use super::reflect::BodyGuard;
use super::refusal::Refusal;
use super::reject::{About, Verdict};
use super::remains::{Ending, Remains};
use crate::clock::{Clock, UnixTime};
use crate::connections::{Credential, Sending};
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
    pub(super) method: Method,
    pub(super) route: Option<Arc<Route>>,
    /// Where it is cut when its claim is withdrawn.
    pub(super) line: Option<Arc<Line>>,
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
    /// Held until the head with it is written, so that whoever replaces the secret can wait for that.
    pub(super) sending: Option<Sending>,
    /// Since when the secret is due to be replaced, where the client is told.
    pub(super) rotation_due: Option<UnixTime>,
    /// Watches the answer's body for it.
    pub(super) reflected: Option<BodyGuard>,
    /// The status of the upstream's answer, and how many bytes of its body came.
    pub(super) status: Option<StatusCode>,
    pub(super) response_bytes: u64,
    /// Set by a stage that must end a running exchange; `fail` answers with it.
    pub(super) fault: Option<Refusal>,
    /// The answer, where it was ours.
    refused: Option<(Verdict, Option<&'static str>)>,
    /// Answered by the gateway itself (health, metrics).
    pub(super) local: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) provider: Arc<Provider>,
    /// Path and query at the upstream, without any secret.
    pub(super) target: String,
    /// Where in `target` the base path and the prefix end.
    pub(super) rest_at: usize,
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
    pub(super) fn begin(clock: &Clock, ids: &RequestIds, client: Option<IpAddr>) -> Self {
        Self {
            request_id: ids.next(),
            received: clock.now(),
            started: clock.instant(),
            client,
            method: Method::GET,
            route: None,
            line: None,
            verified: None,
            permit: None,
            body: Body::Absent,
            slots: Slots::default(),
            times: Times::default(),
            endpoint: None,
            attempts: 0,
            injected: None,
            sending: None,
            rotation_due: None,
            reflected: None,
            status: None,
            response_bytes: 0,
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

    fn remains(&mut self, ending: Ending) -> Remains {
        Remains {
            ending,
            request_id: self.request_id.clone(),
            received: self.received,
            started: self.started,
            client: self.client,
            connection: self.route.as_ref().map(|route| route.provider.config().id.clone()),
            claim: self.permit.as_ref().map(|permit| Arc::clone(permit.claim())),
            verified: self.verified.take(),
            method: self.method.clone(),
            path: self.route.as_ref().map_or_else(String::new, |route| route.path().to_owned()),
            verdict: self.verdict(),
            status: self.status,
            upstream_began: self.times.upstream_began,
            upstream_head: self.times.upstream_head,
            upstream_last: self.times.upstream_last,
            request_bytes: self.body.bytes(),
            response_bytes: self.response_bytes,
        }
    }

    /// The class of the upstream's fault, where there was one.
    pub(super) fn upstream_fault(&self) -> Option<&'static str> {
        self.refused.and_then(|(_, class)| class)
    }
}

/// An exchange that is dropped before it was recorded was cut, or it panicked.
impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        match line.ending() {
            Some(ending) => line.leave_remains(self.remains(ending)),
            None => line.leave(),
        }
    }
}

/// Makes request ids: 64 random bits of this process, and a number.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: [u8; 8],
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let mut process = [0_u8; 8];
        // Only a log's reader would miss the randomness: ids that begin with zeros still tell requests apart.
        let _ = getrandom::fill(&mut process);
        Self { process, next: AtomicU64::new(1) }
    }

    fn next(&self) -> RequestId {
        let mut bytes = [0_u8; 16];
        let (process, number) = bytes.split_at_mut(8);
        process.copy_from_slice(&self.process);
        number.copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        RequestId::from_random(bytes)
    }
}
