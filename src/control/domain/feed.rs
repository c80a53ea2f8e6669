//! The feed of approved claims: what changed, in one order, and where a reader stands in it.

use std::fmt;
use std::str::FromStr;

use super::claim::ClaimRecord;
use crate::clock::UnixTime;
use crate::names::{ClaimId, ServiceSlug};

/// Where a reader stands in the feed: the database it read, and the number and the tag of the last change that it saw.
/// On the wire: `<epoch>-<seq>-<tag>`, the epoch 16 hexadecimal digits, the number decimal, the tag 8 hexadecimal digits;
/// without a tag `<epoch>-<seq>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Made with the database. A cursor of another database says nothing about this one.
    pub epoch: String,
    /// The last change seen; 0: none.
    pub seq: i64,
    /// The tag of that change: a database that lost changes gives their numbers again, and not their tags. Empty where there is
    /// no change, or one of a version that knew no tags.
    pub tag: String,
}

/// The text is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one that this feed gave")]
pub struct NotACursor;

/// One change of the set of approved claims.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEvent {
    /// Its number: greater than that of every change committed before.
    pub seq: i64,
    /// Its tag, as in [`Cursor`].
    pub tag: String,
    /// When it was decided.
    pub at: UnixTime,
    /// The service it is about.
    pub service: ServiceSlug,
    /// What changed.
    pub change: FeedChange,
}

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedChange {
    /// Approved: the claim as it was then.
    Approved(Box<ClaimRecord>),
    /// Revoked.
    Revoked(ClaimId),
    /// Its time is over.
    Expired(ClaimId),
}

/// What [`Store::feed_after`](crate::control::store::Store::feed_after) found.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedRead {
    /// The changes after the cursor, oldest first, and where the reader stands then.
    Changes(Vec<FeedEvent>, Cursor),
    /// The cursor is another database's, ahead of this one, older than what is kept, or stands at a change that this
    /// database lost: read all pages anew.
    SnapshotRequired,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)?;
        if self.tag.is_empty() { Ok(()) } else { write!(f, "-{}", self.tag) }
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (epoch, rest) = text.split_once('-').ok_or(NotACursor)?;
        let (seq, tag) = match rest.split_once('-') {
            Some((seq, tag)) if is_hex(tag, 8) => (seq, tag),
            Some(_) => return Err(NotACursor),
            None => (rest, ""),
        };
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        match (is_hex(epoch, 16) && digits, seq.parse()) {
            (true, Ok(seq)) => Ok(Self { epoch: epoch.to_owned(), seq, tag: tag.to_owned() }),
            _ => Err(NotACursor),
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
