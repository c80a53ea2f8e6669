//! Nonces seen, in memory.

use std::fmt;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::shard::{Generation, Shard};
use crate::clock::UnixTime;
use crate::names::Namespace;

/// How the store is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// How long a nonce is remembered at least; at most it is a quarter longer. It must not be shorter than the
    /// time for which a signature is fresh: tolerance and skew together.
    pub window: Duration,
    /// Nonces at the most; when so many are held, a new one is refused, and none is forgotten early.
    pub capacity: usize,
}

/// Why a nonce is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayFault {
    /// Seen within the window, or so old that it may have been seen and forgotten: `AUTH_REPLAY_DETECTED`.
    #[error("this nonce was used before; sign the request anew with a fresh nonce")]
    Seen,
    /// Signed before this process began, so an earlier process may have seen it: `AUTH_REPLAY_DETECTED`.
    #[error("the request was signed before the gateway started; sign it anew")]
    BeforeStart,
    /// The store is full: 503 `OVERLOADED`.
    #[error("the replay store is full; retry later")]
    Full,
}

/// A power of two, and many times the number of worker threads, so that two of them seldom want the same lock.
const SHARDS: usize = 64;
/// So many generations make up one window.
const GENERATIONS_PER_WINDOW: i64 = 4;

/// The nonces of the last window: exact, sharded, bounded.
///
/// **What is kept.** Of each nonce the 128-bit SipHash-2-4 of (namespace, nonce) under a key that only this
/// process knows. Equal input gives an equal fingerprint, so a replay is always found. Two different nonces share
/// one by chance only (nobody can look for a pair without the key): with a hundred million held, less than once
/// in 10^30 requests, and then a fresh nonce is refused, never a replay let through.
///
/// **How it forgets.** Each shard holds generations, each of a quarter window, and a nonce goes into the one of
/// the moment when it was seen. A generation is dropped whole when the last of its nonces is a window old; no
/// entry is ever looked for to be removed. With a generation goes the memory that a burst made it take.
///
/// **When the clock jumps.** Backwards nothing is forgotten. Forwards the store forgets as the clock says, and
/// remembers per shard the latest `created` among what it forgot: a signature not newer than that is refused. So
/// no clock, not even one that jumps forwards and back again, makes a signature work twice. With a window not
/// shorter than tolerance and skew a steady clock never meets that rule, for such a signature is stale already.
///
/// **Size.** 19 to 39 bytes a nonce: 17 a slot, of which between 7/16 and 7/8 are taken. Measured at a steady
/// 10,000 a second with a window of 600 s: 7 million held, 174 MB resident, 25 bytes a nonce.
pub struct MemoryStore {
    shards: Vec<Mutex<Shard>>,
    hasher: SipHasher24,
    not_before: UnixTime,
    span_millis: i64,
    capacity: usize,
    held: AtomicUsize,
    /// The generation at which old ones were last dropped.
    turned: AtomicI64,
}

