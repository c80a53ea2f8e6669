//! Proving a closed vault, and going on with what is left of a damaged one.

use std::collections::BTreeSet;

use super::anchor::{Anchor, Seen};
use super::contents::{Records, Stored};
use super::create::{self, io_fault};
use super::fault::VaultFault;
use super::ledger::{Ledger, Reading};
use super::lock::Lock;
use super::open::Vault;
use super::options::VaultOptions;
use super::reconcile;
use super::record::RecordKey;
use super::seal::{Keyring, random};
use super::store::StoreReading;
use super::unlock::{Unlocked, check_anchor, read_store};

/// A vault that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Writes it has seen in its life.
    pub writes: u64,
    /// Records in it.
    pub records: usize,
    /// Records that are as they were written and do not open; set them anew.
    pub unreadable: Vec<RecordKey>,
}

/// What became of a damaged vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Losses {
    /// Records in it now.
    pub records: usize,
    /// Records that were damaged in one half of the vault and came from the other, as they were last written.
    pub mended: Vec<RecordKey>,
    /// Records that are gone, or that do not open and were removed.
    pub gone: Vec<RecordKey>,
    /// Records that are there, and of which nothing proves that they were not changed or removed later.
    pub unproven: Vec<RecordKey>,
    /// Writes that the anchor has seen and the vault has not: what they did is gone, and nothing says what it was.
    pub unknown_writes: u64,
}

impl Losses {
    /// Whether nothing is gone or in doubt.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.gone.is_empty() && self.unproven.is_empty() && self.unknown_writes == 0
    }
}

impl Vault {
    /// Proves a vault that no process has open: that storage, ledger and anchor agree, and that every record opens.
    ///
    /// # Errors
    /// As [`Vault::open`], except that it makes no vault where there is none.
    pub fn verify(options: &VaultOptions) -> Result<Verified, VaultFault> {
        let _lock = lock_existing(options)?;
        let unlocked = Unlocked::read(options)?;
        create::settle_store(&unlocked.layout)?;
        let ledger = unlocked.ledger()?;
        let (_, reading) = read_store(&unlocked.layout, &unlocked.keys);
        reconcile::compare(options.directory(), &unlocked.keys, &ledger, &reading)?;
        check_anchor(options, &unlocked, ledger.counter, ledger.chain)?;
        let unreadable = ledger.records.iter().filter(|(key, stored)| !opens(&unlocked.keys, key, stored));
        Ok(Verified {
            writes: ledger.counter,
            records: ledger.records.len(),
            unreadable: unreadable.map(|(key, _)| key.clone()).collect(),
        })
    }

    /// Goes on with what is left of a damaged vault, or with an older copy, and says what is gone. Of the two halves the
    /// one that proves more counts; what only the other has is taken where it opens. A vault that holds stays as it is.
    /// The storage as it was is kept beside the new one, as `store.damaged`.
    ///
    /// # Errors
    /// When the header does not open, or a file cannot be written. A crash leaves a vault on which it can be called again.
    pub fn accept_loss(options: &VaultOptions) -> Result<Losses, VaultFault> {
        let _lock = lock_existing(options)?;
        let unlocked = Unlocked::read(options)?;
        create::settle_store(&unlocked.layout)?;
        let ledger = unlocked.ledger()?;
        let (store, reading) = read_store(&unlocked.layout, &unlocked.keys);
        let agree = reconcile::compare(options.directory(), &unlocked.keys, &ledger, &reading).is_ok();
        drop(store);
        if agree && check_anchor(options, &unlocked, ledger.counter, ledger.chain).is_ok() {
            return Ok(Losses { records: ledger.records.len(), ..Losses::default() });
        }
        let seen = anchor_seen(options, &unlocked.keys)?;
        let reading = reading.unwrap_or_default();
        let reached = ledger.counter.max(reading.manifest.map_or(0, |manifest| manifest.counter));
        let (records, mut losses) = choose(&unlocked.keys, &ledger, &reading);
        losses.unknown_writes = seen.saturating_sub(reached);
        rebuild(options, &unlocked, reached.max(seen).saturating_add(1), &records)?;
        Ok(losses)
    }
}

