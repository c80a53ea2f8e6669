//! The index of approved claims.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::UnixTime;
use crate::names::{ConnectionId, Namespace};
use crate::policy::Claim;
use crate::protocol::PublicKey;

/// What a lookup finds.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// An approved claim. One that has ended is found too, where there is no other: `authorize` judges it.
    Found(Arc<Claim>),
    /// There is none, and the index is fresh enough to say so.
    Absent,
    /// The feed was never received, or is staler than allowed: 503 `AUTH_CLAIMS_UNAVAILABLE`.
    Unavailable,
    /// The same, and the control plane answers, but refuses this gateway or sends what cannot be read:
    /// `AUTH_CLAIMS_LOOKUP_FAILED`.
    Failed,
}

/// How the last reading of the feed failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedFailure {
    /// No answer, or one that says that the control plane itself is in trouble.
    Unreachable,
    /// The control plane refuses this gateway, or its answer cannot be read.
    Refused,
}

/// What readiness, metrics and admin show of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimsState {
    /// The feed was received once, or none is configured.
    pub ready: bool,
    /// Claims held.
    pub entries: usize,
    /// Time since the last good reading of the feed; `None` without a feed or before the first.
    pub age: Option<Duration>,
}

/// Approved claims: those of the configuration, which are never stale, and those of the feed. Reads take no lock.
///
/// Of several claims for the same (namespace, key, service) from one source the one that ends last is held. It is
/// bounded by its sources: the configuration, and `max_entries` of the feed.
pub struct ClaimsIndex {
    fixed: Table,
    feed: ArcSwap<Snapshot>,
    /// Whether the last failure was [`FeedFailure::Refused`].
    refused: AtomicBool,
    max_staleness: Option<Duration>,
    withdrawn: Option<Box<Notify>>,
}

type Notify = dyn Fn(&Claim) + Send + Sync;

impl ClaimsIndex {
    /// An index that has received nothing of the feed yet. `max_staleness` is `None` where there is no feed: the
    /// claims of the configuration alone decide then.
    #[must_use]
    pub fn new(static_claims: Vec<Claim>, max_staleness: Option<Duration>) -> Self {
        Self {
            fixed: Table::new(static_claims),
            feed: ArcSwap::from_pointee(Snapshot { claims: Table::default(), received: None }),
            refused: AtomicBool::new(false),
            max_staleness,
            withdrawn: None,
        }
    }

    /// Calls `notify` for each claim of the feed that ceases to be held: revoked, expired, or gone from a whole reading.
    /// It is called after the index has changed, on whatever thread changed it, and must not wait.
    #[must_use]
    pub fn on_withdrawn(mut self, notify: impl Fn(&Claim) + Send + Sync + 'static) -> Self {
        self.withdrawn = Some(Box::new(notify));
        self
    }

    /// Looks for the claim of this key of this namespace on this service.
    ///
    /// A claim of the configuration that has not ended is found whatever the feed's state. Else the feed decides,
    /// if its last good reading lies no further from `now` than allowed, in either direction: a clock that was
    /// put back must not make an old reading look fresh.
    #[must_use]
    pub fn lookup(
        &self,
        namespace: &Namespace,
        key: &PublicKey,
        service: &ConnectionId,
        now: UnixTime,
    ) -> Lookup {
        let wanted = (namespace, key, service);
        let fixed = self.fixed.get(&wanted);
        if let Some(claim) = fixed.filter(|claim| claim.expires_at.is_none_or(|end| now < end)) {
            return Lookup::Found(Arc::clone(claim));
        }
        let Some(max_staleness) = self.max_staleness else { return found(fixed) };
        let snapshot = self.feed.load();
        if snapshot.is_within(max_staleness, now) {
            found(snapshot.claims.get(&wanted).or(fixed))
        } else if self.refused.load(Ordering::Relaxed) {
            Lookup::Failed
        } else {
            Lookup::Unavailable
        }
    }

    /// Puts a whole good reading of the feed, begun at `at`, in place of the one before, at once for all readers.
    pub fn replace_feed(&self, claims: Vec<Claim>, at: UnixTime) {
        let now = Arc::new(Snapshot { claims: Table::new(claims), received: Some(at) });
        let before = self.feed.swap(Arc::clone(&now));
        self.refused.store(false, Ordering::Relaxed);
        if let Some(withdrawn) = &self.withdrawn {
            let stands = |old: &&Held| now.claims.0.get(*old).is_some_and(|new| new.0 == old.0);
            before.claims.0.iter().filter(|old| !stands(old)).for_each(|old| withdrawn(&old.0));
        }
    }

