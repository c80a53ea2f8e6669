//! The one thread that writes: it owns ledger and storage, and everything that is to be written comes to it in order.

use std::path::PathBuf;
use std::sync::Arc;

use super::anchor::Anchor;
use super::batch::Batch;
use super::contents::{self, Changes, Manifest, Stored};
use super::create::{self, io_fault};
use super::fault::{VaultFault, is_no_space};
use super::header::Header;
use super::ledger::{Entry, Ledger, LedgerFault, Reading};
use super::master_key::{MasterKey, Stretching};
use super::reconcile::{self, Layout, Verdict};
use super::record::RecordKey;
use super::resolve::resolve;
use super::seal::{Keyring, Tag, data_key_of};
use super::shared::{Health, Shared};
use super::store::{Store, StoreFault};

/// What the writing thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) layout: Layout,
    pub(super) header: Header,
    pub(super) ledger: Ledger,
    /// None between closing it and opening it anew.
    pub(super) store: Option<Store>,
    pub(super) anchor: Option<PathBuf>,
    pub(super) counter: u64,
    pub(super) chain: Tag,
    /// The storage lacks the last write, which the ledger has.
    pub(super) behind: bool,
}

/// Bounds of what a vault holds in memory and on disk.
const MOST_RECORDS: usize = 100_000;
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Records that are sealed anew in one write, so that others get their turn between.
const RESEALED_AT_ONCE: usize = 256;

