//! What the open streams of the feed share: their places, what is new in the feed, and the look at whether each may
//! still be there.
//!
//! If every stream asked by itself at every heartbeat and every change, the database would hear as many questions as there
//! are streams. Two tasks ask for all of them: one what is new in the feed, the other which of their keys are in force and
//! which services are there. That one asks again at once for an owner whose keys open less than before.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::domain::feed::Cursor;
use super::health::Health;
use super::lock::lock;
use super::places::{Place, Places};
use super::recent::Recent;
use super::store::{Signal, Store, StoreFault, in_time};
use crate::clock::{Clock, UnixTime};
use crate::names::{Namespace, ServiceSlug};

/// Between two looks at all streams.
const LOOK: Duration = Duration::from_secs(2);
/// How long a look counts: where the database fails or hangs, streams do not go on with what was.
const COUNTS: Duration = Duration::from_secs(4);
/// Between two readings of the feed: the first change after a pause goes out at once, and what follows it closely goes
/// together.
const GATHER: Duration = Duration::from_millis(20);

/// What a stream was let in with.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The SHA-256 of its service API key, in lower-case hexadecimal digits.
    pub(super) key_sha256: String,
    /// Who owns the services.
    pub(super) owner: Namespace,
    /// The services that it tells of.
    pub(super) services: Vec<ServiceSlug>,
    /// Whether the key opens all services of the owner; one that does not is gone with its service.
    pub(super) all_services: bool,
}

/// The open streams.
pub(super) struct Streams {
    places: Arc<Places>,
    /// By their numbers; as many as there are places.
    open: Mutex<HashMap<u64, Held>>,
    numbers: AtomicU64,
    /// When the last look that went well began.
    looked: Mutex<Option<Instant>>,
    /// What is new in the feed.
    pub(super) recent: Recent,
}

struct Held {
    admitted: Arc<Admitted>,
    cut: watch::Sender<bool>,
}

/// A stream's place among the others, given back when it is dropped, and word of whether it may stay.
pub(super) struct Seat {
    number: u64,
    streams: Arc<Streams>,
    cut: watch::Receiver<bool>,
    _place: Place,
}

impl Streams {
    /// Places for so many, and for so many of one owner.
    pub(super) fn new(most: usize, most_of_owner: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Places::new(most, most_of_owner),
            open: Mutex::default(),
            numbers: AtomicU64::new(0),
            looked: Mutex::new(None),
            recent: Recent::default(),
        })
    }

    /// A seat for a stream; `None` where its owner, or everybody, has as many as there may be.
    pub(super) fn enter(self: &Arc<Self>, admitted: Arc<Admitted>) -> Option<Seat> {
        let place = self.places.take(&admitted.owner)?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, cut) = watch::channel(false);
        lock(&self.open).insert(number, Held { admitted, cut: sender });
        Some(Seat { number, streams: Arc::clone(self), cut, _place: place })
    }

    /// Whether all streams that may not be there were cut a moment before `now`.
    pub(super) fn looked(&self, now: Instant) -> bool {
        lock(&self.looked).is_some_and(|at| now.saturating_duration_since(at) < COUNTS)
    }

    /// Whether `at` was the end of the feed a moment before `now`.
    pub(super) fn ends_at(&self, at: &Cursor, now: Instant) -> bool {
        self.recent.ends_at(at, now, COUNTS)
    }

    async fn look_at_all(&self, store: &Store, clock: &Clock) -> Result<(), StoreFault> {
        let begun = clock.instant();
        self.look_at(store, clock, |_| true).await?;
        *lock(&self.looked) = Some(begun);
        Ok(())
    }

    /// Cuts those of these streams that may no longer be there.
    async fn look_at(
        &self,
        store: &Store,
        clock: &Clock,
        which: impl Fn(&Admitted) -> bool,
    ) -> Result<(), StoreFault> {
        let (numbers, admitted): (Vec<u64>, Vec<Arc<Admitted>>) = lock(&self.open)
            .iter()
            .filter(|(_, held)| which(&held.admitted))
            .map(|(number, held)| (*number, Arc::clone(&held.admitted)))
            .unzip();
        let allowed = allowed(store, &admitted, clock.now()).await?;
        let open = lock(&self.open);
        for (number, _) in numbers.iter().zip(allowed).filter(|(_, allowed)| !allowed) {
            if let Some(held) = open.get(number) {
                held.cut.send_replace(true);
            }
        }
        Ok(())
    }
}

