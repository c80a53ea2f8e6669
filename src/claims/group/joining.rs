//! Opens a group's stream and takes it over, and what is done instead where there is none to be had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::desk::FeedSource;
use super::super::events::{CaughtUp, Events};
use super::super::fault::FeedFault;
use super::super::page::Cursor;
use super::super::snapshot::Snapshot;
use super::super::state::ClaimsSource;
use super::{Changes, Group, Stalled, jittered};
use crate::clock::UnixTime;
use crate::names::ConnectionId;

/// A control plane whose pages have no cursor, and which so has no stream, is asked for one again after this.
const STREAM_AGAIN: Duration = Duration::from_secs(600);
/// A stream that is to be had is open and has caught up by then.
const OPENING: Duration = Duration::from_secs(3);

impl Group {
    /// Opens a stream for these services, and puts the pages and what changed since they were read into the index at
    /// once. `false`: the control plane has no stream, and is polled.
    pub(super) async fn join(
        &mut self,
        services: Vec<ConnectionId>,
        since: Option<Cursor>,
        mut snapshot: Snapshot,
        now: Instant,
    ) -> Result<bool, FeedFault> {
        let Some(since) = since.or_else(|| snapshot.cursor.clone()) else {
            // Pages without a cursor come from a control plane that knows no stream.
            return self.without_stream(snapshot).map(|()| false);
        };
        if self.stalled.is_some() {
            // Claims are polled now, and so they were.
            self.keep(&mut snapshot, &since, now)?;
        }
        let desk = Arc::clone(&self.desk);
        let most = self.time_to_open(now);
        let opening = async {
            let control_plane = &desk.reader.control_plane;
            let mut events = Events::open(control_plane, services, &since, desk.clock.clone()).await?;
            let caught = events.catch_up().await?;
            Ok::<_, FeedFault>((events, caught))
        };
        let (opened, withdrawn) = self.meanwhile(within(most, opening)).await;
        match opened {
            Ok((events, mut caught)) => {
                // The open stream may have been ahead of the new one, and no claim comes back after its withdrawal.
                caught.changes.extend(withdrawn);
                self.take_over(events, caught, snapshot).map(|()| true)
            }
            Err(fault) => Err(self.do_without(fault, &since, snapshot, now)),
        }
    }

    fn take_over(&mut self, events: Events, caught: CaughtUp, snapshot: Snapshot) -> Result<(), FeedFault> {
        let now = self.desk.clock.now();
        self.settle(snapshot, caught.changes, now)?;
        self.cursor = caught.cursor;
        self.followed = events.services().iter().cloned().collect();
        self.desk.index.heard(events.services(), ClaimsSource::Stream, now);
        self.live = Some(events);
        (self.stalled, self.hindrance) = (None, None);
        self.pauses.opened(self.desk.clock.instant());
        self.health.good();
        Ok(())
    }

    fn without_stream(&mut self, snapshot: Snapshot) -> Result<(), FeedFault> {
        if self.desk.source == FeedSource::Stream {
            return Err(FeedFault::NoStream);
        }
        tracing::info!("the control plane has no stream of claims, so it is polled");
        (self.live, self.cursor, self.stalled, self.hindrance) = (None, None, None, None);
        self.polls_until = Some(self.desk.clock.instant() + STREAM_AGAIN);
        self.settle_polled(snapshot).map(|_| ())
    }

    /// The stream could not be opened, since `now`. Where polls will do, what was read counts as polled. Gives the fault.
    fn do_without(
        &mut self,
        fault: FeedFault,
        since: &Cursor,
        mut snapshot: Snapshot,
        now: Instant,
    ) -> FeedFault {
        if !fault.is_of_the_stream() {
            self.stalled = None;
        }
        if let Err(fault) = self.keep(&mut snapshot, since, now) {
            return fault;
        }
        if self.live.is_some() {
            return fault;
        }
        if fault.needs_pages() {
            self.cursor = None;
        }
        if self.desk.source == FeedSource::Stream {
            return if fault.is_no_stream() { FeedFault::NoStream } else { fault };
        }
        if self.stalled.is_none() && fault.is_of_the_stream() {
            self.stalled = Some(Stalled { poll_at: self.next_poll(now), good: false });
        }
        fault
    }

