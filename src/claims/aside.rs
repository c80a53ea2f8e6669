//! Services whose pages the control plane does not give, while it gives those of others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::fault::FeedFault;
use super::pauses::{OUT_OF_REACH, fraction};
use super::state::FeedFailure;
use crate::names::ConnectionId;

/// The first pause until such a service is asked for again; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest where the control plane refuses.
const LONGEST: Duration = Duration::from_secs(30);

/// Those that are put aside, each until it is due.
#[derive(Default)]
pub(super) struct Asides(HashMap<ConnectionId, Aside>);

#[derive(Clone, Copy)]
struct Aside {
    tries: u32,
    until: Instant,
}

impl Asides {
    /// Forgets those that are not among these.
    pub(super) fn keep(&mut self, services: &[ConnectionId]) {
        self.0.retain(|service, _| services.contains(service));
    }

    /// Has all asked for again at once.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn holds(&self, service: &ConnectionId, now: Instant) -> bool {
        self.0.get(service).is_some_and(|aside| now < aside.until)
    }

    /// When the first one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().map(|aside| aside.until).min()
    }

    /// It was given.
    pub(super) fn take_back(&mut self, service: &ConnectionId) {
        self.0.remove(service);
    }

    /// It was not given. Tells whether it was before.
    pub(super) fn put(&mut self, service: &ConnectionId, fault: &FeedFault, now: Instant) -> bool {
        let tries = self.0.get(service).map_or(0, |aside| aside.tries);
        let longest = match fault.failure() {
            FeedFailure::Unreachable => OUT_OF_REACH,
            FeedFailure::Refused => LONGEST,
        };
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(tries)).min(longest);
        let until = now + pause.mul_f64(0.5 + 0.5 * fraction());
        self.0.insert(service.clone(), Aside { tries: tries.saturating_add(1), until });
        tries == 0
    }
}