/// Which of these may still be there: their keys are in force, and their services are there. The keys count as used.
///
/// # Errors
/// When the database fails.
pub(super) async fn allowed(
    store: &Store,
    streams: &[Arc<Admitted>],
    now: UnixTime,
) -> Result<Vec<bool>, StoreFault> {
    let keys: BTreeSet<&str> = streams.iter().map(|stream| stream.key_sha256.as_str()).collect();
    let in_force = store.keys_in_force(keys, now).await?;
    let owners: BTreeSet<&Namespace> =
        streams.iter().filter(|stream| stream.all_services).map(|stream| &stream.owner).collect();
    let there = store.slugs_of(owners).await?;
    let all_there = |stream: &Admitted| {
        let there = there.get(stream.owner.as_str());
        there.is_some_and(|there| stream.services.iter().all(|slug| there.contains(slug.as_str())))
    };
    let allowed = |stream: &Arc<Admitted>| {
        in_force.contains(&stream.key_sha256) && (!stream.all_services || all_there(stream))
    };
    Ok(streams.iter().map(allowed).collect())
}

/// Looks after the open streams, for ever.
pub(super) async fn look_after(streams: Arc<Streams>, store: Store, clock: Clock) {
    let mut health = Health::new(
        "the keys of open streams cannot be looked at; the streams end until they can",
        "the keys of open streams can be looked at again",
    );
    let mut signals = store.signals();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let owner = tokio::select! {
            _ = tick.tick() => None,
            signal = signals.recv() => match signal {
                Ok(Signal::Access { owner }) => Some(owner),
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            },
        };
        let looked = match owner {
            Some(owner) => {
                in_time(streams.look_at(&store, &clock, |held| held.owner.as_str() == owner)).await
            }
            None => in_time(streams.look_at_all(&store, &clock)).await,
        };
        health.note(&looked);
    }
}

/// Reads what is new in the feed whenever it moves, for ever; and between times too, since the word of a change may be
/// lost, and so that a heartbeat can rest on it.
pub(super) async fn follow(streams: Arc<Streams>, store: Store, clock: Clock) {
    let mut health = Health::new(
        "the feed cannot be read for the open streams; they read it themselves, or end",
        "the feed can be read for the open streams again",
    );
    let mut head = store.feed_head();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            moved = head.changed() => if moved.is_err() { return },
        }
        // Before the reading: what moves meanwhile is read again.
        head.borrow_and_update();
        health.note(&streams.recent.read(&store, &clock).await);
        tokio::time::sleep(GATHER).await;
    }
}

impl Seat {
    /// Whether the stream may no longer be there.
    pub(super) fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Waits until it may no longer be there.
    pub(super) async fn cut(&mut self) {
        // The sender lives as long as this does.
        let _ = self.cut.wait_for(|cut| *cut).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.streams.open).remove(&self.number);
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &lock(&self.open).len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::domain::service::{ServiceMode, ServiceRecord};
    use crate::control::store::{DatabaseUrl, NewKey, NewService};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const WIDE: &str = "digest of a key for all services";

    fn acme() -> Namespace {
        "acme".parse().unwrap()
    }

