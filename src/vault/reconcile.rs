//! Whether the vault's two halves, storage and ledger, agree.

use std::path::{Path, PathBuf};

use super::contents::{self, Changes, Manifest, Records};
use super::fault::Findings;
use super::ledger::Reading;
use super::record::RecordKey;
use super::seal::Keyring;
use super::store::{StoreFault, StoreReading};

/// Where things lie in the vault's directory, and beside it.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) directory: PathBuf,
}

impl Layout {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.directory.join("ledger")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// A storage that is being made, to take the place of the one that is there.
    pub(super) fn new_store(&self) -> PathBuf {
        self.directory.join("store.new")
    }

    /// One whose place another took.
    pub(super) fn old_store(&self) -> PathBuf {
        self.directory.join("store.old")
    }

    /// One that was damaged, kept for who wants to look into it.
    pub(super) fn damaged_store(&self) -> PathBuf {
        self.directory.join("store.damaged")
    }
}

/// Halves that agree.
pub(super) enum Verdict {
    /// In everything.
    Whole,
    /// But for the last write, which the ledger has and the storage has not: a crash came between the two. It is made
    /// again.
    OneBehind(Changes, Manifest),
}

/// Compares the halves.
///
/// A write is in the ledger before it is in the storage, and answered when it is in both. So after a crash at any
/// moment the storage is where the ledger is, or one write behind; and everything else is damage.
pub(super) fn compare(
    directory: &Path,
    keys: &Keyring,
    ledger: &Reading,
    store: &Result<StoreReading, StoreFault>,
) -> Result<Verdict, Box<Findings>> {
    let verdict = store.as_ref().ok().and_then(|store| agreement(keys, ledger, store));
    verdict.ok_or_else(|| Box::new(findings(directory, keys, ledger, store)))
}

fn agreement(keys: &Keyring, ledger: &Reading, store: &StoreReading) -> Option<Verdict> {
    let manifest = store.manifest?;
    if !ledger.has_snapshot() || !is_whole(keys, store) {
        return None;
    }
    if manifest.counter == ledger.counter {
        let agree = manifest.chain == ledger.chain && store.records == ledger.records;
        return agree.then_some(Verdict::Whole);
    }
    let step = ledger.last.as_ref()?;
    if manifest.counter.checked_add(1)? != ledger.counter || manifest.chain != step.chain_before {
        return None;
    }
    let mut before = ledger.records.clone();
    contents::apply(&mut before, &step.undo);
    let next = Manifest::over(keys, ledger.counter, ledger.chain, &ledger.records);
    (store.records == before).then(|| Verdict::OneBehind(step.changes.clone(), next))
}

/// Whether the storage proves by itself that its records are all that its last write left, each unaltered.
pub(super) fn is_whole(keys: &Keyring, store: &StoreReading) -> bool {
    store.manifest.is_some_and(|manifest| {
        Manifest::over(keys, manifest.counter, manifest.chain, &store.records) == manifest
    })
}

fn findings(
    directory: &Path,
    keys: &Keyring,
    ledger: &Reading,
    store: &Result<StoreReading, StoreFault>,
) -> Findings {
    let nothing = StoreReading::default();
    let read = store.as_ref().unwrap_or(&nothing);
    let (ours, theirs) = (&ledger.records, &read.records);
    Findings {
        path: directory.to_owned(),
        ledger_writes: ledger.has_snapshot().then_some(ledger.counter),
        ledger_unproven_bytes: ledger.unproven_bytes,
        store_writes: read.manifest.map(|manifest| manifest.counter),
        store_fault: store.as_ref().err().map(|fault| fault.what.clone()),
        store_whole: is_whole(keys, read),
        missing: lacking(ours, theirs),
        altered: ours
            .iter()
            .filter(|(key, stored)| theirs.get(*key).is_some_and(|other| other != *stored))
            .map(|(key, _)| key.clone())
            .collect(),
        unexpected: lacking(theirs, ours),
    }
}

/// What is in `these` and not in `those`.
fn lacking(these: &Records, those: &Records) -> Vec<RecordKey> {
    these.keys().filter(|key| !those.contains_key(*key)).cloned().collect()
}