fn lock_existing(options: &VaultOptions) -> Result<Lock, VaultFault> {
    if !options.directory().exists() {
        return Err(VaultFault::NoHeader { path: options.directory().to_owned() });
    }
    Lock::take(options.directory())
}

fn anchor_seen(options: &VaultOptions, keys: &Keyring) -> Result<u64, VaultFault> {
    let Some(path) = options.anchor() else { return Ok(0) };
    match Anchor::read(path, keys) {
        Ok(Seen::Point(anchor)) => Ok(anchor.counter),
        Ok(Seen::Nothing | Seen::Other) => Ok(0),
        Err(cause) => Err(VaultFault::Io { path: path.to_owned(), action: "read", cause }),
    }
}

fn opens(keys: &Keyring, key: &RecordKey, stored: &Stored) -> bool {
    keys.open(key, &stored.bytes).is_ok()
}

/// The records to go on with.
fn choose(keys: &Keyring, ledger: &Reading, store: &StoreReading) -> (Records, Losses) {
    let store_writes = store.manifest.map_or(0, |manifest| manifest.counter);
    let store_counts =
        reconcile::is_whole(keys, store) && (store_writes >= ledger.counter || !ledger.has_snapshot());
    let (mut records, other) = if store_counts {
        (store.records.clone(), &ledger.records)
    } else {
        (ledger.records.clone(), &store.records)
    };
    let (mut unproven, mut gone) = (BTreeSet::new(), BTreeSet::new());
    if !store_counts {
        // What the ledger named after its last proven write may be there in an earlier form, or not at all.
        unproven.extend(ledger.mentioned.iter().cloned());
        gone.extend(ledger.mentioned.iter().cloned());
        if goes_beyond(store, ledger) {
            for (key, stored) in &store.records {
                if records.get(key) == Some(stored) {
                    continue;
                }
                if opens(keys, key, stored) {
                    unproven.insert(key.clone());
                    records.insert(key.clone(), stored.clone());
                } else {
                    gone.insert(key.clone());
                }
            }
        }
    }
    gone.extend(records.iter().filter(|(key, stored)| !opens(keys, key, stored)).map(|(key, _)| key.clone()));
    records.retain(|key, stored| opens(keys, key, stored));
    gone.retain(|key| !records.contains_key(key));
    unproven.retain(|key| records.contains_key(key));
    let mended = records.iter().filter(|(key, stored)| other.get(*key) != Some(*stored));
    let losses = Losses {
        records: records.len(),
        mended: mended.map(|(key, _)| key.clone()).filter(|key| !unproven.contains(key)).collect(),
        gone: gone.into_iter().collect(),
        unproven: unproven.into_iter().collect(),
        unknown_writes: 0,
    };
    (records, losses)
}

/// Whether a storage that is not whole may have records from after the ledger's last proven write.
fn goes_beyond(store: &StoreReading, ledger: &Reading) -> bool {
    match store.manifest {
        Some(manifest) => manifest.counter > ledger.counter || !ledger.has_snapshot(),
        None => ledger.unproven_bytes > 0 || !ledger.has_snapshot(),
    }
}

/// Writes both halves anew. The ledger first: from then on it is what counts, and a crash after it is mended by calling
/// this again.
fn rebuild(
    options: &VaultOptions,
    unlocked: &Unlocked,
    counter: u64,
    records: &Records,
) -> Result<(), VaultFault> {
    let (keys, layout) = (&unlocked.keys, &unlocked.layout);
    let chain = random()?;
    let ledger = Ledger::write(&layout.ledger(), keys, counter, &chain, records);
    ledger.map_err(|cause| io_fault(layout.ledger(), cause))?;
    create::fill_store(&layout.new_store(), keys, counter, chain, records)?;
    create::remove_directory(&layout.damaged_store())?;
    create::swap_store(layout, &layout.damaged_store())?;
    unlocked.header.write(&layout.directory)?;
    if let Some(path) = options.anchor() {
        let anchor = Anchor { counter, chain };
        anchor.write(path, keys).map_err(|cause| io_fault(path.to_owned(), cause))?;
    }
    Ok(())
}