impl MemoryStore {
    /// An empty store of a process that began at `started`. `key` is 16 random bytes, so that nobody can choose
    /// colliding nonces.
    #[must_use]
    pub fn new(config: MemoryConfig, started: UnixTime, key: [u8; 16]) -> Self {
        let window_millis = i64::try_from(config.window.as_millis()).unwrap_or(i64::MAX);
        let whole = window_millis.checked_rem(GENERATIONS_PER_WINDOW) == Some(0);
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            hasher: SipHasher24::new_with_key(&key),
            not_before: UnixTime::from_secs(started.secs().saturating_add(1)),
            span_millis: (window_millis / GENERATIONS_PER_WINDOW + i64::from(!whole)).max(1),
            capacity: config.capacity,
            held: AtomicUsize::new(0),
            turned: AtomicI64::new(i64::MIN),
        }
    }

    /// The first whole second after the start. Signatures created before it are refused: `created` has only whole
    /// seconds, so those of the second in which the process began may have been seen by an earlier process. A
    /// gateway that begins to listen at this moment refuses nobody by that.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Records the nonce of a signature `created` (Unix seconds) at `now`, unless it was seen. Of several threads
    /// with the same nonce exactly one succeeds.
    ///
    /// # Errors
    /// When it was seen or may have been, or when the store is full. A refused nonce leaves no trace.
    pub fn record(
        &self,
        namespace: &Namespace,
        nonce: &str,
        created: i64,
        now: UnixTime,
    ) -> Result<(), ReplayFault> {
        if created < self.not_before.secs() {
            return Err(ReplayFault::BeforeStart);
        }
        let generation = now.millis().div_euclid(self.span_millis);
        self.turn_to(generation);
        let fingerprint = self.fingerprint(namespace, nonce);
        let mut shard = self.shard(fingerprint).ok_or(ReplayFault::Full)?;
        if shard.may_have_forgotten(created) || shard.holds(fingerprint) {
            return Err(ReplayFault::Seen);
        }
        self.reserve()?;
        shard.insert(fingerprint, generation, created);
        Ok(())
    }

    /// Nonces held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The namespace's length goes before it, so that no two pairs make the same bytes.
    fn fingerprint(&self, namespace: &Namespace, nonce: &str) -> u128 {
        let mut hasher = self.hasher;
        hasher.write(&(namespace.as_str().len() as u64).to_le_bytes());
        hasher.write(namespace.as_str().as_bytes());
        hasher.write(nonce.as_bytes());
        hasher.finish128().as_u128()
    }

    /// The shard by the upper bits of the fingerprint; the sets use the lower ones.
    fn shard(&self, fingerprint: u128) -> Option<MutexGuard<'_, Shard>> {
        let index = usize::try_from((fingerprint >> 64) % SHARDS as u128).ok()?;
        self.shards.get(index).map(lock)
    }

    fn reserve(&self) -> Result<(), ReplayFault> {
        let free = |held| (held < self.capacity).then_some(held + 1);
        self.held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .map(|_| ())
            .map_err(|_| ReplayFault::Full)
    }

    /// At the first request of a generation, drops what is too old in all shards, also in those that no request
    /// comes to. One generation back is a thread that took the time a moment ago, and no jump of the clock.
    fn turn_to(&self, generation: i64) {
        let turned = self.turned.load(Ordering::Relaxed);
        if generation == turned || generation.saturating_add(1) == turned {
            return;
        }
        if self.turned.compare_exchange(turned, generation, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        for shard in &self.shards {
            // The sets are freed outside the lock.
            let dropped = lock(shard).take_older_than(generation.saturating_sub(GENERATIONS_PER_WINDOW));
            let count: usize = dropped.iter().map(Generation::len).sum();
            self.held.fetch_sub(count, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("held", &self.len())
            .field("capacity", &self.capacity)
            .field("not_before", &self.not_before)
            .finish_non_exhaustive()
    }
}

/// A thread that panicked while it held the lock left a set that is whole: nothing in there panics half-way.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::super::shard::GENERATIONS_AT_MOST;
    use super::*;

    const WINDOW_SECS: i64 = 600;

    fn store(capacity: usize) -> MemoryStore {
        let window = Duration::from_secs(WINDOW_SECS as u64);
        MemoryStore::new(MemoryConfig { window, capacity }, UnixTime::from_secs(999), [7; 16])
    }

    fn namespace(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    /// Records at `secs` a signature created in the same second.
    fn record(store: &MemoryStore, nonce: &str, secs: i64) -> Result<(), ReplayFault> {
        store.record(&namespace("alice"), nonce, secs, UnixTime::from_secs(secs))
    }

    #[test]
    fn nonce_is_refused_within_the_window_and_taken_a_quarter_after_it() {
        let store = store(10);
        assert_eq!(record(&store, "nonce", 1_000), Ok(()));
        assert_eq!(record(&store, "nonce", 1_000), Err(ReplayFault::Seen));
        assert_eq!(record(&store, "nonce", 1_000 + WINDOW_SECS - 1), Err(ReplayFault::Seen));
        assert_eq!(record(&store, "nonce", 1_000 + WINDOW_SECS + 150), Ok(()));
    }

    #[test]
    fn same_nonce_of_another_namespace_is_another_nonce() {
        let store = store(10);
        let now = UnixTime::from_secs(1_000);
        assert_eq!(store.record(&namespace("alice"), "bcd-nonce", 1_000, now), Ok(()));
        assert_eq!(store.record(&namespace("alicebcd"), "-nonce", 1_000, now), Ok(()));
        assert_eq!(store.record(&namespace("robert"), "bcd-nonce", 1_000, now), Ok(()));
        assert_eq!(store.record(&namespace("alice"), "bcd-nonce", 1_000, now), Err(ReplayFault::Seen));
    }

    #[test]
    fn signature_of_the_second_of_the_start_is_refused_and_of_the_next_taken() {
        let config = MemoryConfig { window: Duration::from_secs(600), capacity: 10 };
        for started in
            [UnixTime::from_millis(5_000), UnixTime::from_millis(5_001), UnixTime::from_millis(5_999)]
        {
            let store = MemoryStore::new(config, started, [0; 16]);
            assert_eq!(store.not_before(), UnixTime::from_secs(6));
            assert_eq!(record(&store, "nonce", 5), Err(ReplayFault::BeforeStart));
            assert_eq!(record(&store, "nonce", 6), Ok(()));
        }
    }

    #[test]
    fn full_store_refuses_and_forgets_nothing_until_time_makes_room() {
        let store = store(3);
        for nonce in ["nonce-1", "nonce-2", "nonce-3"] {
            assert_eq!(record(&store, nonce, 1_000), Ok(()));
        }
        assert_eq!(record(&store, "nonce-4", 1_300), Err(ReplayFault::Full));
        assert_eq!(record(&store, "nonce-1", 1_300), Err(ReplayFault::Seen));
        assert_eq!(store.len(), 3);
        assert_eq!(record(&store, "nonce-4", 1_000 + WINDOW_SECS + 150), Ok(()));
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn clock_that_jumps_back_forgets_nothing() {
        let store = store(10);
        assert_eq!(record(&store, "nonce", 9_000), Ok(()));
        assert_eq!(record(&store, "other", 2_000), Ok(()));
        let early = UnixTime::from_secs(2_000);
        assert_eq!(store.record(&namespace("alice"), "nonce", 9_000, early), Err(ReplayFault::Seen));
        assert_eq!(record(&store, "nonce", 9_000 + WINDOW_SECS - 1), Err(ReplayFault::Seen));
    }

    #[test]
    fn clock_that_jumps_forward_and_back_lets_no_signature_work_twice() {
        let store = store(10);
        assert_eq!(record(&store, "nonce", 2_000), Ok(()));
        // Something in the far future, so that the old generation is dropped.
        assert_eq!(record(&store, "later", 90_000), Ok(()));
        assert_eq!(store.len(), 1);
        assert_eq!(record(&store, "nonce", 2_000), Err(ReplayFault::Seen));
    }

    #[test]
    fn clock_that_jumps_often_opens_only_so_many_generations() {
        let store = store(1_000);
        for jump in (1..500).rev() {
            assert_eq!(
                record(&store, "nonce", 1_000 * jump),
                if jump == 499 { Ok(()) } else { Err(ReplayFault::Seen) }
            );
            record(&store, &format!("nonce-{jump}"), 1_000 * jump).unwrap();
        }
        let most = store.shards.iter().map(|shard| lock(shard).generations.len()).max();
        assert!(most <= Some(GENERATIONS_AT_MOST), "{most:?}");
        for jump in 1..500 {
            assert_eq!(record(&store, &format!("nonce-{jump}"), 1_000 * jump), Err(ReplayFault::Seen));
        }
    }

    #[test]
    fn extreme_times_and_windows_do_not_panic() {
        for window in [Duration::ZERO, Duration::from_millis(3), Duration::MAX] {
            let store =
                MemoryStore::new(MemoryConfig { window, capacity: 9 }, UnixTime::from_secs(0), [1; 16]);
            let taken = [i64::MIN, i64::MAX, 0, i64::MIN, -1].into_iter().filter(|now| {
                store.record(&namespace("alice"), "nonce", i64::MAX, UnixTime::from_millis(*now)).is_ok()
            });
            assert_eq!(taken.count(), 1, "{window:?}");
        }
    }

    #[test]
    fn threads_with_the_same_nonces_are_let_through_once_each() {
        let store = store(100_000);
        let accepted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let taken = |n: &i64| record(&store, &format!("nonce-{n}"), 1_000 + n).is_ok();
                        (0..2_000).filter(taken).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(accepted, 2_000);
    }

    #[test]
    fn debug_shows_neither_key_nor_fingerprints() {
        let store = store(10);
        record(&store, "nonce", 1_000).unwrap();
        let shown = format!("{store:?}");
        assert!(shown.starts_with("MemoryStore { held: 1, capacity: 10"), "{shown}");
        assert!(!shown.contains("seen") && !shown.contains("hasher"), "{shown}");
    }

    proptest! {
        #[test]
        fn steady_clock_agrees_with_a_naive_model(
            steps in prop::collection::vec((0_usize..3, 0_u8..12, 0_i64..200_000), 1..300),
        ) {
            let store = store(1_000);
            let names = ["alice", "bob-1", "carol"].map(namespace);
            let mut seen: HashMap<(usize, u8), i64> = HashMap::new();
            let mut millis = 1_000_000;
            for (name, nonce, forward) in steps {
                millis += forward;
                let now = UnixTime::from_millis(millis);
                let taken = store.record(&names[name], &format!("nonce-{nonce}"), now.secs(), now).is_ok();
                let age = seen.get(&(name, nonce)).map(|at| millis - at);
                if age.is_none_or(|age| age > WINDOW_SECS * 1_250) {
                    prop_assert!(taken);
                } else if age.is_some_and(|age| age <= WINDOW_SECS * 1_000) {
                    prop_assert!(!taken);
                }
                if taken {
                    seen.insert((name, nonce), millis);
                }
            }
        }

        #[test]
        fn no_clock_makes_a_signature_work_twice(
            steps in prop::collection::vec((0_u8..4, 0_i64..3_000, -300_i64..30), 1..300),
        ) {
            let store = store(1_000);
            let mut accepted = HashSet::new();
            for (nonce, at, created_before) in steps {
                let (now, created) = (UnixTime::from_secs(2_000 + at), 2_000 + at + created_before);
                let taken = store.record(&namespace("alice"), &format!("nonce-{nonce}"), created, now).is_ok();
                prop_assert!(!taken || accepted.insert((nonce, created)));
            }
            let held: usize = store.shards.iter()
                .flat_map(|shard| lock(shard).generations.iter().map(Generation::len).collect::<Vec<_>>()).sum();
            prop_assert_eq!(held, store.len());
        }
    }
}
