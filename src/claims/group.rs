//! One group of services that one key opens: their stream, or their polls.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::events::{Arrived, CaughtUp, Event, Events};
use super::fault::FeedFault;
use super::feed::{Desk, FeedSource};
use super::index::Delta;
use super::page::Cursor;
use super::pauses::{Pauses, fraction};
use super::state::{ClaimsSource, FeedFailure};
use crate::clock::UnixTime;
use crate::names::{ClaimId, ConnectionId};
use crate::policy::Claim;

/// A control plane without a stream is asked for one again after this.
const STREAM_AGAIN: Duration = Duration::from_secs(600);
/// The first pause of polls after a failure, unless the refresh is shorter; it doubles with each further one. A service
/// that is refused is asked for again likewise.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of polls after failures, unless the refresh is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The task of one group.
pub(super) struct Group {
    desk: Arc<Desk>,
    services: watch::Receiver<Vec<ConnectionId>>,
    /// Up to where the index holds what the feed says.
    cursor: Option<Cursor>,
    live: Option<Events>,
    /// Services whose pages the control plane does not give, while it gives those of others.
    aside: HashMap<ConnectionId, Aside>,
    /// Until then there is no stream to be had.
    polls_until: Option<Instant>,
    pauses: Pauses,
    health: Health,
}

#[derive(Clone, Copy)]
struct Aside {
    tries: u32,
    until: Instant,
}

/// How a round went that did not fail.
enum Round {
    /// There is more to do at once.
    Again,
    /// All services were polled.
    Polled,
}

/// Pages that were read, to be put into the index when the stream has caught up with them.
#[derive(Default)]
struct Snapshot {
    services: Vec<ConnectionId>,
    claims: HashMap<ClaimId, Claim>,
    /// Where the feed stood before any of it was read.
    cursor: Option<Cursor>,
    begun: Option<UnixTime>,
}

impl Group {
    pub(super) fn new(desk: Arc<Desk>, services: watch::Receiver<Vec<ConnectionId>>) -> Self {
        Self {
            desk,
            services,
            cursor: None,
            live: None,
            aside: HashMap::new(),
            polls_until: None,
            pauses: Pauses::default(),
            health: Health::default(),
        }
    }

    /// Works until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            let services = self.services.borrow_and_update().clone();
            let outcome = self.round(&services).await;
            let pause = self.note(&services, outcome);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.services.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn round(&mut self, services: &[ConnectionId]) -> Result<Round, FeedFault> {
        let now = self.desk.clock.instant();
        if self.desk.source == FeedSource::Poll || self.polls_until.is_some_and(|until| now < until) {
            return self.desk.poll(services).await.map(|()| Round::Polled);
        }
        self.polls_until = None;
        self.stream(services, now).await
    }

    /// Reads the pages of services that have none yet, opens a stream with them, and follows it until the services
    /// change. The stream that is open meanwhile is followed too.
    async fn stream(&mut self, services: &[ConnectionId], now: Instant) -> Result<Round, FeedFault> {
        // Older than every page that is read now: what changes from here on comes by the next stream.
        let since = self.cursor.clone();
        self.aside.retain(|service, _| services.contains(service));
        if self.live.is_none() && services.iter().all(|service| self.is_aside(service, now)) {
            self.aside.clear();
        }
        let asked: Vec<_> = services.iter().filter(|service| !self.is_aside(service, now)).cloned().collect();
        let missing =
            asked.iter().filter(|service| since.is_none() || !self.desk.index.has_received(service)).cloned();
        let missing: Vec<_> = missing.collect();
        let snapshot = self.read(&missing, missing.len() == asked.len()).await?;
        let failed: HashSet<_> =
            missing.iter().filter(|service| !snapshot.services.contains(service)).collect();
        let joined: Vec<_> = asked.iter().filter(|service| !failed.contains(service)).cloned().collect();
        if joined.is_empty() {
            self.live = None;
            return Ok(Round::Again);
        }
        let open = self.live.as_ref().is_some_and(|live| live.services() == joined);
        if (!open || !snapshot.services.is_empty()) && !self.join(joined, since, snapshot).await? {
            return Ok(Round::Polled);
        }
        self.follow().await
    }