impl Writer {
    /// Makes the changes of a batch; gives the versions that it added.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<Vec<RecordKey>, VaultFault> {
        self.ready()?;
        let keys = self.shared.keys();
        let (pending, versions) = resolve(&self.shared.records(), batch)?;
        let changes = pending
            .into_iter()
            .map(|(key, value)| match value {
                Some(value) => {
                    let stored = Stored::new(&keys.seal(&key, &value)?);
                    Ok((key, Some(stored)))
                }
                None => Ok((key, None)),
            })
            .collect::<Result<Changes, VaultFault>>()?;
        self.write(&keys, changes)?;
        Ok(versions)
    }

    /// Replaces the master key, and makes a new data key for what is written from now on.
    pub(super) fn rekey(
        &mut self,
        master: &MasterKey,
        passphrase: Option<Stretching>,
    ) -> Result<(), VaultFault> {
        self.shared.writable()?;
        let keys = self.shared.keys().with_new_data_key()?;
        let header = Header::new(self.header.next(), &keys, master, passphrase, self.header.anchored)?;
        self.set_header(header)?;
        self.shared.set_keys(keys);
        Ok(())
    }

    /// Seals some records anew that are under retired data keys; false when there were none.
    pub(super) fn reseal(&mut self) -> Result<bool, VaultFault> {
        self.ready()?;
        let keys = self.shared.keys();
        let old: Vec<(RecordKey, Stored)> = self
            .shared
            .records()
            .iter()
            .filter(|(_, stored)| {
                data_key_of(&stored.bytes).is_some_and(|key| keys.retired.contains_key(&key))
            })
            .take(RESEALED_AT_ONCE)
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect();
        if old.is_empty() {
            return Ok(false);
        }
        let mut changes = Changes::new();
        for (key, stored) in old {
            let value = keys.open(&key, &stored.bytes)?;
            let sealed = Stored::new(&keys.seal(&key, &value)?);
            changes.insert(key, Some(sealed));
        }
        self.write(&keys, changes)?;
        Ok(true)
    }

    /// Forgets the data keys that nothing is sealed with any more, in the ledger's history neither.
    ///
    /// A record whose data key is gone is lost for good. So whoever asks for this is not trusted to have sealed all
    /// anew: what is left is done here, with no other job between.
    pub(super) fn drop_retired(&mut self) -> Result<(), VaultFault> {
        while self.reseal()? {}
        self.ready()?;
        self.compact()?;
        let header = self.header.without_retired();
        self.set_header(header)?;
        let mut keys = self.shared.keys().share();
        keys.retired.clear();
        self.shared.set_keys(keys);
        Ok(())
    }

    /// Where the header's first copy is written and the second is not, the new one counts at the next open; so after
    /// a fault nobody can say which counts, and nothing more is written.
    fn set_header(&mut self, header: Header) -> Result<(), VaultFault> {
        match header.write(&self.layout.directory) {
            Ok(()) => {
                self.header = header;
                Ok(())
            }
            Err(fault) => {
                let stands = Header::read(&self.layout.directory);
                if !stands.is_ok_and(|(stands, _)| stands.next() == self.header.next()) {
                    self.shared.poison(&fault.to_string());
                }
                Err(fault)
            }
        }
    }

    /// Takes a write, or says why not. A storage that lacks the last write is opened anew first.
    fn ready(&mut self) -> Result<(), VaultFault> {
        self.shared.writable()?;
        if !self.behind {
            return Ok(());
        }
        self.store = None;
        match self.catch_up() {
            Ok(store) => {
                self.store = Some(store);
                self.behind = false;
                Ok(())
            }
            Err(StoreFault { passing: true, .. }) => Err(VaultFault::NoSpace),
            Err(StoreFault { what, .. }) => {
                self.shared.poison(&what);
                Err(VaultFault::Poisoned { cause: what })
            }
        }
    }

    fn catch_up(&self) -> Result<Store, StoreFault> {
        let keys = self.shared.keys();
        let ledger = Reading::of(&self.layout.ledger(), &keys)
            .map_err(|cause| StoreFault { what: cause.to_string(), passing: false })?;
        create::settle_store(&self.layout).map_err(|fault| StoreFault {
            what: fault.to_string(),
            passing: matches!(fault, VaultFault::NoSpace),
        })?;
        let store = Store::open(&self.layout.store(), &keys)?;
        let reading = store.read()?;
        match reconcile::compare(&self.layout.directory, &keys, &ledger, &Ok(reading)) {
            Ok(Verdict::Whole) => Ok(store),
            Ok(Verdict::OneBehind(changes, manifest)) => store.commit(&changes, &manifest).map(|()| store),
            Err(findings) => Err(StoreFault { what: findings.to_string(), passing: false }),
        }
    }

    /// One write: ledger, storage, what readers see, anchor.
    fn write(&mut self, keys: &Keyring, changes: Changes) -> Result<(), VaultFault> {
        if changes.is_empty() {
            return Ok(());
        }
        let counter = self.counter.saturating_add(1);
        let entry = Entry::new(keys, counter, &self.chain, &changes);
        let manifest = {
            let records = self.shared.records();
            let after = contents::after(&records, &changes);
            check_bounds(&after)?;
            Manifest::over(keys, counter, entry.chain, after)
        };
        self.ledger.append(&entry).map_err(|fault| self.append_failed(&fault))?;
        // From here on the write stands: it is on disk, and whatever happens to the storage, it is made again from
        // the ledger.
        (self.counter, self.chain) = (counter, entry.chain);
        let stored = match &self.store {
            Some(store) => store.commit(&changes, &manifest),
            None => Err(StoreFault { what: "the storage is closed".into(), passing: true }),
        };
        self.shared.apply(&changes);
        self.shared.note(|status| {
            status.counter = counter;
            status.health = Health::Healthy;
        });
        match stored {
            Ok(()) => self.compact_when_long(),
            Err(fault) => self.store_failed(&fault),
        }
        self.move_anchor(keys);
        Ok(())
    }

    /// The storage lacks the last write for want of space.
    pub(super) fn note_no_space(&self) {
        self.shared.note(|status| status.health = Health::NoSpace);
    }

    fn append_failed(&self, fault: &LedgerFault) -> VaultFault {
        if fault.undone && is_no_space(&fault.cause) {
            self.note_no_space();
            return VaultFault::NoSpace;
        }
        let cause = fault.cause.to_string();
        self.shared.poison(&cause);
        VaultFault::Poisoned { cause }
    }

    /// Where nobody can say which ledger a crash would leave, nothing more is written to either.
    fn compaction_failed(&self, fault: LedgerFault) -> VaultFault {
        if !fault.undone {
            self.shared.poison(&fault.cause.to_string());
        }
        io_fault(self.layout.ledger(), fault.cause)
    }

    fn store_failed(&mut self, fault: &StoreFault) {
        self.behind = true;
        if fault.passing {
            self.note_no_space();
        } else {
            self.shared.poison(&fault.what);
        }
    }

    /// Where it could not be rewritten all stays as long as it is, and the next write tries again.
    fn compact_when_long(&mut self) {
        if self.ledger.is_long()
            && let Err(fault) = self.compact()
        {
            tracing::warn!(%fault, "the vault could not be rewritten; it stays longer than it need be");
        }
    }

    /// Writes ledger and storage anew, with nothing in them but the records that are there.
    fn compact(&mut self) -> Result<(), VaultFault> {
        let keys = self.shared.keys();
        {
            let records = self.shared.records();
            create::remove_directory(&self.layout.new_store())?;
            let made =
                create::fill_store(&self.layout.new_store(), &keys, self.counter, self.chain, &records);
            if made.is_err() {
                // It takes space that the next write may need.
                let _ = create::remove_directory(&self.layout.new_store());
            }
            made?;
            let rewritten = self.ledger.compact(&keys, self.counter, &self.chain, &records);
            rewritten.map_err(|fault| self.compaction_failed(fault))?;
        }
        self.store = None;
        // Until the new one is open, the next write looks after the storage first.
        self.behind = true;
        create::swap_store(&self.layout, &self.layout.old_store())?;
        self.ready()
    }

    /// The anchor lies elsewhere, perhaps across a network. A write does not fail for it: an anchor that lags is still
    /// right, and the state says that it does.
    pub(super) fn move_anchor(&mut self, keys: &Keyring) {
        let Some(path) = &self.anchor else { return };
        let moved = Anchor { counter: self.counter, chain: self.chain }.write(path, keys);
        if let Err(cause) = &moved {
            tracing::warn!(%cause, anchor = %path.display(), "the vault's anchor could not be moved");
        }
        self.shared.note(|status| status.anchor_behind = moved.is_err());
    }
}

fn check_bounds(records: &[(&RecordKey, &Stored)]) -> Result<(), VaultFault> {
    let bytes = records.iter().map(|(_, stored)| stored.bytes.len() as u64).sum();
    let records = records.len();
    if records > MOST_RECORDS || bytes > MOST_BYTES {
        let (most_records, most_bytes) = (MOST_RECORDS, MOST_BYTES);
        return Err(VaultFault::TooMuch { records, bytes, most_records, most_bytes });
    }
    Ok(())
}
