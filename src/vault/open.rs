//! The vault, open.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::anchor::Anchor;
use super::batch::Batch;
use super::create::{self, io_fault, store_fault};
use super::fault::{RecordFault, VaultFault};
use super::files;
use super::key_id::MasterKeyId;
use super::ledger::{Ledger, Reading};
use super::lock::Lock;
use super::master_key::MasterKeySource;
use super::options::VaultOptions;
use super::reconcile::{self, Verdict};
use super::record::{Kind, RecordKey};
use super::shared::{Health, Shared};
use super::store::Store;
use super::unlock::{Unlocked, check_anchor, read_store};
use super::writer::Writer;
use crate::secret::SecretBytes;

/// An open vault. Clones are the same vault; it is closed when the last one goes.
#[derive(Clone)]
pub struct Vault(Arc<Open>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({:?})", self.state())
    }
}

/// How a vault is: for metrics and alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultState {
    /// Whether it takes writes.
    pub health: Health,
    /// Writes it has seen in its life.
    pub writes: u64,
    /// Records in it.
    pub records: usize,
    /// Their bytes on disk, sealed.
    pub bytes: u64,
    /// Data keys that still open records from before a rekey.
    pub retired_data_keys: usize,
    /// Whether the anchor could not be moved with the last write.
    pub anchor_behind: bool,
}

struct Open {
    shared: Arc<Shared>,
    /// None only while it is being closed.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Held over the whole of a rekey, which is several jobs: one after the other.
    rekeying: Mutex<()>,
    /// A job was not answered in time.
    stalled: AtomicBool,
}

type Job = Box<dyn FnOnce(&mut Writer) + Send>;

/// A write takes some fsyncs. Past this the storage hangs, which fjall is known to do after some faults.
const DEADLINE: Duration = Duration::from_secs(30);
/// Writes that wait their turn.
const WAITING: usize = 64;

impl Vault {
    /// Opens the vault, and makes it where there is none. Compares storage and ledger, and refuses where anything is
    /// lost, altered, swapped or from earlier.
    ///
    /// # Errors
    /// Every [`VaultFault`] that does not speak of a write. The sentence says the way out.
    pub fn open(options: &VaultOptions) -> Result<Self, VaultFault> {
        let lock = Lock::take(&options.directory)?;
        create::remove_unfinished(&options.directory)?;
        if create::is_missing(&options.directory)? {
            if let Some(anchor) = options.anchor().filter(|anchor| anchor.exists()) {
                let (path, anchor) = (options.directory.clone(), anchor.to_owned());
                return Err(VaultFault::Gone { path, anchor });
            }
            create::create(&options.directory, &options.master_key)?;
        }
        let unlocked = Unlocked::read(options)?;
        let ledger = unlocked.ledger()?;
        create::settle_store(&unlocked.layout)?;
        let (store, reading) = read_store(&unlocked.layout, &unlocked.keys);
        if let Err(fault) = &reading
            && fault.passing
        {
            return Err(VaultFault::NoSpace);
        }
        let verdict = reconcile::compare(&options.directory, &unlocked.keys, &ledger, &reading)?;
        check_anchor(options, &unlocked, ledger.counter, ledger.chain)?;
        let behind = match (verdict, &store) {
            (Verdict::OneBehind(changes, manifest), Some(store)) => match store.commit(&changes, &manifest) {
                // Reads need no space; the next write tries again.
                Err(fault) if fault.passing => true,
                made => made.map(|()| false).map_err(|fault| store_fault(&unlocked.layout.store(), fault))?,
            },
            _ => false,
        };
        Self::start(options, unlocked, ledger, (store, behind), lock)
    }

