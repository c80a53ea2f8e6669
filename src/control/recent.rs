//! Which services the newest changes of the feed are about, read once for all open streams.
//!
//! If every stream read the feed itself whenever it moves, a change of one service would cost the database as many questions as
//! there are streams of all others. So one task reads what is new, and a stream of whose services nothing is among it moves
//! its cursor on without asking. In every doubt it reads.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::domain::feed::Cursor;
use super::store::{FeedMove, Store, StoreFault, in_time};
use crate::clock::Clock;
use crate::names::{Namespace, ServiceSlug};

/// Changes that are remembered, and that are read at a time.
const MOST: usize = 10_000;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Recent {
    read: RwLock<Option<Stretch>>,
    moved: watch::Sender<()>,
}

/// A part of the feed without gaps: what came after `from`, up to `to`.
#[derive(Debug)]
struct Stretch {
    from: Cursor,
    moves: VecDeque<FeedMove>,
    to: Cursor,
    /// When the last reading that went well began.
    read_at: Instant,
}

impl Recent {
    /// Tells each time that something new was read.
    pub(super) fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Reads what is new. One task alone does.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn read(&self, store: &Store, clock: &Clock) -> Result<(), StoreFault> {
        loop {
            let begun = clock.instant();
            let to = self.stretch(|stretch| stretch.to.clone());
            let found = in_time(store.feed_moves(to.as_ref(), MOST)).await?;
            let is_more = found.moves.len() >= MOST;
            let is_new = to.as_ref() != Some(&found.end);
            {
                let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
                match &mut *read {
                    Some(stretch) if found.follow => stretch.go_on(found.moves, found.end, begun),
                    _ => *read = Some(Stretch::at(found.end, begun)),
                }
            }
            if is_new {
                self.moved.send_replace(());
            }
            if !is_more {
                return Ok(());
            }
        }
    }

    /// Where who stands at `at` stands now, if nothing that came since is about these services of this owner. `None`: it
    /// must read.
    pub(super) fn passes(&self, at: &Cursor, owner: &Namespace, services: &[ServiceSlug]) -> Option<Cursor> {
        self.stretch(|stretch| {
            let about = |one: &FeedMove| one.owner == *owner && services.contains(&one.service);
            let mut since = stretch.since(at)?;
            (!since.any(about)).then(|| stretch.to.clone())
        })?
    }

    /// Whether `at` was the end of the feed when it was read last, which was no longer than `counts` before `now`.
    pub(super) fn ends_at(&self, at: &Cursor, now: Instant, counts: Duration) -> bool {
        let ends =
            |stretch: &Stretch| stretch.to == *at && now.saturating_duration_since(stretch.read_at) < counts;
        self.stretch(ends) == Some(true)
    }

    fn stretch<T>(&self, look: impl FnOnce(&Stretch) -> T) -> Option<T> {
        self.read.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }
}

impl Stretch {
    /// An empty one.
    fn at(end: Cursor, read_at: Instant) -> Self {
        Self { from: end.clone(), moves: VecDeque::new(), to: end, read_at }
    }

    fn go_on(&mut self, moves: Vec<FeedMove>, to: Cursor, read_at: Instant) {
        (self.to, self.read_at) = (to, read_at);
        self.moves.extend(moves);
        while self.moves.len() > MOST
            && let Some(oldest) = self.moves.pop_front()
        {
            (self.from.seq, self.from.tag) = (oldest.seq, oldest.tag);
        }
    }

    /// What came after `at`; `None` where that is no place in this part.
    fn since(&self, at: &Cursor) -> Option<impl Iterator<Item = &FeedMove>> {
        let after = self.moves.partition_point(|one| one.seq <= at.seq);
        let (seq, tag) = match after.checked_sub(1).and_then(|last| self.moves.get(last)) {
            Some(last) => (last.seq, &last.tag),
            None => (self.from.seq, &self.from.tag),
        };
        let is_here = at.epoch == self.to.epoch && (at.seq, &at.tag) == (seq, tag);
        is_here.then(|| self.moves.range(after..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        Clock::system().instant()
    }

    fn cursor(seq: i64) -> Cursor {
        Cursor { epoch: "e".to_owned(), seq, tag: format!("t{seq}") }
    }

    fn about(seq: i64, owner: &str, service: &str) -> FeedMove {
        let (owner, service) = (owner.parse().unwrap(), service.parse().unwrap());
        FeedMove { seq, tag: format!("t{seq}"), owner, service }
    }

    /// After 5: `acme`'s mail, `acme`'s calendar, `other`'s mail.
    fn recent() -> Recent {
        let mut stretch = Stretch::at(cursor(5), now());
        let moves = vec![about(6, "acme", "mail"), about(7, "acme", "calendar"), about(8, "other", "mail")];
        stretch.go_on(moves, cursor(8), now());
        Recent { read: RwLock::new(Some(stretch)), ..Recent::default() }
    }

    fn passes(recent: &Recent, at: &Cursor, owner: &str, services: &[&str]) -> Option<i64> {
        let services: Vec<ServiceSlug> = services.iter().map(|slug| slug.parse().unwrap()).collect();
        recent.passes(at, &owner.parse().unwrap(), &services).map(|cursor| cursor.seq)
    }

    #[test]
    fn stream_of_whose_services_nothing_is_new_passes() {
        let recent = recent();
        for (at, owner, services, expected) in [
            (5, "acme", ["mail", "calendar"], None),
            (6, "acme", ["mail", "mail"], Some(8)),
            (6, "acme", ["mail", "calendar"], None),
            (7, "acme", ["mail", "calendar"], Some(8)),
            (5, "other", ["calendar", "files"], Some(8)),
            (7, "other", ["mail", "files"], None),
            (8, "other", ["mail", "files"], Some(8)),
        ] {
            assert_eq!(passes(&recent, &cursor(at), owner, &services), expected, "{at} {owner} {services:?}");
        }
    }

    #[test]
    fn stream_that_stands_elsewhere_must_read() {
        let recent = recent();
        let at = |seq| Cursor { tag: "another".to_owned(), ..cursor(seq) };
        let epoch = Cursor { epoch: "f".to_owned(), ..cursor(6) };
        for at in [cursor(4), cursor(9), at(5), at(6), at(8), epoch] {
            assert_eq!(passes(&recent, &at, "nobody", &["mail"]), None, "{at}");
            assert!(!recent.ends_at(&at, now(), Duration::from_secs(60)));
        }
        assert_eq!(passes(&Recent::default(), &cursor(5), "nobody", &["mail"]), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_lies_before_must_be_read() {
        let most = i64::try_from(MOST).unwrap();
        let mut stretch = recent().read.into_inner().unwrap().unwrap();
        let moves = (9..=most + 8).map(|seq| about(seq, "acme", "mail")).collect();
        stretch.go_on(moves, cursor(most + 8), now());
        assert_eq!(stretch.moves.len(), MOST);
        let recent = Recent { read: RwLock::new(Some(stretch)), ..Recent::default() };
        assert_eq!(passes(&recent, &cursor(7), "nobody", &["mail"]), None);
        assert_eq!(passes(&recent, &cursor(8), "nobody", &["mail"]), Some(most + 8));
    }

    #[test]
    fn end_that_was_read_too_long_ago_does_not_count() {
        let (now, recent) = (now(), recent());
        let counts = Duration::from_secs(4);
        assert!(recent.ends_at(&cursor(8), now, counts));
        assert!(!recent.ends_at(&cursor(7), now, counts));
        assert!(!recent.ends_at(&cursor(8), now + 2 * counts, counts));
    }
}
