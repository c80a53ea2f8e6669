//! Nonces of signed requests, never twice.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::rates::TooMany;
use super::store::{DatabaseUrl, Store, StoreFault};
use crate::clock::UnixTime;
use crate::names::Namespace;
use crate::protocol::VerifiedSignature;
use crate::replay::{MemoryConfig, MemoryStore, ReplayFault};

/// How long a nonce is remembered: longer than any signature is fresh.
const WINDOW: Duration = Duration::from_secs(600);
/// How long at the most, in memory.
const LONGEST: Duration = Duration::from_secs(750);
/// The part of the memory that one owner's keys may use.
const OWNERS: u32 = 4;
/// The part of that which they may use at once; the rest comes back with the time.
const AT_ONCE: u32 = 10;

/// Why a nonce is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum NonceFault {
    /// It was seen before.
    #[error("{}", ReplayFault::Seen)]
    Seen,
    /// Whether it was seen before is not known.
    #[error("the request was signed before the control plane started; sign it anew")]
    BeforeStart,
    /// There is no room for another.
    #[error("the nonces seen are too many; retry later")]
    Full,
    /// The owner's keys have used up their part.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Whose nonce it is, which says how much room there is for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share<'a> {
    /// A caller with a service API key of this owner: in all of the memory, but of one owner a quarter.
    Owner(&'a Namespace),
    /// Anybody, who can sign with a key of their own making: in the first half, so as not to crowd the others out.
    Strangers,
}

/// What is remembered, and how much of it may be whose.
pub(super) struct Nonces {
    place: Place,
    /// What each owner's keys may use, as many as there are owners: whoever has many keys has not more room for it.
    owners: DefaultKeyedRateLimiter<Namespace>,
}

/// Where they are remembered.
#[derive(Debug)]
enum Place {
    /// Here: a SQLite file has one process.
    Here {
        memory: MemoryStore,
        /// As many as there may be when a stranger's comes.
        strangers: usize,
    },
    /// In the database, since other replicas must know them.
    Shared,
}

impl Nonces {
    /// For a process that begins now, with room for `capacity` nonces.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn of(database: &DatabaseUrl, capacity: usize, now: UnixTime) -> Result<Self, StoreFault> {
        let place = match database {
            DatabaseUrl::Postgres(_) => Place::Shared,
            DatabaseUrl::Sqlite(_) => {
                let mut key = [0; 16];
                getrandom::fill(&mut key).map_err(|_| StoreFault::Random)?;
                let config = MemoryConfig { window: WINDOW, capacity };
                Place::Here { memory: MemoryStore::new(config, now, key), strangers: capacity / 2 }
            }
        };
        Ok(Self { place, owners: RateLimiter::keyed(quota(capacity)) })
    }

    /// How long after `now` it is better to begin to listen: signatures of an earlier moment are refused.
    pub(super) fn wait(&self, now: UnixTime) -> Duration {
        match &self.place {
            Place::Here { memory, .. } => memory.not_before().since(now),
            Place::Shared => Duration::ZERO,
        }
    }

    /// Notes the nonce of a signature.
    ///
    /// # Errors
    /// When it was seen before, or cannot be remembered.
    pub(super) async fn note(
        &self,
        store: &Store,
        namespace: &Namespace,
        signature: &VerifiedSignature,
        share: Share<'_>,
        now: UnixTime,
    ) -> Result<(), NonceFault> {
        self.admit(share)?;
        match &self.place {
            Place::Here { memory, .. } => memory
                .record(namespace, signature.nonce(), signature.created(), now)
                .map_err(|fault| match fault {
                    ReplayFault::Seen => NonceFault::Seen,
                    ReplayFault::BeforeStart => NonceFault::BeforeStart,
                    _ => NonceFault::Full,
                }),
            Place::Shared => {
                let fresh = store.note_nonce(namespace, signature.nonce(), now.plus(WINDOW), now).await?;
                if fresh { Ok(()) } else { Err(NonceFault::Seen) }
            }
        }
    }

    /// Whether there is room for one more of these.
    fn admit(&self, share: Share<'_>) -> Result<(), NonceFault> {
        match (share, &self.place) {
            (Share::Owner(owner), _) => {
                self.owners.check_key(owner).map_err(|until| TooMany::from(until).into())
            }
            (Share::Strangers, Place::Here { memory, strangers }) if memory.len() >= *strangers => {
                Err(NonceFault::Full)
            }
            (Share::Strangers, _) => Ok(()),
        }
    }

    /// Forgets owners whose part is whole again.
    pub(super) fn forget_idle(&self) {
        self.owners.retain_recent();
    }
}

/// So many in the longest time that a nonce is remembered, however they come: at once, and then as the time gives them back.
fn quota(capacity: usize) -> Quota {
    let part = u32::try_from(capacity).unwrap_or(u32::MAX) / OWNERS;
    let at_once = NonZeroU32::new(part / AT_ONCE).unwrap_or(NonZeroU32::MIN);
    let one_after = LONGEST / part.saturating_sub(at_once.get()).max(1);
    Quota::with_period(one_after).unwrap_or(Quota::per_second(NonZeroU32::MAX)).allow_burst(at_once)
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretString;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn sqlite(capacity: usize) -> Nonces {
        Nonces::of(&DatabaseUrl::Sqlite("never-opened.db".into()), capacity, NOW).unwrap()
    }

    fn namespace(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    /// How many of so many of this owner's are let in.
    fn let_in(nonces: &Nonces, owner: &str, of: usize) -> usize {
        (0..of).filter(|_| nonces.admit(Share::Owner(&namespace(owner))).is_ok()).count()
    }

    #[test]
    fn owner_has_a_tenth_of_its_quarter_at_once_on_either_database_and_another_owner_as_much() {
        let postgres = DatabaseUrl::Postgres(SecretString::new("postgres://a/b".to_owned()).unwrap());
        for nonces in [sqlite(400), Nonces::of(&postgres, 400, NOW).unwrap()] {
            assert_eq!(let_in(&nonces, "acme", 100), 10);
            assert_eq!(let_in(&nonces, "globex", 100), 10);
            let Err(NonceFault::TooMany(fault)) = nonces.admit(Share::Owner(&namespace("acme"))) else {
                panic!("the owner's part is not used up")
            };
            // 90 come back in 750 s.
            assert!((1..=9).contains(&fault.retry_after_secs), "{fault:?}");
        }
    }

    #[test]
    fn strangers_have_the_first_half_of_the_memory() {
        let nonces = sqlite(4);
        let Place::Here { memory, .. } = &nonces.place else { panic!("SQLite's are elsewhere") };
        for nonce in ["nonce-1", "nonce-2"] {
            nonces.admit(Share::Strangers).unwrap();
            memory.record(&namespace("acme"), nonce, NOW.secs() + 1, NOW).unwrap();
        }
        assert!(matches!(nonces.admit(Share::Strangers), Err(NonceFault::Full)));
        nonces.admit(Share::Owner(&namespace("acme"))).unwrap();
    }

    #[test]
    fn quarter_of_the_usual_room_is_fifty_thousand_at_once_and_six_hundred_a_second() {
        let quota = quota(2_000_000);
        assert_eq!(quota.burst_size().get(), 50_000);
        let most = 50_000 + LONGEST.as_nanos() / quota.replenish_interval().as_nanos();
        assert!((499_999..=500_001).contains(&most), "{most}");
    }
}