    /// Reads the pages of these services. Those that are refused while others are not are put aside; `all`: there are no
    /// others.
    ///
    /// # Errors
    /// When not one can be followed.
    async fn read(&mut self, missing: &[ConnectionId], all: bool) -> Result<Snapshot, FeedFault> {
        let mut snapshot = Snapshot { begun: Some(self.desk.clock.now()), ..Snapshot::default() };
        if missing.is_empty() {
            return Ok(snapshot);
        }
        let desk = Arc::clone(&self.desk);
        let readings = self.meanwhile(async { desk.reader.read_each(missing).await }).await;
        let mut faults = Vec::new();
        for (service, reading) in readings {
            match reading {
                Ok(reading) => {
                    self.desk.note_left_out(&service, &reading);
                    self.aside.remove(&service);
                    snapshot.cursor = snapshot.cursor.or(reading.cursor);
                    snapshot.claims.extend(reading.claims.into_iter().map(|claim| (claim.id.clone(), claim)));
                    snapshot.services.push(service);
                }
                Err(fault) => faults.push((service, fault)),
            }
        }
        if !(all && snapshot.services.is_empty()) {
            faults.iter().for_each(|(service, fault)| self.put_aside(service, fault));
            return Ok(snapshot);
        }
        for (service, fault) in &faults {
            self.desk.failed(std::slice::from_ref(service), fault);
        }
        // Every service is among them, and there is one at least.
        faults.into_iter().next().map_or(Ok(snapshot), |(_, fault)| Err(fault))
    }

    fn is_aside(&self, service: &ConnectionId, now: Instant) -> bool {
        self.aside.get(service).is_some_and(|aside| now < aside.until)
    }

