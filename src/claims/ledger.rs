//! Every claim of the feed by its id: what whoever changes the index works with, and readers never see.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use super::shelf::{Agent, Shelf};
use crate::clock::UnixTime;
use crate::names::{ClaimId, ConnectionId};
use crate::policy::Claim;

/// The shelves that a change goes to. A claim of a service without one is not held.
pub(super) type Shelves = HashMap<ConnectionId, Arc<Shelf>>;

/// All claims, and what keeps the best of each binding on its shelf. A change of one claim costs the same however many
/// there are, but for the logarithm of those with an end.
#[derive(Default)]
pub(super) struct Ledger {
    claims: HashMap<ClaimId, Arc<Claim>>,
    /// The bindings that have more than one claim, the best one last.
    several: HashMap<(ConnectionId, Agent), BTreeSet<Rank>>,
    /// Claims by their ends, those of the configuration too.
    ends: BTreeMap<UnixTime, HashMap<ClaimId, Arc<Claim>>>,
    /// The ends up to here were told.
    told_until: Option<UnixTime>,
}

/// A claim's place among those of the same binding: the one that ends last is the best.
type Rank = (End, ClaimId);

/// When a claim ends; without an end comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    At(UnixTime),
    Never,
}

impl End {
    pub(super) fn of(claim: &Claim) -> Self {
        claim.expires_at.map_or(Self::Never, Self::At)
    }
}

impl Ledger {
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    pub(super) fn holds(&self, id: &ClaimId) -> bool {
        self.claims.contains_key(id)
    }

    /// The ids of the claims on these services. It looks at all claims.
    pub(super) fn of_services(&self, services: &HashSet<&ConnectionId>) -> HashSet<ClaimId> {
        let theirs = self.claims.values().filter(|claim| services.contains(&claim.service));
        theirs.map(|claim| claim.id.clone()).collect()
    }

    /// Holds a claim, and gives the one that it takes the place of: another one of the same id.
    pub(super) fn add(&mut self, shelves: &Shelves, claim: Claim) -> Option<Arc<Claim>> {
        if !shelves.contains_key(&claim.service)
            || self.claims.get(&claim.id).is_some_and(|old| **old == claim)
        {
            return None;
        }
        let claim = Arc::new(claim);
        let old = self.claims.insert(claim.id.clone(), Arc::clone(&claim));
        if let Some(old) = &old {
            self.remove_end(old);
        }
        self.note_end(&claim);
        match &old {
            Some(old) if binds_alike(old, &claim) => self.settle(shelves, &claim, Some(old), Some(&claim)),
            Some(old) => {
                self.settle(shelves, &claim, None, Some(&claim));
                self.settle(shelves, old, Some(old), None);
            }
            None => self.settle(shelves, &claim, None, Some(&claim)),
        }
        old
    }

    /// Holds a claim no longer, and gives it.
    pub(super) fn remove(&mut self, shelves: &Shelves, id: &ClaimId) -> Option<Arc<Claim>> {
        let claim = self.claims.remove(id)?;
        self.remove_end(&claim);
        self.settle(shelves, &claim, Some(&claim), None);
        Some(claim)
    }

    /// Puts the best claim of one binding on its shelf, `old` being no longer among them and `new` from now on. Both
    /// bind what `like` binds.
    fn settle(&mut self, shelves: &Shelves, like: &Claim, old: Option<&Claim>, new: Option<&Arc<Claim>>) {
        let Some(shelf) = shelves.get(&like.service) else { return };
        let binding = (like.service.clone(), Agent::of(like));
        let mut ranks = self.several.remove(&binding).unwrap_or_else(|| {
            shelf.get(&like.namespace, &like.public_key).map(|only| rank(&only)).into_iter().collect()
        });
        if let Some(old) = old {
            ranks.remove(&rank(old));
        }
        if let Some(new) = new {
            ranks.insert(rank(new));
        }
        match ranks.last().and_then(|(_, id)| self.claims.get(id)) {
            Some(best) => shelf.put(best),
            None => shelf.take(like),
        }
        if ranks.len() > 1 {
            self.several.insert(binding, ranks);
        }
    }

    /// Has the claim's end told by [`Ledger::ended`], until it is removed.
    pub(super) fn note_end(&mut self, claim: &Arc<Claim>) {
        if let Some(end) = claim.expires_at {
            self.ends.entry(end).or_default().insert(claim.id.clone(), Arc::clone(claim));
        }
    }

    fn remove_end(&mut self, claim: &Claim) {
        let Some(end) = claim.expires_at else { return };
        if let Some(together) = self.ends.get_mut(&end) {
            together.remove(&claim.id);
            if together.is_empty() {
                self.ends.remove(&end);
            }
        }
    }

    /// The claims that ended since the last call. They stay: that they have ended is judged at each request, by the
    /// clock of that moment. A clock that is put back has the ends after it told again.
    pub(super) fn ended(&mut self, now: UnixTime) -> Vec<Arc<Claim>> {
        let after = self.told_until.replace(now).filter(|before| *before <= now);
        let Some(after) = after else { return Vec::new() };
        let passed = self.ends.range((Excluded(after), Included(now)));
        passed.flat_map(|(_, together)| together.values().cloned()).collect()
    }

    /// The first end after `now`.
    pub(super) fn next_end(&self, now: UnixTime) -> Option<UnixTime> {
        self.ends.range((Excluded(now), Unbounded)).next().map(|(end, _)| *end)
    }

    /// Whether the claim's end was told.
    pub(super) fn is_told(&self, claim: &Claim) -> bool {
        claim.expires_at.is_some_and(|end| self.told_until.is_some_and(|until| end <= until))
    }
}

fn rank(claim: &Claim) -> Rank {
    (End::of(claim), claim.id.clone())
}

fn binds_alike(one: &Claim, other: &Claim) -> bool {
    (&one.service, &one.namespace, &one.public_key) == (&other.service, &other.namespace, &other.public_key)
}
