//! The index of approved claims.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::ledger::{End, Ledger, Shelves};
use super::shelf::{Agent, Bound, Freshness, Shelf};
use super::state::{ClaimsSource, ClaimsState, FeedFailure, ServiceClaims, Told};
use crate::clock::UnixTime;
use crate::names::{ClaimId, ConnectionId, Namespace};
use crate::policy::Claim;
use crate::protocol::PublicKey;

/// What a lookup finds.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// An approved claim. One that has ended is found too, where there is no other: `authorize` judges it.
    Found(Arc<Claim>),
    /// There is none, and the index is fresh enough to say so.
    Absent,
    /// The service's claims were never received, or are staler than allowed: 503 `AUTH_CLAIMS_UNAVAILABLE`.
    Unavailable,
    /// The same, and the control plane answers, but refuses this gateway or sends what cannot be read:
    /// `AUTH_CLAIMS_LOOKUP_FAILED`.
    Failed,
}

/// One change of the approved claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Approved, or approved in another form than before.
    Approved(Claim),
    /// Revoked or expired.
    Withdrawn(ClaimId),
}

/// There are more claims than may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) most: usize,
}

type Notify = Box<dyn Fn(&Claim) + Send + Sync>;

/// Approved claims: those of the configuration, which are never stale, and those of the feed, each service's as fresh
/// as they were received.
///
/// A change costs the same among a hundred claims and among a hundred thousand, and readers of other claims do not
/// notice it; a reader waits at most while one entry is written. Of several claims for the same (namespace, key,
/// service) from one source all are held, and the one that ends last is found. The index is bounded by its sources:
/// the configuration, and `max_entries` of the feed.
pub struct ClaimsIndex {
    fixed: HashMap<ConnectionId, HashMap<Agent, Arc<Claim>>>,
    fixed_count: usize,
    shelves: ArcSwap<Shelves>,
    /// What is true of services without a shelf.
    elsewhere: Freshness,
    /// Held by who changes claims or shelves.
    ledger: Mutex<Ledger>,
    /// Claims of the feed, to be read without the lock.
    held: AtomicUsize,
    most: AtomicUsize,
    /// The services were told, so that no others are awaited.
    expected: AtomicBool,
    ready: AtomicBool,
    without_key: Mutex<Vec<ConnectionId>>,
    max_staleness: Option<Duration>,
    withdrawn: Vec<Notify>,
}

impl ClaimsIndex {
    /// An index that has received nothing of the feed yet. `max_staleness` is `None` where there is no feed: the
    /// claims of the configuration alone decide then.
    #[must_use]
    pub fn new(static_claims: Vec<Claim>, max_staleness: Option<Duration>) -> Self {
        let mut ledger = Ledger::default();
        let mut fixed: HashMap<ConnectionId, HashMap<Agent, Arc<Claim>>> = HashMap::new();
        for claim in static_claims.into_iter().map(Arc::new) {
            ledger.note_end(&claim);
            let of_service = fixed.entry(claim.service.clone()).or_default();
            let agent = Agent::of(&claim);
            if of_service.get(&agent).is_none_or(|held| End::of(&claim) > End::of(held)) {
                of_service.insert(agent, claim);
            }
        }
        Self {
            fixed_count: fixed.values().map(HashMap::len).sum(),
            fixed,
            shelves: ArcSwap::default(),
            elsewhere: Freshness::default(),
            ledger: Mutex::new(ledger),
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            expected: AtomicBool::new(false),
            ready: AtomicBool::new(max_staleness.is_none()),
            without_key: Mutex::default(),
            max_staleness,
            withdrawn: Vec::new(),
        }
    }

    /// Calls `notify` for each claim that ceases to hold: revoked, expired, gone from a whole reading, or given another
    /// form under the same id; and where its service is served no longer. For a claim of the configuration too, when
    /// it ends. It is called after the index has changed, on whatever thread changed it, and must not wait. Another
    /// claim of the same agent on the same service may stand: [`ClaimsIndex::lookup`] tells.
    ///
    /// Who asks for it more than once has each called. Ends are noticed while [`ClaimsIndex::attend`] runs.
    #[must_use]
    pub fn on_withdrawn(mut self, notify: impl Fn(&Claim) + Send + Sync + 'static) -> Self {
        self.withdrawn.push(Box::new(notify));
        self
    }

