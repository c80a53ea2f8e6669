//! What replicas tell each other: that the feed moved, that deliveries wait, and signals.
//!
//! Within a process it goes through a watch and a broadcast, at once. Between the replicas of a PostgreSQL it goes
//! through LISTEN/NOTIFY; while the listener is down, the feed's head is read once a second instead. Other processes on
//! one SQLite file are noticed by the same reading.

use std::future::Future;
use std::sync::Weak;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::backend::{Backend, CALL, WAIT};
use super::{Inner, Signal, Store, StoreFault};

const CHANNEL: &str = "sigilum";
/// How often the head is read where nobody tells.
const POLL: Duration = Duration::from_secs(1);
/// The first pause before the listener connects anew; it doubles up to [`POLL`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// After so long without a word the listener asks whether its connection still stands.
const QUIET: Duration = Duration::from_secs(5);
/// PostgreSQL takes payloads below 8,000 bytes.
const PAYLOAD_BYTES: usize = 7_900;

/// A task that ends when this is dropped.
pub(super) struct Watcher(AbortHandle);

impl Watcher {
    pub(super) fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A payload on the channel.
#[derive(Serialize, Deserialize)]
struct Word {
    /// The replica that says it, and has heard it already.
    from: String,
    what: What,
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// The feed's number after the change.
    Head(i64),
    /// Deliveries were queued.
    Outbox,
    /// A signal.
    Signal(Signal),
}

impl Store {
    /// Tells every replica, this one included, at once. What it speaks of must be committed before.
    ///
    /// # Errors
    /// When the database fails; this replica has heard it all the same.
    pub async fn send_signal(&self, signal: Signal) -> Result<(), StoreFault> {
        let payload = self.payload(What::Signal(signal.clone()))?;
        self.0.hear(What::Signal(signal));
        if self.backend() == Backend::Postgres {
            sqlx::query(NOTIFY).bind(CHANNEL).bind(payload).execute(self.writers()).await?;
        }
        Ok(())
    }

    pub(super) fn payload(&self, what: What) -> Result<String, StoreFault> {
        let word = Word { from: self.0.name.clone(), what };
        let text = serde_json::to_string(&word).map_err(|fault| StoreFault::Database(fault.to_string()))?;
        if text.len() > PAYLOAD_BYTES {
            return Err(StoreFault::Database(format!(
                "a signal of {} bytes is longer than the {PAYLOAD_BYTES} that replicas can tell each other",
                text.len()
            )));
        }
        Ok(text)
    }
}

/// Tells the replicas when the transaction commits, and nothing where it does not. PostgreSQL alone has it.
pub(super) const NOTIFY: &str = "SELECT pg_notify($1, $2)";
pub(super) const NOTIFY_CHANNEL: &str = CHANNEL;

impl Inner {
    /// Passes on to who waits in this process.
    pub(super) fn hear(&self, what: What) {
        match what {
            What::Head(seq) => {
                self.head.send_if_modified(|head| {
                    let moved = seq > *head;
                    *head = seq.max(*head);
                    moved
                });
            }
            What::Outbox => self.outbox.send_modify(|count| *count = count.wrapping_add(1)),
            What::Signal(signal) => {
                // Nobody may be waiting.
                let _ = self.signals.send(signal);
            }
        }
    }

    /// The feed's last number, as far as this process heard.
    pub(super) fn head_heard(&self) -> i64 {
        *self.head.borrow()
    }

    /// Takes note of the number that the database itself gave when it was asked, which was after `before` had been
    /// heard. A lower one counts too: the database has lost changes, in a copy that was put back or a fail-over to a server that
    /// had not got them, and whoever waits must see that.
    pub(super) fn found_head(&self, before: i64, found: i64) {
        if found >= before {
            return self.hear(What::Head(found));
        }
        self.head.send_if_modified(|head| std::mem::replace(head, found) != found);
    }

    async fn read_head(&self) {
        let before = self.head_heard();
        let asked = sqlx::query_scalar("SELECT seq FROM feed_head").fetch_one(&self.readers);
        // Where it fails, the next round reads it.
        if let Ok(Ok(seq)) = timeout(CALL, asked).await {
            self.found_head(before, seq);
        }
    }
}

/// Reads the head again and again.
pub(super) async fn poll(inner: Weak<Inner>) {
    loop {
        sleep(POLL).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.read_head().await;
    }
}

/// Listens; while that is not possible, reads the head.
pub(super) async fn listen(inner: Weak<Inner>, options: PgConnectOptions) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(Ok(listener)) = timeout(CALL, connect(options.clone())).await {
            pause = FIRST_PAUSE;
            // What was said before the listening began is in the database.
            let Some(here) = inner.upgrade() else { return };
            here.read_head().await;
            here.hear(What::Outbox);
            drop(here);
            hear_all(&inner, listener).await;
            tracing::warn!("the database no longer tells of changes; it is asked every second until it does");
        }
        let Some(here) = inner.upgrade() else { return };
        here.read_head().await;
        drop(here);
        sleep(pause).await;
        pause = (pause * 2).min(POLL);
    }
}

async fn connect(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Hears until the connection is lost.
async fn hear_all(inner: &Weak<Inner>, mut listener: PgListener) {
    loop {
        let word = match timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(word))) => match serde_json::from_str::<Word>(word.payload()) {
                Ok(word) => word,
                // Not ours: anyone who may connect may notify.
                Err(_) => continue,
            },
            Ok(Ok(None) | Err(_)) => return,
            Err(_) => {
                let Some(inner) = inner.upgrade() else { return };
                let before = inner.head_heard();
                let asked =
                    sqlx::query_scalar::<_, i64>("SELECT seq FROM feed_head").fetch_one(&mut listener);
                match timeout(WAIT, asked).await {
                    Ok(Ok(seq)) => inner.found_head(before, seq),
                    _ => return,
                }
                continue;
            }
        };
        let Some(inner) = inner.upgrade() else { return };
        if word.from != inner.name {
            inner.hear(word.what);
        }
    }
}
