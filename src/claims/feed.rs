//! The feed of approved claims: who asks for which service, and with which key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::control_plane::ControlPlane;
use super::desk::{Desk, FeedSource, Key};
use super::fault::FeedFault;
use super::group::Group;
use super::index::ClaimsIndex;
use super::reader::Reader;
use super::services::Services;
use crate::clock::Clock;
use crate::names::ConnectionId;
use crate::protocol::Identity;
use crate::telemetry::Metrics;

/// Where approved claims are read from.
#[derive(Debug, Clone)]
pub struct FeedConfig {
    /// The control plane's base URL.
    pub url: url::Url,
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

/// Where the configuration sets no limit.
const MOST_CLAIMS: usize = 10_000_000;
/// Services of one stream, and the bytes of their ids: proxies on the way take request lines of 8 KiB.
const MOST_SERVICES: usize = 200;
const MOST_ID_BYTES: usize = 4_000;
/// How long further changes are waited for when there was one, so that many of them are one.
const TOGETHER: Duration = Duration::from_millis(100);
/// Keys are looked at again so often at least: a file does not say when it changes.
const LOOK: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10);

/// Keeps the index at what the control plane says: services that one key opens share a stream, or are polled where
/// there is none.
pub struct Feed(Arc<Desk>);

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
            let changed = async {
                // The sender lives in the desk, so that there always is one.
                let _ = changes.changed().await;
                tokio::time::sleep(TOGETHER).await;
                changes.mark_unchanged();
            };
            tokio::select! {
                () = changed => {}
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
        self.0.poll(&services).await.fault.map_or(Ok(()), Err)
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
    let mut bytes: usize = services.iter().map(|service| service.as_str().len()).sum();
    while services.len() < MOST_SERVICES && bytes < MOST_ID_BYTES {
        let Some(service) = left.pop_first() else { return };
        bytes += service.as_str().len();
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