    fn start(
        options: &VaultOptions,
        mut unlocked: Unlocked,
        reading: Reading,
        (store, behind): (Option<Store>, bool),
        lock: Lock,
    ) -> Result<Self, VaultFault> {
        let layout = unlocked.layout;
        let ledger =
            Ledger::open(&layout.ledger(), &reading).map_err(|cause| io_fault(layout.ledger(), cause))?;
        let newly_anchored = options.anchor().filter(|_| !unlocked.header.anchored);
        if let Some(path) = newly_anchored {
            // Made only now: where it is missing later, a mount is missing or somebody took it away.
            files::make_parent(path)
                .and_then(|()| {
                    let anchor = Anchor { counter: reading.counter, chain: reading.chain };
                    anchor.write(path, &unlocked.keys)
                })
                .map_err(|cause| io_fault(path.to_owned(), cause))?;
            unlocked.header = unlocked.header.with_anchor();
        }
        let Reading { counter, chain, records, .. } = reading;
        let shared = Arc::new(Shared::new(records, unlocked.keys, counter));
        let mut writer = Writer {
            shared: shared.clone(),
            layout,
            header: unlocked.header,
            ledger,
            store,
            anchor: options.anchor.clone(),
            counter,
            chain,
            behind,
        };
        if behind {
            writer.note_no_space();
        }
        writer.move_anchor(&shared.keys());
        if newly_anchored.is_some() || !unlocked.alike {
            writer.header.write(&writer.layout.directory)?;
        }
        let (jobs, waiting) = mpsc::sync_channel::<Job>(WAITING);
        let thread = thread::Builder::new().name("vault-writer".into()).spawn(move || {
            for job in waiting {
                if catch_unwind(AssertUnwindSafe(|| job(&mut writer))).is_err() {
                    writer.shared.poison("a fault in the vault itself; its message is on standard error");
                }
            }
            // Storage first: nobody opens it anew while it is still being closed.
            drop(writer);
            drop(lock);
        });
        let thread = thread.map_err(|cause| io_fault(options.directory.clone(), cause))?;
        Ok(Self(Arc::new(Open {
            shared,
            jobs: Some(jobs),
            thread: Some(thread),
            rekeying: Mutex::new(()),
            stalled: AtomicBool::new(false),
        })))
    }

    /// Reads a record, from memory.
    ///
    /// # Errors
    /// When it is there and does not authenticate. The other records go on.
    pub fn get(&self, key: &RecordKey) -> Result<Option<SecretBytes>, RecordFault> {
        let stored = self.0.shared.records().get(key).cloned();
        stored.map(|stored| self.0.shared.keys().open(key, &stored.bytes)).transpose()
    }

    /// Reads the latest version of a record, and says which that is.
    ///
    /// # Errors
    /// When it is there and does not authenticate. An older version is not given in its place.
    pub fn latest(
        &self,
        kind: Kind,
        owner: &str,
        name: &str,
    ) -> Result<Option<(RecordKey, SecretBytes)>, RecordFault> {
        let Some(key) = self.versions(kind, owner, name).pop() else { return Ok(None) };
        Ok(self.get(&key)?.map(|value| (key, value)))
    }

    /// The versions of a record that are kept, oldest first.
    #[must_use]
    pub fn history(&self, kind: Kind, owner: &str, name: &str) -> Vec<u64> {
        self.versions(kind, owner, name).iter().map(RecordKey::version).collect()
    }

    fn versions(&self, kind: Kind, owner: &str, name: &str) -> Vec<RecordKey> {
        let first = RecordKey::first_version(kind, owner, name);
        let records = self.0.shared.records();
        records
            .range(&first..)
            .map(|(key, _)| key)
            .take_while(|key| key.is_version_of(&first))
            .cloned()
            .collect()
    }

    /// The records of a kind, of one owner or of all, in order.
    #[must_use]
    pub fn list(&self, kind: Kind, owner: Option<&str>) -> Vec<RecordKey> {
        let records = self.0.shared.records();
        records
            .range(RecordKey::first_of(kind, owner)..)
            .map(|(key, _)| key)
            .take_while(|key| key.kind() == kind && owner.is_none_or(|owner| key.owner() == owner))
            .cloned()
            .collect()
    }

    /// Whether a record is there, whether or not it can be read.
    #[must_use]
    pub fn contains(&self, key: &RecordKey) -> bool {
        self.0.shared.records().contains_key(key)
    }

    /// Every record.
    pub(super) fn all(&self) -> Vec<RecordKey> {
        self.0.shared.records().keys().cloned().collect()
    }

    /// Makes the changes of a batch, all or none. They are on disk, fsynced, when the call returns, and gives the
    /// addresses of the versions that the batch added.
    ///
    /// A write that fails changed nothing that readers see. After [`VaultFault::Poisoned`] or [`VaultFault::Stalled`]
    /// it may stand when the vault is opened anew: the fault came before anybody could know.
    ///
    /// # Errors
    /// [`VaultFault::NoSpace`], [`VaultFault::Exists`], the faults of bounds, and those after which no write is taken.
    pub fn commit(&self, batch: Batch) -> Result<Vec<RecordKey>, VaultFault> {
        batch.check()?;
        self.run(move |writer| writer.commit(batch))
    }

