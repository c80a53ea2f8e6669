//! The storage engine, fjall: one keyspace with the sealed records and the manifest over them.
//!
//! Everything stays in fjall's journal: its memtable is never written out, and where the journal outgrows what is in it,
//! a fresh storage takes the place of the old one. So no file but the journal ever changes, and `inventory.rs` can tell
//! whether they did. fjall panics on some damage of its journal; every call into it is caught, and becomes a fault.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::contents::{Changes, Manifest, Records, Stored};
use super::fault::is_no_space;
use super::files;
use super::inventory;
use super::record::RecordKey;
use super::seal::Keyring;

/// The engine, open.
pub(super) struct Store {
    database: Database,
    records: Keyspace,
}

/// What is in it.
#[derive(Default)]
pub(super) struct StoreReading {
    pub(super) manifest: Option<Manifest>,
    pub(super) records: Records,
}

/// What the engine says when it fails.
#[derive(Debug)]
pub(super) struct StoreFault {
    pub(super) what: String,
    /// Whether opening it anew may help: no space was left, or the engine closed itself after a fault of its own.
    pub(super) passing: bool,
}

const KEYSPACE: &str = "records";
/// No record's address begins with zero.
const MANIFEST: &[u8] = b"\0manifest";
/// Records are read once, at open, and from its journal.
const CACHE_BYTES: u64 = 1024 * 1024;
/// No memtable is ever this large: a vault holds 256 MiB at most.
const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

impl Store {
    /// Makes one with these records, closed and on disk when the call returns.
    pub(super) fn create(
        path: &Path,
        keys: &Keyring,
        changes: &Changes,
        manifest: &Manifest,
    ) -> Result<(), StoreFault> {
        let store = Self::start(path)?;
        store.commit(changes, manifest)?;
        drop(store);
        // Opened once more it removes what it needed only for its own making, and the room that it took in advance.
        drop(Self::start(path)?);
        inventory::write(path, keys).map_err(|cause| fault(&cause.into()))
    }

    /// Opens one that is there, after comparing its files.
    pub(super) fn open(path: &Path, keys: &Keyring) -> Result<Self, StoreFault> {
        if !path.exists() {
            return Err(StoreFault { what: "it is not there".into(), passing: false });
        }
        inventory::check(path, keys).map_err(|what| StoreFault { what, passing: false })?;
        Self::start(path)
    }

    fn start(path: &Path) -> Result<Self, StoreFault> {
        caught(|| {
            let database = Database::builder(path).cache_size(CACHE_BYTES).worker_threads(1).open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let records = database.keyspace(KEYSPACE, options)?;
            files::close_tree(path)?;
            Ok(Self { database, records })
        })
    }

    /// Reads all of it.
    pub(super) fn read(&self) -> Result<StoreReading, StoreFault> {
        caught(|| {
            let mut reading = StoreReading::default();
            for item in self.records.iter() {
                let (key, value) = item.into_inner()?;
                if *key == *MANIFEST {
                    reading.manifest = Manifest::decode(&value);
                } else if let Some(key) = RecordKey::decode(&key) {
                    reading.records.insert(key, Stored::new(&value));
                }
            }
            Ok(reading)
        })
    }

    /// Makes the changes and sets the manifest, together and fsynced.
    pub(super) fn commit(&self, changes: &Changes, manifest: &Manifest) -> Result<(), StoreFault> {
        caught(|| {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
            for (key, stored) in changes {
                match stored {
                    Some(stored) => batch.insert(&self.records, key.encode(), &*stored.bytes),
                    None => batch.remove(&self.records, key.encode()),
                }
            }
            batch.insert(&self.records, MANIFEST, manifest.encode());
            batch.commit()
        })
    }
}

fn caught<T>(call: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreFault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(fault(&error)),
        Err(panic) => Err(StoreFault {
            what: format!("the engine stopped on data that it cannot make sense of: {}", words(&*panic)),
            passing: false,
        }),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it does not say why")
}

fn fault(error: &fjall::Error) -> StoreFault {
    let io = match error {
        fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => Some(cause),
        _ => None,
    };
    let what = match error {
        fjall::Error::JournalRecovery(kind) => format!("its journal is damaged: {kind:?}"),
        fjall::Error::Storage(fjall::LsmError::ChecksumMismatch { .. }) => {
            "a table's checksum does not hold".into()
        }
        fjall::Error::Storage(fjall::LsmError::Unrecoverable) | fjall::Error::Unrecoverable => {
            "files of it are missing or damaged".into()
        }
        fjall::Error::Storage(other) => match io {
            Some(cause) => cause.to_string(),
            None => format!("a table is damaged: {other:?}"),
        },
        fjall::Error::Io(cause) => cause.to_string(),
        fjall::Error::Poisoned => "an earlier write of the engine's own failed".into(),
        fjall::Error::Locked => "another process has it open".into(),
        other => format!("{other:?}"),
    };
    let passing = io.is_some_and(is_no_space) || matches!(error, fjall::Error::Poisoned);
    StoreFault { what, passing }
}
