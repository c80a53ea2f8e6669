//! Which claim each open exchange runs under, so that every one of a withdrawn claim ends at once.
//!
//! An exchange may be waiting for anything when its claim is withdrawn: for a body, for an answer that takes minutes,
//! for a reader that reads nothing. So it is not asked to end: whoever drives it lets go of it ([`Line::until_cut`]),
//! and with it of both its connections, or of its stream alone where HTTP/2 carries others beside it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use dashmap::DashMap;
use futures::task::AtomicWaker;
use pingora_core::protocols::Stream;
use tokio::io::BufWriter;

use super::remains::Remains;
use crate::clock::UnixTime;
use crate::policy::Claim;

/// The lines of all clients, and the claim that runs on each. Clones share them.
///
/// There is one line for each HTTP/1 connection and for each HTTP/2 stream, so their number is bounded as theirs are.
#[derive(Clone)]
pub struct OpenExchanges(Arc<Inner>);

struct Inner {
    lines: DashMap<u64, Arc<Line>>,
    next: AtomicU64,
    /// How many claims were withdrawn so far.
    withdrawals: AtomicU64,
    /// When the first of the claims that were entered ends, in milliseconds; at the latest then all are looked at.
    first_end: AtomicI64,
}

impl OpenExchanges {
    /// Without any line.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            lines: DashMap::new(),
            next: AtomicU64::new(0),
            withdrawals: AtomicU64::new(0),
            first_end: AtomicI64::new(i64::MAX),
        }))
    }

    /// Ends every exchange that runs under `claim`. The index must hold it no more when this is called: whoever
    /// enters a claim from now on sees that one was withdrawn, and looks there again.
    pub fn withdrawn(&self, claim: &Claim) {
        self.0.withdrawals.fetch_add(1, Ordering::AcqRel);
        self.cut(Ending::Revoked, &|running| running.id == claim.id);
    }

    /// How many exchanges run under a claim now.
    #[must_use]
    pub fn under_claims(&self) -> usize {
        self.0.lines.iter().filter(|line| line.state().claim.is_some()).count()
    }

    /// How many claims were withdrawn so far. Who reads the same number before looking a claim up and after entering
    /// it has missed no withdrawal.
    pub(super) fn withdrawals(&self) -> u64 {
        self.0.withdrawals.load(Ordering::Acquire)
    }

    /// A new line, which is gone when the guard is.
    pub(super) fn line(&self) -> OpenLine {
        let line = Arc::new(Line {
            state: Mutex::default(),
            cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            all: self.clone(),
        });
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.lines.insert(number, Arc::clone(&line));
        OpenLine { line, number }
    }

    /// Ends the exchanges whose claims have ended at `now`. `prolonged` says as what a claim goes on all the same.
    pub(super) fn end_expired(&self, now: UnixTime, prolonged: impl Fn(&Claim) -> Option<Arc<Claim>>) {
        if self.0.first_end.load(Ordering::Relaxed) > now.millis() {
            return;
        }
        // Whoever enters a claim after this puts its end here anew; the others are seen below.
        self.0.first_end.swap(i64::MAX, Ordering::AcqRel);
        let ended = |claim: &Claim| claim.expires_at.is_some_and(|end| end <= now);
        for line in self.0.lines.iter() {
            let mut state = line.state();
            if let Some(claim) = state.claim.as_ref().filter(|claim| ended(claim))
                && let Some(prolonged) = prolonged(claim)
            {
                state.claim = Some(prolonged);
            }
            let end = state.claim.as_ref().filter(|claim| !ended(claim)).and_then(|claim| claim.expires_at);
            if let Some(end) = end {
                self.0.first_end.fetch_min(end.millis(), Ordering::AcqRel);
            }
        }
        self.cut(Ending::Expired, &ended);
    }

    fn cut(&self, how: Ending, which: &dyn Fn(&Claim) -> bool) {
        // Woken outside the map: a waker may run what closes a line.
        let lines: Vec<Arc<Line>> = self
            .0
            .lines
            .iter()
            .filter(|line| line.state().claim.as_deref().is_some_and(which))
            .map(|line| Arc::clone(&line))
            .collect();
        for line in lines {
            line.cut(how, which);
        }
    }
}

impl Default for OpenExchanges {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for OpenExchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenExchanges").field("lines", &self.0.lines.len()).finish_non_exhaustive()
    }
}

/// How a claim ended under an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The control plane gives it no more.
    Revoked,
    /// Its own end has come.
    Expired,
}

