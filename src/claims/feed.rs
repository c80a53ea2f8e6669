//! The polled feed of approved claims.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, StatusCode};
use tokio::sync::watch;

use super::control_plane::{CallFault, ControlPlane};
use super::index::{ClaimsIndex, FeedFailure};
use super::page::{EntryFault, Page, error_code};
use crate::clock::Clock;
use crate::connections::SecretSource;
use crate::names::ConnectionId;
use crate::policy::Claim;
use crate::protocol::Identity;
use crate::telemetry::Metrics;

/// Where approved claims are read from.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// The control plane's base URL.
    pub url: url::Url,
    /// The services to ask for: the ids of the connections.
    pub services: Vec<ConnectionId>,
    /// The service API key, sent as bearer.
    pub service_api_key: SecretSource,
    /// Keys of single services, which go before the one above.
    pub service_api_keys: HashMap<ConnectionId, SecretSource>,
    /// How often it is asked.
    pub refresh: Duration,
    /// How old the last good state may become before requests are refused.
    pub max_staleness: Duration,
    /// Claims held at the most, of all services together (`GATEWAY_CLAIMS_CACHE_MAX_APPROVED`); `None`: ten
    /// million. A feed that has more is not taken at all.
    pub max_entries: Option<usize>,
}

/// Why a reading of the feed failed. The last good one stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedFault {
    /// The control plane could not be asked.
    #[error(transparent)]
    Call(#[from] CallFault),
    /// It answers with another status than 200.
    #[error("the control plane answers {status}{} for the claims of {service}", Code(.code.as_deref()))]
    Status {
        /// The service asked for.
        service: ConnectionId,
        /// The status.
        status: StatusCode,
        /// The code of its error envelope.
        code: Option<String>,
    },
    /// It answers 200, and not with a page of claims.
    #[error(
        "the control plane's page of claims of {service} is not what it should be, at line {line}, column {column}"
    )]
    Unreadable {
        /// The service asked for.
        service: ConnectionId,
        /// The line of the JSON text, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// More pages are announced, and the next one does not go on where the last one ended.
    #[error("the control plane's pages of claims of {service} do not go on at offset {offset}")]
    NoProgress {
        /// The service asked for.
        service: ConnectionId,
        /// Where the page should have begun.
        offset: usize,
    },
    /// More claims than may be held.
    #[error(
        "there are more than {most} approved claims; raise GATEWAY_CLAIMS_CACHE_MAX_APPROVED or ask for fewer services"
    )]
    TooMany {
        /// The limit.
        most: usize,
    },
}

struct Code<'a>(Option<&'a str>);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " {code}"))
    }
}

impl FeedFault {
    /// Whether the control plane is out of reach or in trouble, or refuses and cannot be understood.
    #[must_use]
    pub fn failure(&self) -> FeedFailure {
        let passing =
            |status: StatusCode| status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        match self {
            Self::Call(CallFault::Unreachable { .. }) => FeedFailure::Unreachable,
            Self::Status { status, .. } if passing(*status) => FeedFailure::Unreachable,
            _ => FeedFailure::Refused,
        }
    }
}

/// Claims in one page, as many as the field's control planes give.
const PAGE: usize = 500;
/// Services asked for at the same time.
const AT_ONCE: usize = 4;
/// Where the configuration sets no limit.
const MOST_CLAIMS: usize = 10_000_000;
/// The first pause after a failure, unless the refresh is shorter; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures, unless the refresh is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Reads the approved claims of all services again and again, and puts each whole good reading into the index.
pub struct Feed {
    control_plane: ControlPlane,
    services: Vec<ConnectionId>,
    refresh: Duration,
    most: usize,
    index: Arc<ClaimsIndex>,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Claims of the last reading that could not be understood.
    left_out: AtomicUsize,
}

impl Feed {
    /// A feed that has not asked yet.
    ///
    /// # Errors
    /// When the URL is no base URL, or the system has no roots of trust for HTTPS.
    pub fn new(
        config: FeedConfig,
        index: Arc<ClaimsIndex>,
        identity: Arc<Identity>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, FeedFault> {
        let FeedConfig { url, service_api_key, service_api_keys, .. } = config;
        Ok(Self {
            control_plane: ControlPlane::new(
                url,
                service_api_key,
                service_api_keys,
                identity,
                clock.clone(),
            )?,
            services: config.services,
            refresh: config.refresh,
            most: config.max_entries.unwrap_or(MOST_CLAIMS),
            index,
            metrics,
            clock,
            left_out: AtomicUsize::new(0),
        })
    }

    /// Polls until `shutdown` holds `true` or its sender is gone. Logs when the control plane goes out of reach
    /// and when it comes back, not each failure between.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let polling = async {
            let mut health = Health::default();
            loop {
                health.note(self.poll().await);
                tokio::time::sleep(self.pause(health.failures)).await;
            }
        };
        tokio::select! {
            () = polling => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }

    /// Reads the claims of all services once. Only when all were read wholly does the index change.
    ///
    /// # Errors
    /// The first fault; the index remembers of which kind it was.
    pub async fn poll(&self) -> Result<(), FeedFault> {
        let begun = self.clock.now();
        let outcome = self.read_all().await;
        let result = match outcome {
            Ok(claims) => {
                self.index.replace_feed(claims, begun);
                Ok(())
            }
            Err(fault) => {
                self.index.feed_failed(fault.failure());
                Err(fault)
            }
        };
        let state = self.index.state(self.clock.now());
        self.metrics.claims(state.age, state.entries);
        result
    }