    /// Replaces the master key by the one that `new` gives (a passphrase gets a fresh salt), while reads and writes go
    /// on. After a crash at any moment either the old or the new key opens the vault. Every record is then sealed anew
    /// under a new data key, so that the old master key opens nothing that is left. A second rekey waits for the first.
    ///
    /// # Errors
    /// When the new key cannot be read, or a write fails. Where the key was replaced and not all was sealed anew, the
    /// new key is in force and [`VaultState::retired_data_keys`] is not zero; calling it again ends the work.
    pub fn rekey(&self, new: &MasterKeySource) -> Result<MasterKeyId, VaultFault> {
        // It guards no value that a panic could leave half-changed.
        let _alone = self.0.rekeying.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the writing thread is asked: a passphrase or a command takes its time.
        let (master, passphrase) = new.create()?;
        let id = master.id();
        self.run(move |writer| writer.rekey(&master, passphrase))?;
        while self.run(Writer::reseal)? {}
        self.run(Writer::drop_retired)?;
        Ok(id)
    }

    /// How the vault is.
    #[must_use]
    pub fn state(&self) -> VaultState {
        let status = self.0.shared.status();
        let records = self.0.shared.records();
        VaultState {
            health: status.health,
            writes: status.counter,
            records: records.len(),
            bytes: records.values().map(|stored| stored.bytes.len() as u64).sum(),
            retired_data_keys: self.0.shared.keys().retired.len(),
            anchor_behind: status.anchor_behind,
        }
    }

    /// Has the writing thread do a job, and waits for it.
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Writer) -> Result<T, VaultFault> + Send + 'static,
    ) -> Result<T, VaultFault> {
        let shared = &self.0.shared;
        shared.writable()?;
        let (reply, answer) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |writer| {
            // Nobody waits any more where the time was over.
            let _ = reply.send(job(writer));
        });
        match self.0.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => return Err(VaultFault::Busy),
            Some(Err(TrySendError::Disconnected(_))) | None => {
                return Err(VaultFault::Poisoned { cause: "the writing thread is gone".into() });
            }
        }
        match answer.recv_timeout(DEADLINE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = DEADLINE.as_secs();
                let stalled = VaultFault::Stalled { seconds };
                self.0.stalled.store(true, Ordering::Relaxed);
                shared.poison(&stalled.to_string());
                Err(stalled)
            }
            Err(RecvTimeoutError::Disconnected) => {
                shared.writable()?;
                Err(VaultFault::Poisoned { cause: "the writing thread ended".into() })
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.jobs = None;
        // A stalled writer may hang in the engine for good; the process ends without it.
        if !self.stalled.load(Ordering::Relaxed)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> RecordKey {
        RecordKey::new(Kind::Secret, "openai", &format!("n{n}"), 1).unwrap()
    }

    /// The order of jobs that two rekeys without regard for each other would make: one seals all anew, the other makes
    /// a new data key, and the first then drops what it takes for its own.
    #[test]
    fn data_key_that_still_seals_records_outlives_a_drop_of_retired_ones() {
        let place = tempfile::tempdir().unwrap();
        let source = MasterKeySource::Generated(place.path().join("vault.key"));
        let options = VaultOptions::new(&place.path().join("vault"), source);
        let vault = Vault::open(&options).unwrap();
        let batch =
            (0..300).fold(Batch::new(), |batch, n| batch.put(key(n), SecretBytes::new(b"sk".to_vec())));
        vault.commit(batch).unwrap();
        let master = options.master_key.create().unwrap().0;
        vault.run(move |writer| writer.rekey(&master, None)).unwrap();
        vault.run(Writer::drop_retired).unwrap();
        assert_eq!(vault.state().retired_data_keys, 0);
        let all_open = |vault: &Vault| (0..300).all(|n| matches!(vault.get(&key(n)), Ok(Some(_))));
        assert!(all_open(&vault));
        drop(vault);
        assert!(all_open(&Vault::open(&options).unwrap()));
    }
}