    /// Looks for the claim of this key of this namespace on this service.
    ///
    /// A claim of the configuration that has not ended is found whatever the feed's state. Else the feed decides, if
    /// what it says of this service was last known to be whole no further from `now` than allowed, in either
    /// direction: a clock that was put back must not make an old reading look fresh.
    #[must_use]
    pub fn lookup(
        &self,
        namespace: &Namespace,
        key: &PublicKey,
        service: &ConnectionId,
        now: UnixTime,
    ) -> Lookup {
        let wanted: &dyn Bound = &(namespace, key);
        let fixed = self.fixed.get(service).and_then(|claims| claims.get(wanted));
        if let Some(claim) = fixed.filter(|claim| claim.expires_at.is_none_or(|end| now < end)) {
            return Lookup::Found(Arc::clone(claim));
        }
        let Some(max_staleness) = self.max_staleness else { return found(fixed.cloned()) };
        let shelves = self.shelves.load();
        let shelf = shelves.get(service);
        let freshness = shelf.map_or(&self.elsewhere, |shelf| &shelf.freshness);
        if freshness.is_within(max_staleness, now) {
            found(shelf.and_then(|shelf| shelf.get(namespace, key)).or_else(|| fixed.cloned()))
        } else if freshness.is_refused() {
            Lookup::Failed
        } else {
            Lookup::Unavailable
        }
    }

    /// Puts a whole good reading of all services, begun at `at`, in place of what was held of the feed. A claim that
    /// stands before and after is found at every moment between. The number of claims is not looked at.
    pub fn replace_feed(&self, claims: Vec<Claim>, at: UnixTime) {
        let mut services: HashSet<ConnectionId> = claims.iter().map(|claim| claim.service.clone()).collect();
        services.extend(self.shelves.load().keys().cloned());
        let services: Vec<ConnectionId> = services.into_iter().collect();
        let mut gone = Vec::new();
        {
            let mut ledger = self.lock();
            self.shelve(&mut ledger, &services, ClaimsSource::None, &mut gone);
            let before = ledger.of_services(&services.iter().collect());
            gone.extend(self.put(&mut ledger, &services, before, claims, at));
        }
        self.elsewhere.receive(at);
        self.ready.store(true, Ordering::Release);
        self.tell(&gone);
    }

    /// Applies changes, in their order, and of several of the same claim the last alone: what was approved and
    /// withdrawn again is never found. Claims of services that are not served are left out, and so are those for which
    /// there is no place: `at` is when they arrived.
    pub fn apply(&self, deltas: Vec<Delta>, at: UnixTime) {
        let mut last = HashMap::new();
        for (number, delta) in deltas.iter().enumerate() {
            let id = match delta {
                Delta::Approved(claim) => &claim.id,
                Delta::Withdrawn(id) => id,
            };
            last.insert(id.clone(), number);
        }
        let last: HashSet<usize> = last.into_values().collect();
        let (mut gone, mut left_out) = (Vec::new(), 0_usize);
        {
            let (mut ledger, shelves) = (self.lock(), self.shelves.load_full());
            let most = self.most.load(Ordering::Relaxed);
            for (_, delta) in deltas.into_iter().enumerate().filter(|(number, _)| last.contains(number)) {
                match delta {
                    Delta::Approved(claim) if ledger.len() >= most && !ledger.holds(&claim.id) => {
                        left_out += 1
                    }
                    Delta::Approved(claim) => gone.extend(ledger.add(&shelves, claim)),
                    Delta::Withdrawn(id) => gone.extend(ledger.remove(&shelves, &id)),
                }
            }
            self.held.store(ledger.len(), Ordering::Relaxed);
            gone.retain(|claim| !ledger.is_told(claim));
        }
        if left_out > 0 {
            tracing::warn!(left_out, %at, "approved claims are left out: GATEWAY_CLAIMS_CACHE_MAX_APPROVED are held");
        }
        self.tell(&gone);
    }

    /// Remembers how a try to receive the claims of all services failed. The last good state stays until it is too old.
    pub fn feed_failed(&self, failure: FeedFailure) {
        self.elsewhere.fail(failure);
        self.shelves.load().values().for_each(|shelf| shelf.freshness.fail(failure));
    }

