//! What all parts of the feed work with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::control_plane::CallFault;
use super::fault::FeedFault;
use super::index::ClaimsIndex;
use super::reader::{Reader, Reading};
use super::services::{Opened, Services};
use super::state::{ClaimsSource, FeedFailure};
use crate::clock::{Clock, UnixTime};
use crate::names::ConnectionId;
use crate::telemetry::Metrics;

/// How claims are to be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FeedSource {
    /// By a stream; by polls while the control plane has none.
    #[default]
    Auto,
    /// By a stream alone.
    Stream,
    /// By polls alone.
    Poll,
}

/// The feed's means, and the steps that its parts share.
pub(super) struct Desk {
    pub(super) reader: Reader,
    pub(super) services: Services,
    pub(super) source: FeedSource,
    pub(super) refresh: Duration,
    pub(super) index: Arc<ClaimsIndex>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// Claims of the last reading of a service that could not be understood; none where there are none.
    pub(super) left_out: Mutex<HashMap<ConnectionId, usize>>,
}

/// What opens a service that is to be asked for; `None`: its key cannot be read now.
pub(super) type Key = Option<[u8; 32]>;

/// How a poll of several services went.
pub(super) struct Polled {
    /// One service at least was read well.
    pub(super) good: bool,
    /// The first fault.
    pub(super) fault: Option<FeedFault>,
}

impl Desk {
    /// Looks which services there are, and tells the index. Gives those that have a key.
    pub(super) async fn look(&self) -> Vec<(ConnectionId, Key)> {
        let services = self.services.clone();
        // It reads files and the vault. Where the runtime is stopping, there is nothing to do any more.
        let all = tokio::task::spawn_blocking(move || services.opened()).await.unwrap_or_default();
        let (mut opened, mut without_key, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for (service, key) in all {
            match key {
                Opened::By(digest) => opened.push((service, Some(digest))),
                Opened::Not => without_key.push(service),
                Opened::Unreadable(fault) => {
                    opened.push((service.clone(), None));
                    unreadable.push(CallFault::Key { service, fault });
                }
            }
        }
        self.expect(&opened, without_key);
        for fault in unreadable {
            if let CallFault::Key { service, .. } = &fault {
                self.index.failed(std::slice::from_ref(service), FeedFailure::Refused, &fault.to_string());
            }
        }
        opened
    }

    fn expect(&self, opened: &[(ConnectionId, Key)], without_key: Vec<ConnectionId>) {
        let before = self.index.state(self.clock.now()).without_key;
        for service in without_key.iter().filter(|service| !before.contains(service)) {
            tracing::warn!(%service, "its claims are not received: no service API key is set for it");
        }
        let services: Vec<ConnectionId> = opened.iter().map(|(service, _)| service.clone()).collect();
        self.left_out().retain(|service, _| services.contains(service));
        let source = match self.source {
            FeedSource::Poll => ClaimsSource::Poll,
            FeedSource::Auto | FeedSource::Stream => ClaimsSource::Stream,
        };
        self.index.expect(&services, without_key, source);
    }

    /// Reads the pages of these services, each in place of what was held of it. The index knows each fault.
    pub(super) async fn poll(&self, services: &[ConnectionId]) -> Polled {
        let begun = self.clock.now();
        let mut polled = Polled { good: false, fault: None };
        for (service, reading) in self.reader.read_each(services).await {
            match reading.and_then(|reading| self.take(&service, reading, begun)) {
                Ok(()) => {
                    self.index.heard(std::slice::from_ref(&service), ClaimsSource::Poll, begun);
                    polled.good = true;
                }
                Err(fault) => {
                    self.unread(&service, &fault, begun);
                    polled.fault = polled.fault.or(Some(fault));
                }
            }
        }
        polled
    }

    /// Puts a reading in place of what was held.
    fn take(&self, service: &ConnectionId, reading: Reading, at: UnixTime) -> Result<(), FeedFault> {
        self.note_left_out(service, &reading);
        let replaced = self.index.replace(std::slice::from_ref(service), reading.claims, at);
        replaced.map_err(|many| FeedFault::TooMany { most: many.most })
    }

    /// The pages of this service were asked for at `begun`, and not given. One that is not there has no claims any more:
    /// they were withdrawn with it.
    pub(super) fn unread(&self, service: &ConnectionId, fault: &FeedFault, begun: UnixTime) {
        let own = std::slice::from_ref(service);
        if fault.is_no_service() {
            // For no claims there always is room.
            let _ = self.index.replace(own, Vec::new(), begun);
        }
        self.failed(own, fault);
    }

    pub(super) fn failed(&self, services: &[ConnectionId], fault: &FeedFault) {
        self.index.failed(services, fault.failure(), &fault.to_string());
    }

    /// Logs how many claims of a reading could not be understood, when that is not as before.
    pub(super) fn note_left_out(&self, service: &ConnectionId, reading: &Reading) {
        let mut known = self.left_out();
        let before = match reading.left_out {
            0 => known.remove(service).unwrap_or(0),
            some => known.insert(service.clone(), some).unwrap_or(0),
        };
        match &reading.example {
            _ if before == reading.left_out => {}
            Some(fault) => {
                let left_out = reading.left_out;
                tracing::warn!(%service, left_out, %fault, "claims that cannot be understood are left out");
            }
            None => tracing::info!(%service, "all claims are understood again"),
        }
    }

    fn left_out(&self) -> MutexGuard<'_, HashMap<ConnectionId, usize>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