    /// Puts pages that were read since `now` into the index as polled, where polls will do: those of services that the
    /// open stream does not bring, since over what it brings they would bring back what it withdrew. Without an open one
    /// the cursor stays older than every page, so that the stream, once it can be had, is resumed there.
    fn keep(&mut self, snapshot: &mut Snapshot, since: &Cursor, now: Instant) -> Result<(), FeedFault> {
        if self.desk.source != FeedSource::Auto {
            return Ok(());
        }
        let brought = self.live.as_ref().map(Events::services).unwrap_or_default();
        let pages = snapshot.take(|service| !brought.contains(service));
        if pages.services.is_empty() {
            return Ok(());
        }
        let before = self.stalled.take().filter(|stalled| now < stalled.poll_at);
        let kept = self.settle_polled(pages)?;
        if let Some(problem) = &self.hindrance {
            // What was polled does not mend the stream.
            self.desk.index.hindered(&kept, problem);
        }
        if self.live.is_none() {
            if self.cursor.as_ref() != Some(since) {
                self.followed.clear();
            }
            self.cursor = Some(since.clone());
            self.followed.extend(kept);
        }
        // Those that were read before are not to wait longer for it.
        let poll_at = before.map_or_else(|| self.next_poll(now), |stalled| stalled.poll_at);
        self.stalled = Some(Stalled { poll_at, good: true });
        Ok(())
    }

    /// When claims are to be polled again that are polled at `now`.
    pub(super) fn next_poll(&self, now: Instant) -> Instant {
        now + jittered(self.desk.refresh)
    }

    /// How long an opening may last: where polls will do, until claims are to be polled, and a while in any case.
    fn time_to_open(&self, now: Instant) -> Option<Duration> {
        let poll_at = self.stalled.map_or(now + self.desk.refresh, |stalled| stalled.poll_at);
        let left = poll_at.saturating_duration_since(self.desk.clock.instant());
        (self.desk.source == FeedSource::Auto).then_some(left.max(OPENING))
    }

    /// Puts pages into the index as they were when their reading began. Gives their services.
    fn settle_polled(&self, snapshot: Snapshot) -> Result<Vec<ConnectionId>, FeedFault> {
        let (services, begun) = (snapshot.services.clone(), snapshot.begun);
        self.settle(snapshot, Changes::new(), begun)?;
        self.desk.index.heard(&services, ClaimsSource::Poll, begun);
        Ok(services)
    }

    /// Of the services whose pages were read, the pages with the changes since; of the others, the changes.
    fn settle(&self, snapshot: Snapshot, changes: Changes, now: UnixTime) -> Result<(), FeedFault> {
        changes.iter().for_each(|(delta, at)| self.observe(delta, *at, now));
        let deltas = changes.into_iter().map(|(delta, _)| delta).collect();
        let (services, claims, others) = snapshot.changed_by(deltas);
        // Withdrawals of claims that an older approval in these changes would bring back are among them.
        self.desk.index.apply(others, now);
        let replaced = self.desk.index.replace(&services, claims, now);
        replaced.map_err(|many| FeedFault::TooMany { most: many.most })
    }
}

/// What is not over by then counts as silent.
async fn within<T>(
    most: Option<Duration>,
    opening: impl Future<Output = Result<T, FeedFault>>,
) -> Result<T, FeedFault> {
    let Some(most) = most else { return opening.await };
    let silent = |_| Err(FeedFault::Silent { secs: most.as_secs() });
    tokio::time::timeout(most, opening).await.unwrap_or_else(silent)
}