    /// Remembers how a reading of the feed failed. The last good one stays until it is too old.
    pub fn feed_failed(&self, failure: FeedFailure) {
        self.refused.store(failure == FeedFailure::Refused, Ordering::Relaxed);
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: UnixTime) -> ClaimsState {
        let snapshot = self.feed.load();
        ClaimsState {
            ready: self.max_staleness.is_none() || snapshot.received.is_some(),
            entries: self.fixed.0.len() + snapshot.claims.0.len(),
            age: snapshot.received.map(|at| now.since(at)),
        }
    }
}

impl fmt::Debug for ClaimsIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.feed.load();
        f.debug_struct("ClaimsIndex")
            .field("static_claims", &self.fixed.0.len())
            .field("feed_claims", &snapshot.claims.0.len())
            .field("received", &snapshot.received)
            .finish_non_exhaustive()
    }
}

fn found(claim: Option<&Arc<Claim>>) -> Lookup {
    claim.map_or(Lookup::Absent, |claim| Lookup::Found(Arc::clone(claim)))
}

/// One good reading of the feed.
struct Snapshot {
    claims: Table,
    received: Option<UnixTime>,
}

impl Snapshot {
    fn is_within(&self, max_staleness: Duration, now: UnixTime) -> bool {
        self.received.is_some_and(|at| now.since(at).max(at.since(now)) <= max_staleness)
    }
}

/// Claims by what they bind. Keys come from agents, so the hash is keyed at random (the standard `RandomState`).
#[derive(Default)]
struct Table(HashSet<Held>);

impl Table {
    fn new(claims: Vec<Claim>) -> Self {
        let mut table = HashSet::with_capacity(claims.len());
        for claim in claims {
            let held = Held(Arc::new(claim));
            let lasts_longer = |other: &Held| match (held.0.expires_at, other.0.expires_at) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(end), Some(other)) => end > other,
            };
            if table.get(&held).is_none_or(lasts_longer) {
                table.replace(held);
            }
        }
        Self(table)
    }

    fn get(&self, wanted: &dyn Binding) -> Option<&Arc<Claim>> {
        self.0.get(wanted).map(|held| &held.0)
    }
}

/// A claim, equal to another that binds the same.
struct Held(Arc<Claim>);

/// What a claim binds, so that a set of claims can be asked with borrowed parts, without allocation.
trait Binding {
    fn parts(&self) -> (&Namespace, &PublicKey, &ConnectionId);
}

impl Binding for Held {
    fn parts(&self) -> (&Namespace, &PublicKey, &ConnectionId) {
        (&self.0.namespace, &self.0.public_key, &self.0.service)
    }
}

impl Binding for (&Namespace, &PublicKey, &ConnectionId) {
    fn parts(&self) -> (&Namespace, &PublicKey, &ConnectionId) {
        *self
    }
}

impl<'a> Borrow<dyn Binding + 'a> for Held {
    fn borrow(&self) -> &(dyn Binding + 'a) {
        self
    }
}

