//! One group of services that one key opens: their stream, or their polls.

mod joining;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::aside::Asides;
use super::desk::{Desk, FeedSource};
use super::events::{Arrived, BACKLOG, Event, Events};
use super::fault::FeedFault;
use super::health::{Health, Meanwhile};
use super::index::Delta;
use super::page::Cursor;
use super::pauses::{Pauses, fraction};
use super::snapshot::Snapshot;
use super::state::ClaimsSource;
use crate::clock::UnixTime;
use crate::names::ConnectionId;

/// The task of one group.
pub(super) struct Group {
    desk: Arc<Desk>,
    services: watch::Receiver<Vec<ConnectionId>>,
    /// Up to where the index holds what the feed says.
    cursor: Option<Cursor>,
    /// The services that this is true of.
    followed: HashSet<ConnectionId>,
    live: Option<Events>,
    /// While a stream is open, another one is not tried before this.
    join_at: Option<Instant>,
    aside: Asides,
    /// Until then there is no stream to be had.
    polls_until: Option<Instant>,
    /// The stream cannot be had, and is tried again and again; claims are polled between the tries: all of them, or beside
    /// an open stream those that it does not bring.
    stalled: Option<Stalled>,
    /// Why the stream could not be had at the last try.
    hindrance: Option<String>,
    pauses: Pauses,
    health: Health,
}

#[derive(Clone, Copy)]
struct Stalled {
    poll_at: Instant,
    /// The last reading went well.
    good: bool,
}

/// How a round went that did not fail as a whole.
enum Round {
    /// There is more to do at once.
    Again,
    /// All services were polled, or all but some that this is the first fault of.
    Polled(Option<FeedFault>),
    /// Not one service's pages were given. The index knows why of each; this is the first fault.
    Unread(FeedFault),
}

/// Changes, each with the time of its decision where that is known.
type Changes = Vec<(Delta, Option<UnixTime>)>;

impl Group {
    pub(super) fn new(desk: Arc<Desk>, services: watch::Receiver<Vec<ConnectionId>>) -> Self {
        Self {
            desk,
            services,
            cursor: None,
            followed: HashSet::new(),
            live: None,
            join_at: None,
            aside: Asides::default(),
            polls_until: None,
            stalled: None,
            hindrance: None,
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
            let polled = self.desk.poll(services).await;
            return Ok(match polled.fault {
                Some(fault) if !polled.good => Round::Unread(fault),
                fault => Round::Polled(fault),
            });
        }
        self.polls_until = None;
        self.stream(services, now).await
    }

    /// Reads the pages of services that have none yet, opens a stream with them, and follows it until the services
    /// change. The stream that is open meanwhile is followed too.
    async fn stream(&mut self, services: &[ConnectionId], now: Instant) -> Result<Round, FeedFault> {
        if self.live.is_some() && self.join_at.is_some_and(|at| now < at) {
            return self.follow().await;
        }
        self.join_at = None;
        let due = self.live.is_none() && self.stalled.is_some_and(|stalled| stalled.poll_at <= now);
        // Older than every page that is read now: what changes from here on comes by the next stream. Where a poll is due,
        // all pages are read.
        let since = self.cursor.clone().filter(|_| !due);
        self.aside.keep(services);
        if self.live.is_none() && services.iter().all(|service| self.aside.holds(service, now)) {
            self.aside.clear();
        }
        let asked: Vec<_> =
            services.iter().filter(|service| !self.aside.holds(service, now)).cloned().collect();
        let known = |service: &ConnectionId| {
            since.is_some() && self.followed.contains(service) && self.desk.index.has_received(service)
        };
        let missing: Vec<_> = asked.iter().filter(|service| !known(service)).cloned().collect();
        let snapshot = match self.read(&missing, missing.len() == asked.len()).await {
            Ok(snapshot) => snapshot,
            Err(fault) => {
                if due {
                    self.stalled = Some(Stalled { poll_at: self.next_poll(now), good: false });
                }
                return Ok(Round::Unread(fault));
            }
        };
        if self.live.is_some() && snapshot.services.is_empty() {
            self.stalled = None;
        }
        let failed: HashSet<_> =
            missing.iter().filter(|service| !snapshot.services.contains(service)).collect();
        let joined: Vec<_> = asked.iter().filter(|service| !failed.contains(service)).cloned().collect();
        if joined.is_empty() {
            self.live = None;
            return Ok(Round::Again);
        }
        let open = self.live.as_ref().is_some_and(|live| live.services() == joined);
        if (!open || !snapshot.services.is_empty()) && !self.join(joined, since, snapshot, now).await? {
            return Ok(Round::Polled(None));
        }
        self.follow().await
    }

    /// Reads the pages of these services. Those that are refused while others are not are put aside; `all`: there are no
    /// others.
    ///
    /// # Errors
    /// When not one can be followed.
    async fn read(&mut self, missing: &[ConnectionId], all: bool) -> Result<Snapshot, FeedFault> {
        let mut snapshot = Snapshot::begun(self.desk.clock.now());
        if missing.is_empty() {
            return Ok(snapshot);
        }
        let desk = Arc::clone(&self.desk);
        let (readings, _) = self.meanwhile(async { desk.reader.read_each(missing).await }).await;
        let mut faults = Vec::new();
        for (service, reading) in readings {
            match reading {
                Ok(reading) => {
                    self.desk.note_left_out(&service, &reading);
                    self.aside.take_back(&service);
                    snapshot.add(service, reading);
                }
                Err(fault) => {
                    self.desk.unread(&service, &fault, snapshot.begun);
                    faults.push((service, fault));
                }
            }
        }
        if !(all && snapshot.services.is_empty()) {
            faults.iter().for_each(|(service, fault)| self.put_aside(service, fault));
            return Ok(snapshot);
        }
        // Every service is among them, and there is one at least.
        faults.into_iter().next().map_or(Ok(snapshot), |(_, fault)| Err(fault))
    }