    async fn read_all(&self) -> Result<Vec<Claim>, FeedFault> {
        // Collected first: a stream that holds the closure is not `Send` for all lifetimes.
        let readings: Vec<_> = self.services.iter().map(|service| self.read(service)).collect();
        let mut readings = futures::stream::iter(readings).buffer_unordered(AT_ONCE);
        let (mut claims, mut left_out, mut example) = (Vec::new(), 0, None);
        while let Some(reading) = readings.try_next().await? {
            claims.extend(reading.claims);
            left_out += reading.left_out;
            example = example.or(reading.example);
            if claims.len() > self.most {
                return Err(FeedFault::TooMany { most: self.most });
            }
        }
        if self.left_out.swap(left_out, Ordering::Relaxed) != left_out {
            match example {
                Some(fault) => {
                    tracing::warn!(left_out, %fault, "claims that cannot be understood are left out")
                }
                None => tracing::info!("all claims are understood again"),
            }
        }
        Ok(claims)
    }

    /// Reads the claims of one service, once more if they changed meanwhile: pages by offset may then have
    /// skipped one. What changes even during the second reading is found by the next poll.
    async fn read(&self, service: &ConnectionId) -> Result<Reading, FeedFault> {
        let bearer = self.control_plane.bearer(service).await?;
        let first = self.read_pages(service, &bearer).await?;
        if first.steady { Ok(first) } else { self.read_pages(service, &bearer).await }
    }

    async fn read_pages(&self, service: &ConnectionId, bearer: &HeaderValue) -> Result<Reading, FeedFault> {
        let mut reading = Reading { claims: Vec::new(), left_out: 0, example: None, steady: true };
        let (mut offset, mut first_state, mut last_beginning) = (0, None, None);
        loop {
            let page = self.read_page(service, offset, bearer).await?;
            let stuck = || FeedFault::NoProgress { service: service.clone(), offset };
            if page.pagination.offset.is_some_and(|given| given != offset) {
                return Err(stuck());
            }
            let state = page.state();
            reading.steady &= *first_state.get_or_insert_with(|| state.clone()) == state;
            let beginning = page.beginning();
            if page.pagination.has_more && (page.claims.is_empty() || beginning == last_beginning) {
                return Err(stuck());
            }
            (last_beginning, offset) = (beginning, offset + page.claims.len());
            if offset > self.most {
                return Err(FeedFault::TooMany { most: self.most });
            }
            let has_more = page.pagination.has_more;
            reading.take(page, service);
            if !has_more {
                return Ok(reading);
            }
        }
    }

    async fn read_page(
        &self,
        service: &ConnectionId,
        offset: usize,
        bearer: &HeaderValue,
    ) -> Result<Page, FeedFault> {
        let query = format!("service={service}&limit={PAGE}&offset={offset}");
        let answer = self.control_plane.get("/v1/namespaces/claims", &query, bearer).await?;
        if answer.status != StatusCode::OK {
            let (service, status) = (service.clone(), answer.status);
            return Err(FeedFault::Status { service, status, code: error_code(&answer.body) });
        }
        serde_json::from_slice(&answer.body).map_err(|error| FeedFault::Unreadable {
            service: service.clone(),
            line: error.line(),
            column: error.column(),
        })
    }

    fn pause(&self, failures: u32) -> Duration {
        let pause = match failures.checked_sub(1) {
            None => self.refresh,
            Some(earlier) => FIRST_PAUSE
                .min(self.refresh)
                .saturating_mul(2_u32.saturating_pow(earlier))
                .min(LONGEST_PAUSE.max(self.refresh)),
        };
        pause.saturating_sub(pause.mul_f64(0.1 * fraction()))
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("services", &self.services)
            .field("refresh", &self.refresh)
            .finish_non_exhaustive()
    }
}

/// The claims of one service.
struct Reading {
    claims: Vec<Claim>,
    left_out: usize,
    /// Why the first of these was.
    example: Option<EntryFault>,
    /// Whether all pages show the same state of the control plane.
    steady: bool,
}

impl Reading {
    fn take(&mut self, page: Page, service: &ConnectionId) {
        for entry in page.claims {
            match entry.into_claim(service) {
                Ok(claim) => self.claims.extend(claim),
                Err(fault) => {
                    self.left_out += 1;
                    self.example.get_or_insert(fault);
                }
            }
        }
    }
}

/// How the polls went lately; logs when that changes.
#[derive(Default)]
struct Health {
    /// In a row.
    failures: u32,
    last: Option<FeedFailure>,
}

impl Health {
    fn note(&mut self, outcome: Result<(), FeedFault>) {
        let last = outcome.as_ref().err().map(FeedFault::failure);
        match &outcome {
            Ok(()) if self.last.is_some() => {
                tracing::info!(failures = self.failures, "approved claims are received again");
            }
            Err(fault) if self.last != last => {
                tracing::warn!(%fault, "approved claims are not received; the last ones serve until they are too old");
            }
            _ => {}
        }
        self.failures = if outcome.is_ok() { 0 } else { self.failures.saturating_add(1) };
        self.last = last;
    }
}

/// From 0 to 1, at random, so that many gateways do not ask at the same moment; 0 if there is no randomness.
fn fraction() -> f64 {
    let mut random = [0_u8; 4];
    if getrandom::fill(&mut random).is_err() {
        return 0.0;
    }
    f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX)
}
