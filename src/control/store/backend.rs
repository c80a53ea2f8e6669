//! What differs between SQLite and PostgreSQL.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use super::StoreFault;

/// How long a connection is waited for.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// How long a call of a task may take, all its statements together. It is longer than what the server lets a statement
/// take: what takes longer is a server that is gone without a word.
pub(super) const CALL: Duration = Duration::from_secs(40);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// How a transaction that will write begins.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// How a transaction begins whose reads all see the same moment.
    pub(super) fn begin_snapshot(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// What is put behind a SELECT whose rows the transaction will change, and which others may be changing.
    pub(super) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// A SELECT whose rows nobody else changes or locks so until the transaction ends. Of SQLite there is one writer.
    pub(super) fn for_update(self, select: &'static str) -> SqlStr {
        self.with(select, " FOR NO KEY UPDATE")
    }

    /// A SELECT whose rows nobody removes until the transaction ends.
    pub(super) fn for_share(self, select: &'static str) -> SqlStr {
        self.with(select, " FOR KEY SHARE")
    }

    /// A SELECT of rows that the transaction will remove.
    pub(super) fn for_removal(self, select: &'static str) -> SqlStr {
        self.with(select, " FOR UPDATE")
    }

    /// A SELECT of rows that the transaction will change, without those that others are changing.
    pub(super) fn free_for_update(self, select: &'static str) -> SqlStr {
        self.with(select, self.skip_locked())
    }

    /// A SELECT of rows that the transaction will change but not remove, without those that others are changing.
    pub(super) fn free_for_change(self, select: &'static str) -> SqlStr {
        self.with(select, " FOR NO KEY UPDATE SKIP LOCKED")
    }

    fn with(self, select: &'static str, lock: &'static str) -> SqlStr {
        match self {
            Self::Sqlite => select.into_sql_str(),
            // Both are constants of this room.
            Self::Postgres => AssertSqlSafe(format!("{select}{lock}")).into_sql_str(),
        }
    }

    /// What is set on each new connection. A replica that stops in the middle of a transaction holds the others up
    /// no longer than this.
    pub(super) fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => {
                &["PRAGMA busy_timeout = 2000", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"]
            }
            Self::Postgres => &[
                "SET lock_timeout = '5s'",
                "SET statement_timeout = '30s'",
                "SET idle_in_transaction_session_timeout = '10s'",
            ],
        }
    }
}

/// What the database's own error means to the caller.
pub(super) fn fault(error: &dyn DatabaseError) -> StoreFault {
    let code = error.code().unwrap_or_default().into_owned();
    let text = error.to_string();
    if error.try_downcast_ref::<SqliteError>().is_some() {
        // The primary result code is the low byte: BUSY and LOCKED; READONLY, IOERR, FULL and CANTOPEN.
        return match code.parse::<i32>().unwrap_or_default() & 0xff {
            5 | 6 => StoreFault::Contended(text),
            8 | 10 | 13 | 14 => StoreFault::Unavailable(text),
            _ => StoreFault::Database(text),
        };
    }
    match code.as_str() {
        // Serialization failure, deadlock.
        "40001" | "40P01" => StoreFault::Contended(text),
        // Connection, authorization, no such database, resources, operator intervention (it stops or starts); a lock
        // not free in time, a transaction that was idle too long, a server that may only be read (a standby).
        _ if ["08", "28", "3D", "53", "57", "55P03", "25P03", "25006"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            StoreFault::Unavailable(text)
        }
        _ => StoreFault::Database(text),
    }
}