    fn put_aside(&mut self, service: &ConnectionId, fault: &FeedFault) {
        if self.aside.put(service, fault, self.desk.clock.instant()) {
            tracing::warn!(%service, %fault, "approved claims of a service are not received; those of others are");
        }
    }

    /// Follows the stream that is open while `work` is done. Gives the withdrawals that came, too.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> (T, Changes) {
        let (mut work, mut withdrawn) = (pin!(work), Changes::new());
        loop {
            let Some(live) = &mut self.live else { return (work.await, withdrawn) };
            let arrived = tokio::select! {
                biased;
                done = &mut work => return (done, withdrawn),
                arrived = live.next() => arrived,
            };
            match arrived {
                Ok(arrived) => {
                    if let Event::Change(delta @ Delta::Withdrawn(_), at) = &arrived.event {
                        withdrawn.push((delta.clone(), *at));
                    }
                    self.take(arrived);
                }
                Err(fault) => self.lose(&fault),
            }
            if withdrawn.len() >= BACKLOG {
                self.live = None;
            }
        }
    }

    /// The open stream has ended.
    fn lose(&mut self, fault: &FeedFault) {
        tracing::debug!(%fault, "the stream of claims ended");
        (self.live, self.stalled) = (None, None);
        if fault.needs_pages() {
            self.cursor = None;
        }
    }

    /// Follows the open stream until the services change, or another stream is due, or else one that was put aside.
    async fn follow(&mut self) -> Result<Round, FeedFault> {
        loop {
            // Before another stream is due nobody is asked for: whoever was put aside is then.
            let due = self.join_at.or_else(|| self.aside.due());
            let Some(live) = &mut self.live else { return Ok(Round::Again) };
            let arrived = tokio::select! {
                _ = self.services.changed() => return Ok(Round::Again),
                () = until(due) => return Ok(Round::Again),
                arrived = live.next() => arrived,
            };
            match arrived {
                Ok(arrived) => self.take(arrived),
                Err(fault) => {
                    self.lose(&fault);
                    return Err(fault);
                }
            }
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

    /// The claims of these services are polled, since the stream cannot be had.
    fn hinder(&mut self, services: &[ConnectionId], fault: &FeedFault) {
        let problem = self.hindrance.insert(fault.to_string());
        self.desk.index.hindered(services, problem);
    }

    /// Takes note of how a round went, and gives how long to wait.
    fn note(&mut self, services: &[ConnectionId], outcome: Result<Round, FeedFault>) -> Duration {
        let now = self.desk.clock.instant();
        let (fault, told) = match outcome {
            Ok(Round::Again) => return Duration::ZERO,
            Ok(Round::Polled(fault)) => {
                match fault {
                    None => self.health.good(),
                    Some(fault) => self.health.bad(&fault, Meanwhile::Nothing),
                }
                self.pauses.polled();
                return jittered(self.desk.refresh);
            }
            Ok(Round::Unread(fault)) => (fault, true),
            Err(fault) => (fault, false),
        };
        if let Some(live) = &self.live {
            let others: Vec<_> =
                services.iter().filter(|service| !live.services().contains(service)).cloned().collect();
            let polled = self.stalled.filter(|stalled| stalled.good);
            if polled.is_some() {
                self.hinder(&others, &fault);
            } else if !told {
                self.desk.failed(&others, &fault);
            }
            self.health.bad(&fault, Meanwhile::Followed);
            let join_at = now + self.pauses.beside(&fault, now);
            self.join_at = Some(polled.map_or(join_at, |polled| join_at.min(polled.poll_at)));
            return Duration::ZERO;
        }
        let pause = self.pauses.after(&fault, now);
        // A try reads all pages when that is due.
        let Some(stalled) = self.stalled.filter(|_| fault.is_of_the_stream()) else {
            self.health.bad(&fault, Meanwhile::Nothing);
            if !told {
                self.desk.failed(services, &fault);
            }
            return pause;
        };
        let until_poll = stalled.poll_at.saturating_duration_since(now);
        if !stalled.good {
            self.health.bad(&fault, Meanwhile::Nothing);
            self.desk.failed(services, &fault);
            return pause.min(until_poll);
        }
        self.health.bad(&fault, Meanwhile::Polled);
        self.hinder(services, &fault);
        // Without a cursor the next try reads all pages, as a poll does.
        if self.cursor.is_none() { until_poll } else { pause.min(until_poll) }
    }
}

/// Up to a tenth shorter.
fn jittered(pause: Duration) -> Duration {
    pause.saturating_sub(pause.mul_f64(0.1 * fraction()))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(tokio::time::Instant::from_std(due)).await,
        None => std::future::pending().await,
    }
}
