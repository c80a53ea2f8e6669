//! Which claim each open exchange runs under, so that every one of a withdrawn claim ends at once.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::line::{FirstEnd, Line};
use super::remains::Ending;
use crate::clock::UnixTime;
use crate::names::ClaimId;
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
    first_end: Arc<FirstEnd>,
    /// Claims that were withdrawn and not looked for yet.
    gone: Mutex<Gone>,
    told: Notify,
}

#[derive(Default)]
struct Gone {
    ids: HashSet<ClaimId>,
    /// There were too many to be remembered: every exchange is looked at.
    too_many: bool,
}

/// Withdrawn claims remembered one by one at the most.
const MOST_GONE: usize = 10_000;

impl Gone {
    fn holds(&self, claim: &Claim) -> bool {
        self.too_many || self.ids.contains(&claim.id)
    }
}

impl OpenExchanges {
    /// Without any line.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            lines: DashMap::new(),
            next: AtomicU64::new(0),
            withdrawals: AtomicU64::new(0),
            first_end: Arc::new(FirstEnd::never()),
            gone: Mutex::default(),
            told: Notify::new(),
        }))
    }

    /// Says that `claim` holds no more, or in another form: the gateway then ends what runs under it, unless the index
    /// has a claim that allows the same. The index must have changed when this is called: whoever enters a claim from
    /// now on sees that one was withdrawn, and looks there again. It does not wait.
    pub fn withdrawn(&self, claim: &Claim) {
        self.0.withdrawals.fetch_add(1, Ordering::AcqRel);
        let mut gone = self.gone();
        if gone.ids.len() < MOST_GONE {
            gone.ids.insert(claim.id.clone());
        } else {
            gone.too_many = true;
        }
        drop(gone);
        self.0.told.notify_one();
    }

    /// Comes back once a claim was withdrawn that was not looked for yet.
    pub(super) async fn told(&self) {
        self.0.told.notified().await;
    }

    /// Ends the exchanges whose claims were withdrawn, or have ended at `now`. `standing` gives the claim that allows the
    /// same as a given one, where there is one: under it an exchange goes on.
    pub(super) fn review(&self, now: UnixTime, standing: impl Fn(&Claim) -> Option<Arc<Claim>>) {
        let gone = std::mem::take(&mut *self.gone());
        if gone.too_many || !gone.ids.is_empty() {
            self.end(Ending::Revoked, |claim| gone.holds(claim), &standing);
        }
        if self.0.first_end.has_come(now) {
            self.end(Ending::Expired, |claim| claim.expires_at.is_some_and(|end| end <= now), &standing);
        }
    }

    /// How many exchanges run under a claim now.
    #[must_use]
    pub fn under_claims(&self) -> usize {
        self.0.lines.iter().filter(|line| line.is_entered()).count()
    }

    /// How many claims were withdrawn so far. Who reads the same number before looking a claim up and after entering
    /// it has missed no withdrawal.
    pub(super) fn withdrawals(&self) -> u64 {
        self.0.withdrawals.load(Ordering::Acquire)
    }

    /// A new line, which is gone when the guard is.
    pub(super) fn line(&self) -> OpenLine {
        let line = Arc::new(Line::new(Arc::clone(&self.0.first_end)));
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.lines.insert(number, Arc::clone(&line));
        OpenLine { line, number, all: self.clone() }
    }

    /// Ends the exchanges under claims that are `over` and for which none stands.
    fn end(
        &self,
        how: Ending,
        over: impl Fn(&Claim) -> bool,
        standing: &dyn Fn(&Claim) -> Option<Arc<Claim>>,
    ) {
        // Woken outside the map: a waker may run what closes a line.
        let lines: Vec<Arc<Line>> = self
            .0
            .lines
            .iter()
            .filter(|line| line.review(how, &over, standing))
            .map(|line| Arc::clone(&line))
            .collect();
        lines.iter().for_each(|line| line.wake());
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A line while its connection or stream lasts.
pub(super) struct OpenLine {
    line: Arc<Line>,
    number: u64,
    all: OpenExchanges,
}

impl OpenLine {
    /// The line, for what runs on it.
    pub(super) fn share(&self) -> Arc<Line> {
        Arc::clone(&self.line)
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
        self.all.0.lines.remove(&self.number);
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

    fn none_stands(_: &Claim) -> Option<Arc<Claim>> {
        None
    }

    fn review(all: &OpenExchanges, at_secs: i64) {
        all.review(UnixTime::from_secs(at_secs), none_stands);
    }

    #[test]
    fn withdrawn_claim_cuts_its_own_lines_alone() {
        let all = OpenExchanges::new();
        let (one, two, idle) = (all.line(), all.line(), all.line());
        one.enter(&claim("cl_1", None));
        two.enter(&claim("cl_2", None));
        all.withdrawn(&claim("cl_1", None));
        review(&all, 0);
        assert_eq!((one.ending(), two.ending(), idle.ending()), (Some(Ending::Revoked), None, None));
    }

    #[test]
    fn withdrawal_is_looked_for_once() {
        let all = OpenExchanges::new();
        let line = all.line();
        all.withdrawn(&claim("cl_1", None));
        review(&all, 0);
        line.enter(&claim("cl_1", None));
        review(&all, 0);
        assert!(!line.is_cut());
    }

    #[test]
    fn more_withdrawals_than_are_remembered_cut_every_line_that_none_stands_for() {
        let all = OpenExchanges::new();
        let (gone, kept) = (all.line(), all.line());
        gone.enter(&claim("cl_last", None));
        kept.enter(&claim("cl_kept", None));
        (0..MOST_GONE).for_each(|n| all.withdrawn(&claim(&format!("cl_{n}"), None)));
        all.withdrawn(&claim("cl_last", None));
        all.review(UnixTime::from_secs(0), |under| {
            (under.id.as_str() == "cl_kept").then(|| claim("cl_kept", None))
        });
        assert_eq!((gone.ending(), kept.ending()), (Some(Ending::Revoked), None));
    }

    #[test]
    fn exchange_that_is_over_is_not_cut_and_neither_is_the_next_on_its_line() {
        let all = OpenExchanges::new();
        let line = all.line();
        line.enter(&claim("cl_1", None));
        all.withdrawn(&claim("cl_1", None));
        review(&all, 0);
        line.leave();
        assert!(!line.is_cut());
        line.enter(&claim("cl_2", None));
        all.withdrawn(&claim("cl_1", None));
        review(&all, 0);
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
        all.review(UnixTime::from_millis(9_999), none_stands);
        assert!(!line.is_cut());
        review(&all, 10);
        assert_eq!((line.ending(), later.ending()), (Some(Ending::Expired), None));
        review(&all, 20);
        assert_eq!(later.ending(), Some(Ending::Expired));
    }

    #[test]
    fn exchange_goes_on_under_the_claim_that_stands_until_that_ends() {
        let all = OpenExchanges::new();
        let (line, end) = (all.line(), UnixTime::from_secs(10));
        line.enter(&claim("cl_1", Some(10)));
        all.review(end, |_| Some(claim("cl_2", Some(30))));
        assert!(!line.is_cut());
        all.withdrawn(&claim("cl_1", None));
        review(&all, 11);
        assert!(!line.is_cut());
        review(&all, 30);
        assert_eq!(line.ending(), Some(Ending::Expired));
    }

    #[test]
    fn withdrawal_between_look_up_and_entering_is_seen() {
        let all = OpenExchanges::new();
        let (line, before) = (all.line(), all.withdrawals());
        all.withdrawn(&claim("cl_1", None));
        review(&all, 0);
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
            all.withdrawn(&claim("cl_1", None));
            all.told().await;
            review(&all, 0);
        };
        let (driven, ()) = tokio::join!(line.until_cut(forever), cutting);
        assert!(driven.is_none());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
