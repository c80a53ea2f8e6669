//! The one SQL database: SQLite, embedded, or PostgreSQL. SQL stays in this room.
//!
//! The statements are the same text for both, in the SQL that both understand: `TEXT` and `BIGINT` alone, times as
//! milliseconds since 1970, flags as 0 and 1. What differs between them is behind `Backend`.

mod backend;
mod change;
mod claims;
mod decisions;
mod deliveries;
mod ends;
mod feed;
mod migrations;
mod nonces;
mod opening;
mod outbox;
mod owners;
mod pairing;
mod record;
mod relay;
mod removal;
mod replicas;
mod seed;
mod service_keys;
mod services;
mod submissions;
mod usage;
mod webhooks;

pub use claims::{ApprovedPage, PageFrom};
pub use feed::{FeedMove, FeedMoves};
pub use outbox::AttemptFailed;
pub use owners::DidState;
pub use service_keys::NewKey;
pub use services::NewService;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyPool, Transaction};
use tokio::sync::{broadcast, watch};

use backend::{Backend, CALL};
use replicas::Watcher;

use crate::names::Namespace;
use crate::secret::SecretString;

/// Which database.
#[derive(Debug)]
pub enum DatabaseUrl {
    /// A SQLite file, made where there is none.
    Sqlite(PathBuf),
    /// PostgreSQL: `postgres://user:password@host/name`. A secret, since it holds the password.
    Postgres(SecretString),
}

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// The database cannot be reached, or does not answer in time: 503.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// What it holds is not what this version writes.
    #[error("the database holds a {what} that cannot be read: {cause}")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// Its schema is newer than this version.
    #[error("the database's schema cannot be brought to this version: {0}")]
    Schema(String),
    /// Others were changing the same rows, at every one of several attempts: 503.
    #[error("the database is busy with other changes: {0}")]
    Contended(String),
    /// The namespace was deleted; its name is not given again: 404.
    #[error("the namespace {0} was deleted, and its name is not given again; choose another")]
    NamespaceGone(Namespace),
    /// Another fault of the database.
    #[error("the database failed: {0}")]
    Database(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// What the replicas tell each other, within a process and through LISTEN/NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A pairing command waits for the replica that holds the session's socket.
    Command {
        /// The session.
        session: String,
        /// The command's request id.
        request_id: String,
    },
    /// A pairing command was answered.
    Response {
        /// The command's request id.
        request_id: String,
    },
    /// What the service API keys of this owner open has changed: a key was revoked, or a service is gone.
    Access {
        /// The owner's namespace.
        owner: String,
    },
    /// A pairing was revoked, or taken over by a new connection of its gateway, which bears this mark.
    Session {
        /// The session.
        session: String,
        /// The new connection's mark; empty: revoked.
        mark: String,
    },
}

/// The store. Clones share one pool.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    /// Where statements that change something run. Of SQLite: one connection, so that writers wait for each other in
    /// the pool and not in the file.
    writers: AnyPool,
    readers: AnyPool,
    backend: Backend,
    /// Names this database in cursors.
    epoch: String,
    /// Names this replica, among those that tell each other.
    name: String,
    /// The number of the last change of the feed, as far as this process heard.
    head: watch::Sender<i64>,
    /// Wakes whoever delivers webhooks.
    outbox: watch::Sender<u64>,
    signals: broadcast::Sender<Signal>,
    /// Hears other replicas, until the last clone of the store is gone.
    watcher: OnceLock<Watcher>,
}

impl Store {
    /// Opens the database, brings its schema to this version, and listens to other replicas.
    ///
    /// # Errors
    /// When it cannot be reached, or holds a schema that is newer.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreFault> {
        opening::open(url).await
    }

    /// The last number of the feed, each time that it moves; it is a lower one only where the database lost changes. A
    /// reader waits on it and then calls [`Store::feed_after`].
    #[must_use]
    pub fn feed_head(&self) -> watch::Receiver<i64> {
        self.0.head.subscribe()
    }

    /// Changes whenever a delivery was queued.
    #[must_use]
    pub fn outbox_bell(&self) -> watch::Receiver<u64> {
        self.0.outbox.subscribe()
    }

    /// What the replicas tell each other. Who falls behind loses the oldest, and looks into the database then.
    #[must_use]
    pub fn signals(&self) -> broadcast::Receiver<Signal> {
        self.0.signals.subscribe()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreFault> {
        sqlx::query("SELECT 1").execute(&self.0.readers).await?;
        Ok(())
    }

    /// Ends every connection, after what runs on them. Whatever is asked for later is [`StoreFault::Unavailable`].
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writers.close().await;
    }

    /// Begins a transaction that will write: of SQLite it waits for the one writer's lock at once, so that nothing
    /// read in it is out of date when it writes.
    async fn begin(&self) -> Result<Transaction<'static, Any>, StoreFault> {
        Ok(self.0.writers.begin_with(self.0.backend.begin()).await?)
    }

    /// Begins a transaction whose reads all see the database as it was at the first one.
    async fn snapshot(&self) -> Result<Transaction<'static, Any>, StoreFault> {
        Ok(self.0.readers.begin_with(self.0.backend.begin_snapshot()).await?)
    }

    fn readers(&self) -> &AnyPool {
        &self.0.readers
    }

    fn writers(&self) -> &AnyPool {
        &self.0.writers
    }

    fn backend(&self) -> Backend {
        self.0.backend
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("backend", &self.0.backend).finish_non_exhaustive()
    }
}

impl From<sqlx::Error> for StoreFault {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => backend::fault(&*error),
            sqlx::Error::Io(error) => Self::Unavailable(error.to_string()),
            sqlx::Error::Tls(error) => Self::Unavailable(format!("TLS: {error}")),
            sqlx::Error::PoolTimedOut => Self::Unavailable("no connection became free in time".to_owned()),
            sqlx::Error::PoolClosed => Self::Unavailable("the store is closed".to_owned()),
            sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => Self::Unavailable(error.to_string()),
            other => Self::Database(other.to_string()),
        }
    }
}

/// Attempts at a transaction that others got in the way of.
const ATTEMPTS: u32 = 10;

/// Does `work`, again from its beginning where others were changing the same rows: at most [`ATTEMPTS`] times, with
/// growing pauses.
async fn retrying<T, F>(mut work: impl FnMut() -> F) -> Result<T, StoreFault>
where
    F: Future<Output = Result<T, StoreFault>>,
{
    let mut attempt = 1;
    loop {
        match work().await {
            Err(StoreFault::Contended(_)) if attempt < ATTEMPTS => {
                let [chance] = random::<1>()?;
                tokio::time::sleep(Duration::from_millis((u64::from(chance) << attempt) / 64)).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// Does what a task wants of the store, for as long as a server that is there could take for it. A connection whose other
/// end is gone without a word would hold the task for ever.
///
/// # Errors
/// When the database fails, or does not answer in that time.
pub async fn in_time<T>(call: impl Future<Output = Result<T, StoreFault>>) -> Result<T, StoreFault> {
    match tokio::time::timeout(CALL, call).await {
        Ok(done) => done,
        Err(_) => Err(StoreFault::Unavailable(format!("it did not answer within {} s", CALL.as_secs()))),
    }
}

fn random<const N: usize>() -> Result<[u8; N], StoreFault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| StoreFault::Random)?;
    Ok(bytes)
}