impl Ending {
    /// As a client is told the claim's status.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
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
    all: OpenExchanges,
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
    /// From now on the present exchange runs under this claim.
    pub(super) fn enter(&self, claim: &Arc<Claim>) {
        self.state().claim = Some(Arc::clone(claim));
        if let Some(end) = claim.expires_at {
            self.all.0.first_end.fetch_min(end.millis(), Ordering::AcqRel);
        }
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

    fn cut(&self, how: Ending, which: &dyn Fn(&Claim) -> bool) {
        let mut state = self.state();
        // Another exchange may have begun on this line meanwhile.
        if !state.claim.as_deref().is_some_and(which) {
            return;
        }
        state.ending = Some(how);
        self.cut.store(true, Ordering::Release);
        drop(state);
        self.waker.wake();
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

/// A line while its connection or stream lasts.
pub(super) struct OpenLine {
    line: Arc<Line>,
    number: u64,
}

impl OpenLine {
    /// The line, for what runs on it.
    pub(super) fn share(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }

    /// Takes what an exchange left that was cut.
    pub(super) fn left(&self) -> Left {
        std::mem::take(&mut self.line.state().left)
    }
}

impl std::ops::Deref for OpenLine {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl Drop for OpenLine {
    fn drop(&mut self) {
        self.line.all.0.lines.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Scopes;
    use crate::protocol::Identity;

    fn claim(id: &str, ends_at_secs: Option<i64>) -> Arc<Claim> {
        let agent = Identity::create(&"alice".parse().unwrap(), [1; 32], UnixTime::from_secs(0));
        Arc::new(Claim {
            id: id.parse().unwrap(),
            namespace: "alice".parse().unwrap(),
            public_key: *agent.public_key(),
            service: "openai".parse().unwrap(),
            expires_at: ends_at_secs.map(UnixTime::from_secs),
            scopes: Scopes::default(),
        })
    }

    fn nobody_prolongs(_: &Claim) -> Option<Arc<Claim>> {
        None
    }

    #[test]
    fn withdrawn_claim_cuts_its_own_lines_alone() {
        let all = OpenExchanges::new();
        let (one, two, idle) = (all.line(), all.line(), all.line());
        one.enter(&claim("cl_1", None));
        two.enter(&claim("cl_2", None));
        all.withdrawn(&claim("cl_1", None));
        assert_eq!((one.ending(), two.ending(), idle.ending()), (Some(Ending::Revoked), None, None));
    }

    #[test]
    fn exchange_that_is_over_is_not_cut_and_neither_is_the_next_on_its_line() {
        let all = OpenExchanges::new();
        let line = all.line();
        line.enter(&claim("cl_1", None));
        all.withdrawn(&claim("cl_1", None));
        line.leave();
        assert!(!line.is_cut());
        line.enter(&claim("cl_2", None));
        all.withdrawn(&claim("cl_1", None));
        assert!(!line.is_cut());
    }

    #[test]
    fn nothing_is_left_of_lines_that_are_closed_and_claims_that_were_left() {
        let all = OpenExchanges::new();
        let (kept, closed) = (all.line(), all.line());
        kept.enter(&claim("cl_1", Some(9)));
        closed.enter(&claim("cl_2", None));
        assert_eq!(all.under_claims(), 2);
        kept.leave();
        drop(closed);
        assert_eq!((all.under_claims(), all.0.lines.len()), (0, 1));
        drop(kept);
        assert_eq!(all.0.lines.len(), 0);
    }

    #[test]
    fn claim_ends_at_its_end_and_not_before() {
        let all = OpenExchanges::new();
        let (line, later) = (all.line(), all.line());
        line.enter(&claim("cl_1", Some(10)));
        later.enter(&claim("cl_2", Some(20)));
        all.end_expired(UnixTime::from_millis(9_999), nobody_prolongs);
        assert!(!line.is_cut());
        all.end_expired(UnixTime::from_secs(10), nobody_prolongs);
        assert_eq!((line.ending(), later.ending()), (Some(Ending::Expired), None));
        all.end_expired(UnixTime::from_secs(20), nobody_prolongs);
        assert_eq!(later.ending(), Some(Ending::Expired));
    }

    #[test]
    fn claim_that_was_prolonged_goes_on_until_its_new_end() {
        let all = OpenExchanges::new();
        let line = all.line();
        line.enter(&claim("cl_1", Some(10)));
        all.end_expired(UnixTime::from_secs(10), |_| Some(claim("cl_1", Some(30))));
        assert!(!line.is_cut());
        all.end_expired(UnixTime::from_secs(30), nobody_prolongs);
        assert_eq!(line.ending(), Some(Ending::Expired));
    }

    #[test]
    fn withdrawal_between_look_up_and_entering_is_seen() {
        let all = OpenExchanges::new();
        let (line, before) = (all.line(), all.withdrawals());
        all.withdrawn(&claim("cl_1", None));
        line.enter(&claim("cl_1", None));
        assert!(!line.is_cut());
        assert_ne!(all.withdrawals(), before);
    }

    #[tokio::test]
    async fn what_waits_for_nothing_is_let_go_when_it_is_cut() {
        let all = OpenExchanges::new();
        let line = all.line();
        line.enter(&claim("cl_1", None));
        let held = Arc::new(());
        let holder = Arc::clone(&held);
        let forever = async move {
            let _holder = holder;
            std::future::pending::<()>().await;
        };
        let cutting = async {
            tokio::task::yield_now().await;
            all.withdrawn(&claim("cl_1", None));
        };
        let (driven, ()) = tokio::join!(line.until_cut(forever), cutting);
        assert!(driven.is_none());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