    /// A store in which `acme` has the services `mail` and `calendar`, each with a key whose digest is the service's id;
    /// and a key for both.
    async fn stage(directory: &tempfile::TempDir) -> (Store, Vec<ServiceRecord>) {
        let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("sigilum.db"))).await.unwrap();
        store.add_owner(&acme(), "root@acme.example", NOW).await.unwrap();
        let mut services = Vec::new();
        for slug in ["mail", "calendar"] {
            let new = NewService {
                slug: slug.parse().unwrap(),
                name: slug.to_owned(),
                domain: "acme.example".to_owned(),
                description: String::new(),
                mode: ServiceMode::Gateway,
                upstream_url: None,
            };
            let service = store.add_service(&acme(), new, 5, NOW).await.unwrap().unwrap();
            add_key(&store, &service, service.id.as_str(), false).await;
            services.push(service);
        }
        add_key(&store, &services[0], WIDE, true).await;
        (store, services)
    }

    async fn add_key(store: &Store, service: &ServiceRecord, sha256: &str, all_services: bool) {
        let (name, prefix) = ("key".to_owned(), "sk_live_abcd".to_owned());
        let new = NewKey { name, prefix, sha256: sha256.to_owned(), all_services };
        store.add_key(&acme(), &service.id, new, 5, NOW).await.unwrap().unwrap();
    }

    fn enter(streams: &Arc<Streams>, key_sha256: &str, services: &[&str]) -> Seat {
        let admitted = Admitted {
            key_sha256: key_sha256.to_owned(),
            owner: acme(),
            services: services.iter().map(|slug| slug.parse().unwrap()).collect(),
            all_services: key_sha256 == WIDE,
        };
        streams.enter(Arc::new(admitted)).unwrap()
    }

    #[tokio::test]
    async fn look_cuts_streams_whose_key_or_service_is_gone_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let ((store, services), clock) = (stage(&directory).await, Clock::fixed(NOW));
        let streams = Streams::new(10, 10);
        let seats = [
            enter(&streams, services[0].id.as_str(), &["mail"]),
            enter(&streams, services[1].id.as_str(), &["calendar"]),
            enter(&streams, WIDE, &["mail"]),
            enter(&streams, WIDE, &["mail", "calendar"]),
        ];
        let cut = || seats.iter().map(Seat::is_cut).collect::<Vec<_>>();
        streams.look_at_all(&store, &clock).await.unwrap();
        assert_eq!(cut(), [false; 4]);
        store.delete_service(&acme(), &services[1].id, NOW).await.unwrap().unwrap();
        streams.look_at(&store, &clock, |held| held.owner.as_str() != "acme").await.unwrap();
        assert_eq!(cut(), [false; 4], "nobody looked at this owner");
        streams.look_at(&store, &clock, |held| held.owner.as_str() == "acme").await.unwrap();
        assert_eq!(cut(), [false, true, false, true]);
        let keys = store.keys(&acme(), &services[0].id).await.unwrap().unwrap();
        assert!(keys.iter().all(|key| key.last_used_at == Some(NOW)), "an open stream uses its key");
        let wide = keys.iter().find(|key| key.all_services).unwrap();
        store.revoke_key(&acme(), &services[0].id, &wide.id).await.unwrap().unwrap();
        streams.look_at_all(&store, &clock).await.unwrap();
        assert_eq!(cut(), [false, true, true, true]);
        drop(seats);
        assert!(lock(&streams.open).is_empty());
    }

    #[tokio::test]
    async fn look_counts_for_a_while_and_one_that_failed_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let ((store, _), clock) = (stage(&directory).await, Clock::fixed(NOW));
        let streams = Streams::new(10, 10);
        let _seat = enter(&streams, WIDE, &["mail"]);
        assert!(!streams.looked(clock.instant()));
        let before = clock.instant();
        streams.look_at_all(&store, &clock).await.unwrap();
        let after = clock.instant();
        assert!(streams.looked(before));
        assert!(!streams.looked(after + COUNTS));
        store.close().await;
        streams.look_at_all(&store, &clock).await.unwrap_err();
        assert!(!streams.looked(after + COUNTS));
    }
}
