//! The line that an exchange runs on, where it is cut when its claim is withdrawn.
//!
//! An exchange may be waiting for anything when its claim is withdrawn: for a body, for an answer that takes minutes,
//! for a reader that reads nothing. So it is not asked to end: whoever drives it lets go of it ([`Line::until_cut`]),
//! and with it of both its connections, or of its stream alone where HTTP/2 carries others beside it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures::task::AtomicWaker;
use pingora_core::protocols::Stream;
use tokio::io::BufWriter;

use super::remains::{Ending, Remains};
use crate::clock::UnixTime;
use crate::policy::Claim;

/// When the first of the claims that were entered ends; at the latest then all lines are looked at.
pub(super) struct FirstEnd(AtomicI64);

impl FirstEnd {
    pub(super) fn never() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }

    /// Whether a claim may have ended at `now`. If so, the ends of those that have not are to be noted anew; whoever
    /// enters a claim after this does it itself.
    pub(super) fn has_come(&self, now: UnixTime) -> bool {
        let come = self.0.load(Ordering::Relaxed) <= now.millis();
        if come {
            self.0.swap(i64::MAX, Ordering::AcqRel);
        }
        come
    }

    fn note(&self, claim: &Claim) {
        if let Some(end) = claim.expires_at {
            self.0.fetch_min(end.millis(), Ordering::AcqRel);
        }
    }
}

/// The place of one exchange at a time: an HTTP/1 connection, or an HTTP/2 stream.
pub(super) struct Line {
    state: Mutex<State>,
    /// Whether the present exchange is to end.
    cut: AtomicBool,
    /// Of the task that drives it.
    waker: AtomicWaker,
    first_end: Arc<FirstEnd>,
}

#[derive(Default)]
struct State {
    /// What the present exchange runs under.
    claim: Option<Arc<Claim>>,
    ending: Option<Ending>,
    left: Left,
}

/// What is left of an exchange that was cut.
#[derive(Default)]
pub(super) struct Left {
    /// What is told of it.
    pub(super) remains: Option<Box<Remains>>,
    /// The client's HTTP/1 connection.
    pub(super) stream: Option<BufWriter<Stream>>,
}

impl Line {
    /// Without an exchange.
    pub(super) fn new(first_end: Arc<FirstEnd>) -> Self {
        Self { state: Mutex::default(), cut: AtomicBool::new(false), waker: AtomicWaker::new(), first_end }
    }

    /// Whether an exchange runs on it under a claim.
    pub(super) fn is_entered(&self) -> bool {
        self.state().claim.is_some()
    }

    /// Wakes who drives the exchange.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Takes what an exchange left that was cut.
    pub(super) fn left(&self) -> Left {
        std::mem::take(&mut self.state().left)
    }

    /// From now on the present exchange runs under this claim.
    pub(super) fn enter(&self, claim: &Arc<Claim>) {
        self.state().claim = Some(Arc::clone(claim));
        self.first_end.note(claim);
    }

    /// The present exchange runs under no claim any more: it is over, and nothing is left to be cut.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.claim = None;
        state.ending = None;
        self.cut.store(false, Ordering::Release);
    }

    /// How its claim ended, where that is why the present exchange is let go.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.is_cut().then(|| self.state().ending).flatten()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Keeps what is to be told of an exchange that was cut.
    pub(super) fn leave_remains(&self, remains: Remains) {
        let mut state = self.state();
        state.claim = None;
        state.left.remains = Some(Box::new(remains));
    }

    /// Keeps the client's connection of an exchange that was cut.
    pub(super) fn leave_stream(&self, stream: BufWriter<Stream>) {
        self.state().left.stream = Some(stream);
    }

    /// Drives an exchange to its end, or lets go of it at once when it is cut: `None`, and all that it held is dropped.
    pub(super) async fn until_cut<F: Future>(&self, exchange: F) -> Option<F::Output> {
        let mut exchange = pin!(exchange);
        let mut known: Option<Waker> = None;
        poll_fn(|context| {
            // A task keeps its waker, so mostly this is one comparison.
            if !known.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                known = Some(context.waker().clone());
                self.waker.register(context.waker());
            }
            if self.is_cut() {
                return Poll::Ready(None);
            }
            exchange.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Looks at the claim of the present exchange: `true` where it is to be let go now, and its driver to be woken.
    pub(super) fn review(
        &self,
        how: Ending,
        over: &dyn Fn(&Claim) -> bool,
        standing: &dyn Fn(&Claim) -> Option<Arc<Claim>>,
    ) -> bool {
        let mut state = self.state();
        let Some(claim) = &state.claim else { return false };
        let is_over = over(claim);
        match is_over.then(|| standing(claim)) {
            None => self.first_end.note(claim),
            Some(Some(other)) => {
                self.first_end.note(&other);
                state.claim = Some(other);
            }
            Some(None) => {
                state.ending = Some(how);
                self.cut.store(true, Ordering::Release);
                return true;
            }
        }
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("cut", &self.is_cut()).finish_non_exhaustive()
    }
}
