//! The feed of approved claims: what changed, in one order, and where a reader stands in it.

use std::fmt;
use std::str::FromStr;

use super::claim::ClaimRecord;
use crate::clock::UnixTime;
use crate::names::{ClaimId, ServiceSlug};

/// Where a reader stands in the feed: the database it read, and the number of the last change that it saw.
/// On the wire: `<epoch>-<seq>`, the epoch 16 hexadecimal digits, the number decimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Made with the database. A cursor of another database says nothing about this one.
    pub epoch: String,
    /// The last change seen; 0: none.
    pub seq: i64,
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
    /// The cursor is another database's, ahead of this one, or older than what is kept: read all pages anew.
    SnapshotRequired,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (epoch, seq) = text.split_once('-').ok_or(NotACursor)?;
        let hex = epoch.len() == 16 && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        match (hex && digits, seq.parse()) {
            (true, Ok(seq)) => Ok(Self { epoch: epoch.to_owned(), seq }),
            _ => Err(NotACursor),
        }
    }
}