    /// Tells those who asked by [`ClaimsIndex::on_withdrawn`] of the claims that ended since the last call, and gives
    /// how long it takes until the next one ends, a second at the longest.
    pub fn tell_ended(&self, now: UnixTime) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        let mut ledger = self.lock();
        let (ended, next) = (ledger.ended(now), ledger.next_end(now));
        drop(ledger);
        self.tell(&ended);
        next.map_or(LONGEST, |end| end.since(now).clamp(Duration::from_millis(1), LONGEST))
    }

    /// The state at `now`.
    #[must_use]
    pub fn state(&self, now: UnixTime) -> ClaimsState {
        let shelves = self.shelves.load();
        let mut state = ClaimsState {
            ready: self.ready.load(Ordering::Acquire),
            entries: self.fixed_count + self.held.load(Ordering::Relaxed),
            without_key: self.without_key.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            connected: self.max_staleness.is_some(),
            ..ClaimsState::default()
        };
        for shelf in shelves.values() {
            let told = shelf.told();
            state.source = match (state.source, told.source) {
                (ClaimsSource::Poll, _) | (_, ClaimsSource::Poll) => ClaimsSource::Poll,
                (source, ClaimsSource::None) => source,
                (_, source) => source,
            };
            state.connected &= told.connected;
            state.last_event_at = state.last_event_at.max(told.last_event_at);
            state.problem = state.problem.or(told.problem);
        }
        let received: Option<Vec<UnixTime>> =
            shelves.values().map(|shelf| shelf.freshness.received()).collect();
        let oldest = received.and_then(|all| all.into_iter().min().or_else(|| self.elsewhere.received()));
        let nothing_awaited = shelves.is_empty() && self.expected.load(Ordering::Relaxed);
        state.age = oldest.map(|at| now.since(at)).or(nothing_awaited.then_some(Duration::ZERO));
        state
    }

    /// What is known of this service's claims; `None` without a feed. A service that is not asked for yet has nothing
    /// received.
    #[must_use]
    pub fn service_state(&self, service: &ConnectionId) -> Option<ServiceClaims> {
        self.max_staleness?;
        let shelves = self.shelves.load();
        let Some(shelf) = shelves.get(service) else { return Some(ServiceClaims::default()) };
        let Told { connected, problem, .. } = shelf.told();
        Some(ServiceClaims { received: shelf.freshness.received().is_some(), connected, problem })
    }
}

/// What the feed does with the index.
impl ClaimsIndex {
    /// Holds at the most so many claims of the feed from now on.
    pub(super) fn hold_at_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// These services are served from now on, their claims to come by `source`, and no others: what is held of others
    /// goes. `without_key` are served, and nothing can be known of them.
    pub(super) fn expect(
        &self,
        services: &[ConnectionId],
        without_key: Vec<ConnectionId>,
        source: ClaimsSource,
    ) {
        let mut gone = Vec::new();
        self.shelve(&mut self.lock(), services, source, &mut gone);
        *self.without_key.lock().unwrap_or_else(PoisonError::into_inner) = without_key;
        self.expected.store(true, Ordering::Relaxed);
        self.see_whether_ready();
        self.tell(&gone);
    }

    /// Puts whole good readings of these services in place of what was held of them, as [`ClaimsIndex::replace_feed`]
    /// does for all. Services that are not expected any more are left alone.
    ///
    /// # Errors
    /// When there are more claims than may be held; nothing changes then.
    pub(super) fn replace(
        &self,
        services: &[ConnectionId],
        claims: Vec<Claim>,
        at: UnixTime,
    ) -> Result<(), TooMany> {
        let gone;
        {
            let mut ledger = self.lock();
            let most = self.most.load(Ordering::Relaxed);
            let before = ledger.of_services(&services.iter().collect());
            if claims.len() > most.saturating_sub(ledger.len() - before.len()) {
                return Err(TooMany { most });
            }
            gone = self.put(&mut ledger, services, before, claims, at);
        }
        self.see_whether_ready();
        self.tell(&gone);
        Ok(())
    }

    /// What is held of these services is whole at `at`: the control plane has said so.
    pub(super) fn heard(&self, services: &[ConnectionId], source: ClaimsSource, at: UnixTime) {
        self.each(services, |shelf| {
            if shelf.freshness.received().is_some() {
                shelf.freshness.receive(at);
            }
            shelf.tell(|told| {
                *told = Told { source, connected: true, last_event_at: Some(at), problem: None }
            });
        });
    }

    /// An event came for these services; of more than that nothing is known.
    pub(super) fn event(&self, services: &[ConnectionId], at: UnixTime) {
        self.each(services, |shelf| shelf.tell(|told| told.last_event_at = Some(at)));
    }

    /// Remembers how a try to receive the claims of these services failed, and why.
    pub(super) fn failed(&self, services: &[ConnectionId], failure: FeedFailure, problem: &str) {
        self.each(services, |shelf| {
            shelf.freshness.fail(failure);
            shelf.tell(|told| {
                told.connected = false;
                told.problem = Some(problem.to_owned());
            });
        });
        self.see_whether_ready();
    }

