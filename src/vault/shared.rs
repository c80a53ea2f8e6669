//! What readers of the vault and its writing thread share.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::contents::{self, Changes, Records};
use super::fault::VaultFault;
use super::seal::Keyring;

/// What readers see; the writer changes it after a write is on disk.
pub(super) struct Shared {
    records: RwLock<Records>,
    keys: RwLock<Arc<Keyring>>,
    status: RwLock<Status>,
}

/// How the vault is.
#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) health: Health,
    pub(super) counter: u64,
    pub(super) anchor_behind: bool,
}

/// Whether a vault takes writes. Reads go on in every case.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It does.
    Healthy,
    /// The last write found no space; the next one is tried again.
    NoSpace,
    /// It takes none until it is opened anew.
    Poisoned {
        /// What failed.
        cause: String,
    },
}

impl Shared {
    pub(super) fn new(records: Records, keys: Keyring, counter: u64) -> Self {
        let status = Status { health: Health::Healthy, counter, anchor_behind: false };
        Self { records: RwLock::new(records), keys: RwLock::new(Arc::new(keys)), status: RwLock::new(status) }
    }

    // Nothing that holds these locks panics half-way through a change, so what a panic leaves behind is whole.
    pub(super) fn records(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes that are on disk.
    pub(super) fn apply(&self, changes: &Changes) {
        contents::apply(&mut self.records.write().unwrap_or_else(PoisonError::into_inner), changes);
    }

    pub(super) fn keys(&self) -> Arc<Keyring> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn status(&self) -> Status {
        self.status.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut Status)) {
        note(&mut self.status.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn set_keys(&self, keys: Keyring) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// No write is taken any more, for the first cause that is said.
    pub(super) fn poison(&self, cause: &str) {
        self.note(|status| {
            if !matches!(status.health, Health::Poisoned { .. }) {
                tracing::error!(cause, "the vault takes no more writes");
                status.health = Health::Poisoned { cause: cause.to_owned() };
            }
        });
    }

    /// The fault that every write gets, where the vault takes none.
    pub(super) fn writable(&self) -> Result<(), VaultFault> {
        match self.status().health {
            Health::Poisoned { cause } => Err(VaultFault::Poisoned { cause }),
            Health::Healthy | Health::NoSpace => Ok(()),
        }
    }
}