impl Hash for dyn Binding + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Binding + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Binding + '_ {}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Held {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Scopes;
    use crate::protocol::Identity;

    const STALENESS: Duration = Duration::from_secs(30);
    const NOW: UnixTime = UnixTime::from_secs(1_000);

    fn key(seed: u8) -> PublicKey {
        *Identity::create(&"alice".parse().unwrap(), [seed; 32], NOW).public_key()
    }

    fn claim(id: &str, seed: u8, service: &str, expires_at: Option<i64>) -> Claim {
        Claim {
            id: id.parse().unwrap(),
            namespace: "alice".parse().unwrap(),
            public_key: key(seed),
            service: service.parse().unwrap(),
            expires_at: expires_at.map(UnixTime::from_secs),
            scopes: Scopes::default(),
        }
    }

    /// The id of the claim found for alice's key 1 on openai, or what was said instead.
    fn found_at(index: &ClaimsIndex, secs: i64) -> String {
        let service = "openai".parse().unwrap();
        match index.lookup(&"alice".parse().unwrap(), &key(1), &service, UnixTime::from_secs(secs)) {
            Lookup::Found(claim) => claim.id.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn claim_is_found_only_for_its_own_namespace_key_and_service() {
        let index = ClaimsIndex::new(vec![claim("cl_1", 1, "openai", None)], None);
        let (alice, robert) = ("alice".parse().unwrap(), "robert".parse().unwrap());
        let (openai, slack) = ("openai".parse().unwrap(), "slack".parse().unwrap());
        assert!(matches!(index.lookup(&alice, &key(1), &openai, NOW), Lookup::Found(_)));
        assert!(matches!(index.lookup(&robert, &key(1), &openai, NOW), Lookup::Absent));
        assert!(matches!(index.lookup(&alice, &key(2), &openai, NOW), Lookup::Absent));
        assert!(matches!(index.lookup(&alice, &key(1), &slack, NOW), Lookup::Absent));
    }

    #[test]
    fn without_a_feed_the_configuration_decides_and_is_ready() {
        let index = ClaimsIndex::new(vec![claim("cl_1", 1, "openai", Some(900))], None);
        assert_eq!(found_at(&index, 899), "cl_1");
        assert_eq!(found_at(&index, 1_000), "cl_1", "the one that has ended is left to authorize");
        assert_eq!(index.state(NOW), ClaimsState { ready: true, entries: 1, age: None });
    }

    #[test]
    fn feed_never_received_is_unavailable_and_not_ready() {
        let index = ClaimsIndex::new(vec![], Some(STALENESS));
        assert_eq!(found_at(&index, 1_000), "Unavailable");
        assert_eq!(index.state(NOW), ClaimsState { ready: false, entries: 0, age: None });
        index.feed_failed(FeedFailure::Refused);
        assert_eq!(found_at(&index, 1_000), "Failed");
        index.feed_failed(FeedFailure::Unreachable);
        assert_eq!(found_at(&index, 1_000), "Unavailable");
    }

    #[test]
    fn last_good_reading_serves_until_it_is_too_old_in_either_direction() {
        let index = ClaimsIndex::new(vec![], Some(STALENESS));
        index.replace_feed(vec![claim("cl_1", 1, "openai", None)], NOW);
        index.feed_failed(FeedFailure::Unreachable);
        assert_eq!(found_at(&index, 1_030), "cl_1");
        assert_eq!(found_at(&index, 1_031), "Unavailable");
        assert_eq!(found_at(&index, 969), "Unavailable");
        assert_eq!(index.state(UnixTime::from_secs(1_031)).age, Some(Duration::from_secs(31)));
        index.feed_failed(FeedFailure::Refused);
        assert_eq!(found_at(&index, 1_030), "cl_1");
        assert_eq!(found_at(&index, 1_031), "Failed");
    }

    #[test]
    fn withdrawn_claim_is_absent_after_the_next_reading() {
        let index = ClaimsIndex::new(vec![], Some(STALENESS));
        index.replace_feed(vec![claim("cl_1", 1, "openai", None)], NOW);
        index.replace_feed(vec![claim("cl_2", 2, "openai", None)], NOW);
        assert_eq!(found_at(&index, 1_000), "Absent");
        assert_eq!(index.state(NOW).entries, 1);
    }

    #[test]
    fn static_claim_is_found_without_the_feed_until_it_ends() {
        let index = ClaimsIndex::new(vec![claim("static", 1, "openai", Some(1_010))], Some(STALENESS));
        assert_eq!(found_at(&index, 1_009), "static");
        assert_eq!(found_at(&index, 1_010), "Unavailable", "the feed may hold another");
        index.replace_feed(vec![], NOW);
        assert_eq!(found_at(&index, 1_010), "static", "the one that has ended is left to authorize");
        index.replace_feed(vec![claim("cl_1", 1, "openai", None)], NOW);
        assert_eq!(found_at(&index, 1_010), "cl_1");
    }

    #[test]
    fn of_several_claims_the_one_that_ends_last_is_held() {
        let ends = [Some(2_000), None, Some(3_000)];
        for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
            let claims = order.iter().map(|i| claim(&format!("cl_{i}"), 1, "openai", ends[*i])).collect();
            assert_eq!(found_at(&ClaimsIndex::new(claims, None), 1_000), "cl_1");
        }
        let claims = [0, 2].iter().map(|i| claim(&format!("cl_{i}"), 1, "openai", ends[*i])).collect();
        assert_eq!(found_at(&ClaimsIndex::new(claims, None), 1_000), "cl_2");
    }
}
