//! What keeps overload from becoming a queue without end: rates and numbers at once, refused beyond.

use std::num::NonZeroU32;
use std::sync::Arc;

use dashmap::DashMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;
use crate::connections::RequestLimits;
use crate::names::Namespace;
use crate::telemetry::InFlight;

/// The limits of one connection, or of one namespace.
#[derive(Debug)]
pub(super) struct Gate {
    rate: Option<DefaultDirectRateLimiter>,
    room: Option<Arc<Semaphore>>,
}

/// Places that a request holds; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) in_flight: Option<InFlight>,
    pub(super) connection: Option<OwnedSemaphorePermit>,
    pub(super) namespace: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Gives the places of connection and namespace back: the provider has answered, and a client that sends its next
    /// request at once must find them free.
    pub(super) fn leave(&mut self) {
        self.connection = None;
        self.namespace = None;
    }
}

impl Gate {
    pub(super) fn new(limits: RequestLimits) -> Self {
        Self {
            rate: limits.requests_per_second.map(|rate| RateLimiter::direct(Quota::per_second(rate))),
            room: limits.concurrent.map(|most| Arc::new(Semaphore::new(places(most)))),
        }
    }

    /// Takes a place, where the limits leave one.
    ///
    /// # Errors
    /// `RateLimited` with the seconds to wait, or `Overloaded`.
    pub(super) fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if let Some(rate) = &self.rate
            && let Err(not_until) = rate.check()
        {
            let wait = not_until.wait_time_from(DefaultClock::default().now());
            return Err(Refusal::RateLimited { retry_after_secs: wait.as_secs() + 1 });
        }
        match &self.room {
            None => Ok(None),
            Some(room) => Arc::clone(room).try_acquire_owned().map(Some).map_err(|_| Refusal::Overloaded),
        }
    }
}

fn places(most: NonZeroU32) -> usize {
    usize::try_from(most.get()).unwrap_or(Semaphore::MAX_PERMITS)
}

/// The gates of all namespaces that had an approved request; their number is bounded by the approved claims'.
#[derive(Debug)]
pub(super) struct NamespaceGates {
    limits: RequestLimits,
    gates: DashMap<Namespace, Arc<Gate>>,
}

impl NamespaceGates {
    pub(super) fn new(limits: RequestLimits) -> Self {
        Self { limits, gates: DashMap::new() }
    }

    /// As [`Gate::enter`], for the namespace of a permitted request.
    pub(super) fn enter(&self, namespace: &Namespace) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if self.limits == RequestLimits::default() {
            return Ok(None);
        }
        let known = self.gates.get(namespace).map(|gate| Arc::clone(&gate));
        let gate = known.unwrap_or_else(|| {
            let gate =
                self.gates.entry(namespace.clone()).or_insert_with(|| Arc::new(Gate::new(self.limits)));
            Arc::clone(&gate)
        });
        gate.enter()
    }
}
