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

impl Group {
    /// Opens a stream for these services, and puts the pages and what changed since they were read into the index at
    /// once. `false`: the control plane has no stream, and is polled.
    pub(super) async fn join(
        &mut self,
        services: Vec<ConnectionId>,
        since: Option<Cursor>,
        snapshot: Snapshot,
        now: Instant,
    ) -> Result<bool, FeedFault> {
        let Some(since) = since.or_else(|| snapshot.cursor.clone()) else {
            // Pages without a cursor come from a control plane that knows no stream.
            return self.without_stream(snapshot).map(|()| false);
        };
        let desk = Arc::clone(&self.desk);
        let opening = async {
            let control_plane = &desk.reader.control_plane;
            let mut events =
                Events::open(control_plane, services.clone(), &since, desk.clock.clone()).await?;
            let caught = events.catch_up().await?;
            Ok::<_, FeedFault>((events, caught))
        };
        let (opened, withdrawn) = self.meanwhile(opening).await;
        match opened {
            Ok((events, mut caught)) => {
                // The open stream may have been ahead of the new one, and no claim comes back after its withdrawal.
                caught.changes.extend(withdrawn);
                self.take_over(events, caught, snapshot).map(|()| true)
            }
            Err(fault) => Err(self.do_without(fault, &services, since, snapshot, now).await),
        }
    }

    fn take_over(&mut self, events: Events, caught: CaughtUp, snapshot: Snapshot) -> Result<(), FeedFault> {
        let now = self.desk.clock.now();
        self.settle(snapshot, caught.changes, now)?;
        self.cursor = caught.cursor;
        self.followed = events.services().iter().cloned().collect();
        self.desk.index.heard(events.services(), ClaimsSource::Stream, now);
        self.live = Some(events);
        self.stalled = None;
        self.pauses.opened(self.desk.clock.instant());
        self.health.good();
        Ok(())
    }

    fn without_stream(&mut self, snapshot: Snapshot) -> Result<(), FeedFault> {
        if self.desk.source == FeedSource::Stream {
            return Err(FeedFault::NoStream);
        }
        tracing::info!("the control plane has no stream of claims, so it is polled");
        (self.live, self.cursor, self.stalled) = (None, None, None);
        self.polls_until = Some(self.desk.clock.instant() + STREAM_AGAIN);
        self.settle_polled(snapshot).map(|_| ())
    }

    /// The stream could not be opened, since `now`. Where polls will do and no other stream is open, what was read counts
    /// as polled, and all services are polled when that is due. The cursor stays older than every page, so that the
    /// stream, once it can be had, is resumed there. Gives the fault.
    async fn do_without(
        &mut self,
        fault: FeedFault,
        services: &[ConnectionId],
        since: Cursor,
        snapshot: Snapshot,
        now: Instant,
    ) -> FeedFault {
        if self.live.is_some() {
            return fault;
        }
        let next_poll = |from: Instant| from + jittered(self.desk.refresh);
        let mut stalled = self.stalled.take().filter(|_| fault.is_of_the_stream());
        if self.desk.source == FeedSource::Auto && !snapshot.services.is_empty() {
            if self.cursor.is_none() {
                self.followed.clear();
            }
            self.cursor = Some(since);
            match self.settle_polled(snapshot) {
                Ok(services) => self.followed.extend(services),
                Err(fault) => return fault,
            }
            stalled = Some(Stalled { poll_at: next_poll(now), good: true });
        }
        if fault.needs_pages() {
            self.cursor = None;
        }
        if self.desk.source == FeedSource::Stream {
            return if fault.is_no_stream() { FeedFault::NoStream } else { fault };
        }
        if !fault.is_of_the_stream() {
            self.stalled = stalled;
            return fault;
        }
        let mut stalled = stalled.unwrap_or(Stalled { poll_at: next_poll(now), good: false });
        if stalled.poll_at <= self.desk.clock.instant() {
            let polled = self.desk.poll(services).await;
            let poll_at = next_poll(self.desk.clock.instant());
            stalled = Stalled { poll_at, good: !polled.good.is_empty() };
            if polled.cursor.is_some() {
                (self.cursor, self.followed) = (polled.cursor, polled.good.into_iter().collect());
            }
        }
        self.stalled = Some(stalled);
        fault
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