    fn put_aside(&mut self, service: &ConnectionId, fault: &FeedFault) {
        self.desk.failed(std::slice::from_ref(service), fault);
        let tries = self.aside.get(service).map_or(0, |aside| aside.tries);
        if tries == 0 {
            tracing::warn!(%service, %fault, "approved claims of a service are not received; those of others are");
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries)).min(LONGEST_PAUSE);
        let until = self.desk.clock.instant() + pause.mul_f64(0.5 + 0.5 * fraction());
        self.aside.insert(service.clone(), Aside { tries: tries.saturating_add(1), until });
    }

    /// Follows the stream that is open while `work` is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let Some(live) = &mut self.live else { return work.await };
            let arrived = tokio::select! {
                biased;
                done = &mut work => return done,
                arrived = live.next() => arrived,
            };
            if let Err(fault) = arrived.map(|arrived| self.take(arrived)) {
                tracing::debug!(%fault, "the stream of claims ended while pages were read");
                self.live = None;
                if fault.needs_pages() {
                    self.cursor = None;
                }
            }
        }
    }

    /// Opens a stream for these services, and puts the pages and what changed since they were read into the index at
    /// once. `false`: the control plane has no stream, and is polled.
    async fn join(
        &mut self,
        services: Vec<ConnectionId>,
        since: Option<Cursor>,
        snapshot: Snapshot,
    ) -> Result<bool, FeedFault> {
        let opened = match since.or_else(|| snapshot.cursor.clone()) {
            Some(since) => {
                let control_plane = &self.desk.reader.control_plane;
                Events::open(control_plane, services, &since, self.desk.clock.clone()).await
            }
            // Pages without a cursor come from a control plane that knows no stream.
            None => Err(FeedFault::NoStream),
        };
        let mut events = match opened {
            Err(FeedFault::NoStream) if self.desk.source == FeedSource::Auto => {
                return self.without_stream(snapshot).map(|()| false);
            }
            opened => opened?,
        };
        let caught = events.catch_up().await?;
        let now = self.desk.clock.now();
        self.cursor = caught.cursor.clone();
        self.settle(snapshot, caught, now)?;
        self.desk.index.heard(events.services(), ClaimsSource::Stream, now);
        self.live = Some(events);
        self.pauses.opened(self.desk.clock.instant());
        self.health.good();
        Ok(true)
    }

    fn without_stream(&mut self, snapshot: Snapshot) -> Result<(), FeedFault> {
        tracing::info!("the control plane has no stream of claims, so it is polled");
        (self.live, self.cursor) = (None, None);
        self.polls_until = Some(self.desk.clock.instant() + STREAM_AGAIN);
        let begun = snapshot.begun.unwrap_or_else(|| self.desk.clock.now());
        let services = snapshot.services.clone();
        self.settle(snapshot, CaughtUp { changes: Vec::new(), cursor: None }, begun)?;
        self.desk.index.heard(&services, ClaimsSource::Poll, begun);
        Ok(())
    }

    /// Of the services whose pages were read, the pages with the changes since; of the others, the changes.
    fn settle(&self, mut snapshot: Snapshot, caught: CaughtUp, now: UnixTime) -> Result<(), FeedFault> {
        let mut changes = Vec::new();
        for (delta, at) in caught.changes {
            self.observe(&delta, at, now);
            match delta {
                Delta::Approved(claim) if snapshot.services.contains(&claim.service) => {
                    snapshot.claims.insert(claim.id.clone(), claim);
                }
                Delta::Approved(claim) => changes.push(Delta::Approved(claim)),
                Delta::Withdrawn(id) => {
                    snapshot.claims.remove(&id);
                    changes.push(Delta::Withdrawn(id));
                }
            }
        }
        // Withdrawals of claims that an older approval in these changes would bring back are among them.
        self.desk.index.apply(changes, now);
        let replaced =
            self.desk.index.replace(&snapshot.services, snapshot.claims.into_values().collect(), now);
        replaced.map_err(|many| FeedFault::TooMany { most: many.most })
    }

    /// Follows the open stream until the services change, or one that was put aside is due.
    async fn follow(&mut self) -> Result<Round, FeedFault> {
        loop {
            let due = self.aside.values().map(|aside| aside.until).min().map(tokio::time::Instant::from_std);
            let Some(live) = &mut self.live else { return Ok(Round::Again) };
            let arrived = tokio::select! {
                _ = self.services.changed() => return Ok(Round::Again),
                () = until(due) => return Ok(Round::Again),
                arrived = live.next() => arrived?,
            };
            self.take(arrived);
        }
    }

    /// Puts an event into the index.
    fn take(&mut self, arrived: Arrived) {
        let now = self.desk.clock.now();
        let services = self.live.as_ref().map(Events::services).unwrap_or_default();
        match arrived.event {
            Event::Heartbeat => self.desk.index.heard(services, ClaimsSource::Stream, now),
            Event::Change(delta, at) => {
                self.observe(&delta, at, now);
                self.desk.index.event(services, now);
                self.desk.index.apply(vec![delta], now);
            }
            Event::Nothing => {}
        }
        if arrived.cursor.is_some() {
            self.cursor = arrived.cursor;
        }
    }

    /// Measures how long a withdrawal took to come here, where it withdraws what was held.
    fn observe(&self, delta: &Delta, at: Option<UnixTime>, now: UnixTime) {
        if let (Delta::Withdrawn(id), Some(at)) = (delta, at)
            && self.desk.index.holds(id)
        {
            self.desk.metrics.claim_revocation_lag(now.since(at));
        }
    }

    /// Takes note of how a round went, and gives how long to wait.
    fn note(&mut self, services: &[ConnectionId], outcome: Result<Round, FeedFault>) -> Duration {
        let fault = match outcome {
            Ok(Round::Again) => return Duration::ZERO,
            Ok(Round::Polled) => {
                self.health.good();
                return jittered(self.desk.refresh);
            }
            Err(fault) => fault,
        };
        self.health.bad(&fault);
        let polls = self.desk.source == FeedSource::Poll || self.polls_until.is_some();
        if polls {
            let refresh = self.desk.refresh;
            let doubled = 2_u32.saturating_pow(self.health.failures.saturating_sub(1));
            let pause = FIRST_PAUSE.min(refresh).saturating_mul(doubled);
            return jittered(pause.min(LONGEST_PAUSE.max(refresh)));
        }
        self.live = None;
        if fault.needs_pages() {
            self.cursor = None;
        }
        self.desk.failed(services, &fault);
        self.pauses.after(&fault, self.desk.clock.instant())
    }
}

/// Up to a tenth shorter.
fn jittered(pause: Duration) -> Duration {
    pause.saturating_sub(pause.mul_f64(0.1 * fraction()))
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// How it went lately; logs when that changes.
#[derive(Default)]
struct Health {
    /// In a row.
    failures: u32,
    last: Option<FeedFailure>,
}

impl Health {
    fn good(&mut self) {
        if self.last.is_some() {
            tracing::info!(failures = self.failures, "approved claims are received again");
        }
        *self = Self::default();
    }

    fn bad(&mut self, fault: &FeedFault) {
        if self.last != Some(fault.failure()) {
            tracing::warn!(%fault, "approved claims are not received; the last ones serve until they are too old");
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(fault.failure());
    }
}