    /// The claims of these services are received, but not as they should be. What is worse is not written over.
    pub(super) fn hindered(&self, services: &[ConnectionId], problem: &str) {
        self.each(services, |shelf| {
            shelf.tell(|told| _ = told.problem.get_or_insert_with(|| problem.to_owned()));
        });
    }

    /// Whether the claims of this service were received once.
    pub(super) fn has_received(&self, service: &ConnectionId) -> bool {
        self.shelves.load().get(service).is_some_and(|shelf| shelf.freshness.received().is_some())
    }

    pub(super) fn is_without_feed(&self) -> bool {
        self.max_staleness.is_none()
    }

    pub(super) fn holds(&self, id: &ClaimId) -> bool {
        self.lock().holds(id)
    }

    fn each(&self, services: &[ConnectionId], act: impl Fn(&Shelf)) {
        let shelves = self.shelves.load();
        services.iter().filter_map(|service| shelves.get(service)).for_each(|shelf| act(shelf));
    }

    /// Gives these services shelves, keeps those that have one, and empties and removes all others.
    fn shelve(
        &self,
        ledger: &mut Ledger,
        services: &[ConnectionId],
        source: ClaimsSource,
        gone: &mut Vec<Arc<Claim>>,
    ) {
        let before = self.shelves.load_full();
        let shelf = |service: &ConnectionId| {
            let known = before.get(service).cloned();
            known.unwrap_or_else(|| Arc::new(Shelf::new(Told { source, ..Told::default() })))
        };
        let after: Shelves = services.iter().map(|service| (service.clone(), shelf(service))).collect();
        let lost: HashSet<&ConnectionId> =
            before.keys().filter(|service| !after.contains_key(*service)).collect();
        let ids = if lost.is_empty() { HashSet::new() } else { ledger.of_services(&lost) };
        if after.len() != before.len() || !lost.is_empty() {
            self.shelves.store(Arc::new(after));
        }
        gone.extend(ids.iter().filter_map(|id| ledger.remove(&before, id)));
        gone.retain(|claim| !ledger.is_told(claim));
        self.held.store(ledger.len(), Ordering::Relaxed);
    }

    /// Puts claims in place of those `before`, and gives those that are gone. New ones first, then those that go, so that
    /// a binding whose claim changed has one all the time.
    fn put(
        &self,
        ledger: &mut Ledger,
        services: &[ConnectionId],
        before: HashSet<ClaimId>,
        claims: Vec<Claim>,
        at: UnixTime,
    ) -> Vec<Arc<Claim>> {
        let (shelves, mut absent, mut gone) = (self.shelves.load_full(), before, Vec::new());
        for claim in claims {
            absent.remove(&claim.id);
            gone.extend(ledger.add(&shelves, claim));
        }
        gone.extend(absent.iter().filter_map(|id| ledger.remove(&shelves, id)));
        gone.retain(|claim| !ledger.is_told(claim));
        self.held.store(ledger.len(), Ordering::Relaxed);
        services
            .iter()
            .filter_map(|service| shelves.get(service))
            .for_each(|shelf| shelf.freshness.receive(at));
        gone
    }

    /// Once ready, ready: a service that is added later does not take the others out of service. Neither does one that
    /// the control plane refuses, as long as it does not refuse all.
    fn see_whether_ready(&self) {
        if !self.expected.load(Ordering::Relaxed) {
            return;
        }
        let shelves = self.shelves.load();
        let received = |shelf: &Arc<Shelf>| shelf.freshness.received().is_some();
        let answered = shelves.values().all(|shelf| received(shelf) || shelf.freshness.is_refused());
        if answered && (shelves.is_empty() || shelves.values().any(received)) {
            self.ready.store(true, Ordering::Release);
        }
    }

    fn tell(&self, gone: &[Arc<Claim>]) {
        for claim in gone {
            self.withdrawn.iter().for_each(|notify| notify(claim));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A panic between two steps leaves a claim too many on a shelf; the next whole reading mends it.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClaimsIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimsIndex")
            .field("static_claims", &self.fixed_count)
            .field("feed_claims", &self.held.load(Ordering::Relaxed))
            .field("services", &self.shelves.load().len())
            .finish_non_exhaustive()
    }
}

fn found(claim: Option<Arc<Claim>>) -> Lookup {
    claim.map_or(Lookup::Absent, Lookup::Found)
}

#[cfg(test)]
mod tests;
