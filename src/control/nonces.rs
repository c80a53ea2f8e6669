//! Nonces of signed requests, never twice.

use std::time::Duration;

use super::store::{DatabaseUrl, Store, StoreFault};
use crate::clock::UnixTime;
use crate::names::Namespace;
use crate::protocol::VerifiedSignature;
use crate::replay::{MemoryConfig, MemoryStore, ReplayFault};

/// How long a nonce is remembered: longer than any signature is fresh.
const WINDOW: Duration = Duration::from_secs(600);
/// Nonces in memory at most, about 50 MB.
const CAPACITY: usize = 2_000_000;

/// Why a nonce is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum NonceFault {
    /// It was seen before.
    #[error("{}", ReplayFault::Seen)]
    Seen,
    /// Whether it was seen before is not known.
    #[error("the request was signed before the control plane started; sign it anew")]
    BeforeStart,
    /// There is no room for another.
    #[error("the nonces seen are too many; retry later")]
    Full,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// How much of the memory a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// All of it: its caller was let in by the owner of a service.
    Whole,
    /// The first half: anybody can sign with a key of their own making, and must not crowd the others out.
    Half,
}

/// Where they are remembered.
#[derive(Debug)]
pub(super) enum Nonces {
    /// Here: a SQLite file has one process.
    Here(MemoryStore),
    /// In the database, since other replicas must know them.
    Shared,
}

impl Nonces {
    /// For a process that begins now.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn of(database: &DatabaseUrl, now: UnixTime) -> Result<Self, StoreFault> {
        match database {
            DatabaseUrl::Postgres(_) => Ok(Self::Shared),
            DatabaseUrl::Sqlite(_) => {
                let mut key = [0; 16];
                getrandom::fill(&mut key).map_err(|_| StoreFault::Random)?;
                let config = MemoryConfig { window: WINDOW, capacity: CAPACITY };
                Ok(Self::Here(MemoryStore::new(config, now, key)))
            }
        }
    }

    /// How long after `now` it is better to begin to listen: signatures of an earlier moment are refused.
    pub(super) fn wait(&self, now: UnixTime) -> Duration {
        match self {
            Self::Here(memory) => memory.not_before().since(now),
            Self::Shared => Duration::ZERO,
        }
    }

    /// Notes the nonce of a signature.
    ///
    /// # Errors
    /// When it was seen before, or cannot be remembered.
    pub(super) async fn note(
        &self,
        store: &Store,
        namespace: &Namespace,
        signature: &VerifiedSignature,
        share: Share,
        now: UnixTime,
    ) -> Result<(), NonceFault> {
        match self {
            Self::Here(memory) => {
                if share == Share::Half && memory.len() >= CAPACITY / 2 {
                    return Err(NonceFault::Full);
                }
                memory.record(namespace, signature.nonce(), signature.created(), now).map_err(|fault| {
                    match fault {
                        ReplayFault::Seen => NonceFault::Seen,
                        ReplayFault::BeforeStart => NonceFault::BeforeStart,
                        _ => NonceFault::Full,
                    }
                })
            }
            Self::Shared => {
                let fresh = store.note_nonce(namespace, signature.nonce(), now.plus(WINDOW), now).await?;
                if fresh { Ok(()) } else { Err(NonceFault::Seen) }
            }
        }
    }
}
