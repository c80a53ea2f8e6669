//! The claims of one service as readers find them.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::state::{FeedFailure, Told};
use crate::clock::UnixTime;
use crate::names::Namespace;
use crate::policy::Claim;
use crate::protocol::PublicKey;

/// Locks of one service's claims. A reader shares one of them for the length of a comparison.
const SHARDS: usize = 32;

/// The claims of one service: of each agent the one that ends last, and how fresh that is.
pub(super) struct Shelf {
    /// Keys come from agents, so the hash is keyed at random (the standard `RandomState`).
    best: DashMap<Agent, Arc<Claim>>,
    pub(super) freshness: Freshness,
    told: Mutex<Told>,
}

impl Shelf {
    pub(super) fn new(told: Told) -> Self {
        Self {
            best: DashMap::with_shard_amount(SHARDS),
            freshness: Freshness::default(),
            told: Mutex::new(told),
        }
    }

    pub(super) fn get(&self, namespace: &Namespace, key: &PublicKey) -> Option<Arc<Claim>> {
        let wanted: &dyn Bound = &(namespace, key);
        self.best.view(wanted, |_, claim| Arc::clone(claim))
    }

    /// Readers see the one before or this one, never neither.
    pub(super) fn put(&self, claim: &Arc<Claim>) {
        self.best.insert(Agent::of(claim), Arc::clone(claim));
    }

    pub(super) fn take(&self, claim: &Claim) {
        let wanted: &dyn Bound = &(&claim.namespace, &claim.public_key);
        self.best.remove(wanted);
    }

    pub(super) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// When the feed's state was last known to be whole, and how the last try went.
pub(super) struct Freshness {
    /// Milliseconds; the least number: never.
    received: AtomicI64,
    /// Whether the last failure was [`FeedFailure::Refused`].
    refused: AtomicBool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { received: AtomicI64::new(i64::MIN), refused: AtomicBool::new(false) }
    }
}

impl Freshness {
    /// What was put on the shelf before is seen by whoever sees this.
    pub(super) fn receive(&self, at: UnixTime) {
        self.received.store(at.millis(), Ordering::Release);
        self.refused.store(false, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, failure: FeedFailure) {
        self.refused.store(failure == FeedFailure::Refused, Ordering::Relaxed);
    }

    pub(super) fn received(&self) -> Option<UnixTime> {
        Some(self.received.load(Ordering::Acquire)).filter(|at| *at != i64::MIN).map(UnixTime::from_millis)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// In either direction: a clock that was put back must not make an old reading look fresh.
    pub(super) fn is_within(&self, max_staleness: Duration, now: UnixTime) -> bool {
        self.received().is_some_and(|at| now.since(at).max(at.since(now)) <= max_staleness)
    }
}

/// Whom a claim is for.
#[derive(Clone)]
pub(super) struct Agent {
    namespace: Namespace,
    key: PublicKey,
}

impl Agent {
    pub(super) fn of(claim: &Claim) -> Self {
        Self { namespace: claim.namespace.clone(), key: claim.public_key }
    }
}

/// The parts of an [`Agent`], so that a map can be asked with borrowed ones, without allocation.
pub(super) trait Bound {
    fn parts(&self) -> (&Namespace, &PublicKey);
}

impl Bound for Agent {
    fn parts(&self) -> (&Namespace, &PublicKey) {
        (&self.namespace, &self.key)
    }
}

impl Bound for (&Namespace, &PublicKey) {
    fn parts(&self) -> (&Namespace, &PublicKey) {
        *self
    }
}

impl<'a> Borrow<dyn Bound + 'a> for Agent {
    fn borrow(&self) -> &(dyn Bound + 'a) {
        self
    }
}

impl Hash for dyn Bound + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Bound + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Bound + '_ {}

impl Hash for Agent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Agent {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Agent {}
