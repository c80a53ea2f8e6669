//! The feed of approved claims: who asks for which service, and with which key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::control_plane::{CallFault, ControlPlane};
use super::fault::FeedFault;
use super::group::Group;
use super::index::ClaimsIndex;
use super::reader::{Reader, Reading};
use super::services::{Opened, Services};
use super::state::{ClaimsSource, FeedFailure};
use crate::clock::{Clock, UnixTime};
use crate::connections::SecretSource;
use crate::names::ConnectionId;
use crate::protocol::Identity;
use crate::telemetry::Metrics;

/// Where approved claims are read from.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// The control plane's base URL.
    pub url: url::Url,
    /// The common service API key, sent as bearer for services without one of their own.
    pub service_api_key: Option<SecretSource>,
    /// By stream or by polls.
    pub source: FeedSource,
    /// How often it is polled.
    pub refresh: Duration,
    /// How old the last good state may become before requests are refused.
    pub max_staleness: Duration,
    /// Claims held at the most, of all services together (`GATEWAY_CLAIMS_CACHE_MAX_APPROVED`); `None`: ten million. A
    /// reading that has more is not taken at all.
    pub max_entries: Option<usize>,
}

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

/// Where the configuration sets no limit.
const MOST_CLAIMS: usize = 10_000_000;
/// Services of one stream.
const MOST_SERVICES: usize = 200;
/// Keys are looked at again so often at least: a file does not say when it changes.
const LOOK: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

/// Keeps the index at what the control plane says: services that one key opens share a stream, or are polled where
/// there is none.
pub struct Feed(Arc<Desk>);

/// What all parts of the feed work with.
pub(super) struct Desk {
    pub(super) reader: Reader,
    pub(super) services: Services,
    pub(super) source: FeedSource,
    pub(super) refresh: Duration,
    pub(super) index: Arc<ClaimsIndex>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// Claims of the last reading of a service that could not be understood; none where there are none.
    left_out: Mutex<HashMap<ConnectionId, usize>>,
}

impl Feed {
    /// A feed that has not asked yet: for the claims of `services`, as these are at each moment.
    ///
    /// # Errors
    /// When the URL is no base URL, or the system has no roots of trust for HTTPS.
    pub fn new(
        config: FeedConfig,
        services: Services,
        index: Arc<ClaimsIndex>,
        identity: Arc<Identity>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, FeedFault> {
        let most = config.max_entries.unwrap_or(MOST_CLAIMS);
        index.hold_at_most(most);
        let control_plane = ControlPlane::new(config.url, services.clone(), identity, clock.clone())?;
        Ok(Self(Arc::new(Desk {
            reader: Reader { control_plane, most },
            services,
            source: config.source,
            refresh: config.refresh,
            index,
            metrics,
            clock,
            left_out: Mutex::default(),
        })))
    }

    /// Runs until `shutdown` holds `true` or its sender is gone. A service or key that changes is taken up within a
    /// second of [`Services::changed`], a key in a file within ten; the other services do not notice.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut changes = self.0.services.changes();
        let mut groups = Groups(Vec::new());
        let look = self.0.refresh.clamp(*LOOK.start(), *LOOK.end());
        loop {
            let opened = tokio::select! {
                opened = self.0.look() => opened,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            groups.arrange(&self.0, opened);
            tokio::select! {
                // The sender lives in the desk.
                _ = changes.changed() => {}
                () = tokio::time::sleep(look) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Reads the pages of all services once, each service's in place of what was held of it.
    ///
    /// # Errors
    /// The first fault. Services that were read well are taken over all the same, and the others stay as they were.
    pub async fn poll(&self) -> Result<(), FeedFault> {
        let opened = self.0.look().await;
        let services: Vec<ConnectionId> = opened.into_iter().map(|(service, _)| service).collect();
        self.0.poll(&services).await
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("services", &self.0.services)
            .field("source", &self.0.source)
            .field("refresh", &self.0.refresh)
            .finish_non_exhaustive()
    }
}

/// What opens a service that is to be asked for; `None`: its key cannot be read now.
type Key = Option<[u8; 32]>;

impl Desk {
    /// Looks which services there are, and tells the index. Gives those that have a key.
    async fn look(&self) -> Vec<(ConnectionId, Key)> {
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

    /// Reads the pages of these services, each in place of what was held of it.
    ///
    /// # Errors
    /// The first fault; the index knows each.
    pub(super) async fn poll(&self, services: &[ConnectionId]) -> Result<(), FeedFault> {
        let begun = self.clock.now();
        let mut polled = Ok(());
        for (service, reading) in self.reader.read_each(services).await {
            let taken = reading.and_then(|reading| self.take(&service, reading, begun));
            let own = std::slice::from_ref(&service);
            match &taken {
                Ok(()) => self.index.heard(own, ClaimsSource::Poll, begun),
                Err(fault) => self.failed(own, fault),
            }
            polled = polled.and(taken);
        }
        polled
    }

    /// Puts a reading in place of what was held.
    fn take(&self, service: &ConnectionId, reading: Reading, at: UnixTime) -> Result<(), FeedFault> {
        self.note_left_out(service, &reading);
        let replaced = self.index.replace(std::slice::from_ref(service), reading.claims, at);
        replaced.map_err(|many| FeedFault::TooMany { most: many.most })
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

    fn left_out(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, usize>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The groups at work: each a task for services that one key opens.
struct Groups(Vec<Running>);

struct Running {
    key: [u8; 32],
    services: watch::Sender<Vec<ConnectionId>>,
    task: JoinHandle<()>,
}

impl Groups {
    /// Has every service asked for by exactly one group. One that is in a group of the right key, or whose key cannot
    /// be read now, stays there.
    fn arrange(&mut self, desk: &Arc<Desk>, opened: Vec<(ConnectionId, Key)>) {
        self.0.retain(|group| !group.task.is_finished());
        let mut wanted: BTreeMap<[u8; 32], BTreeSet<ConnectionId>> = BTreeMap::new();
        for (service, key) in opened {
            let key =
                key.or_else(|| self.0.iter().find(|group| group.asks_for(&service)).map(|group| group.key));
            if let Some(key) = key {
                wanted.entry(key).or_default().insert(service);
            }
        }
        for group in &self.0 {
            let theirs = wanted.get_mut(&group.key);
            let own = group.services.borrow().clone();
            let mut kept: Vec<ConnectionId> = match theirs {
                None => Vec::new(),
                Some(theirs) => own.iter().filter(|service| theirs.remove(*service)).cloned().collect(),
            };
            if let Some(theirs) = wanted.get_mut(&group.key) {
                fill(&mut kept, theirs);
            }
            if kept != own {
                group.services.send_replace(kept);
            }
        }
        self.0.retain(|group| !group.services.borrow().is_empty());
        for (key, mut left) in wanted {
            while !left.is_empty() {
                let mut services = Vec::new();
                fill(&mut services, &mut left);
                self.0.push(Running::start(desk, key, services));
            }
        }
    }
}

/// Moves services over while there is place.
fn fill(services: &mut Vec<ConnectionId>, left: &mut BTreeSet<ConnectionId>) {
    while services.len() < MOST_SERVICES {
        let Some(service) = left.pop_first() else { return };
        services.push(service);
    }
}

impl Running {
    fn start(desk: &Arc<Desk>, key: [u8; 32], services: Vec<ConnectionId>) -> Self {
        let (services, told) = watch::channel(services);
        let task = tokio::spawn(Group::new(Arc::clone(desk), told).run());
        Self { key, services, task }
    }

    fn asks_for(&self, service: &ConnectionId) -> bool {
        self.services.borrow().contains(service)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
