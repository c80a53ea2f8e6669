//! The ledger: every write once more, in order, outside the storage engine.
//!
//! The engine opens with records silently missing when its journal is damaged. So each write is first appended here
//! and fsynced: the sealed records, under a MAC that covers the write before it too. What the engine then lost, swapped
//! or brought back from earlier is seen at open, and mended from here; what is damaged here is mended from the engine.
//! The file begins with a snapshot and is rewritten as one when the writes after it outgrow it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::contents::{self, Changes, Records, Stored};
use super::files;
use super::record::RecordKey;
use super::seal::{Keyring, Tag};
use super::wire::{Cursor, length_of, put_bytes};

/// The ledger's file, open for appending.
pub(super) struct Ledger {
    file: File,
    path: PathBuf,
    /// Bytes that hold; the next write goes behind them.
    length: u64,
    snapshot_length: u64,
}

/// What a ledger says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Writes up to here, each proven.
    pub(super) counter: u64,
    /// The MAC of the last of them.
    pub(super) chain: Tag,
    /// The records after them.
    pub(super) records: Records,
    /// The last write, where there is one after the snapshot.
    pub(super) last: Option<Step>,
    /// Bytes up to the end of the last proven write.
    length: u64,
    snapshot_length: u64,
    /// Bytes behind it that prove nothing: a write that was cut short, or damage.
    pub(super) unproven_bytes: u64,
    /// The addresses that seem to be named in them.
    pub(super) mentioned: Vec<RecordKey>,
}

/// One write.
#[derive(Debug)]
pub(super) struct Step {
    /// The chain before it.
    pub(super) chain_before: Tag,
    /// What it did.
    pub(super) changes: Changes,
    /// What undoes it.
    pub(super) undo: Changes,
}

const MAGIC: &[u8; 8] = b"SGLMLDG1";
const TAG_BYTES: usize = 32;
/// Writes after the snapshot may take this much before it is rewritten, or as much as the snapshot where that is more.
const SLACK_BYTES: u64 = 1024 * 1024;

/// A write could not be appended, or the ledger not be rewritten.
#[derive(Debug)]
pub(super) struct LedgerFault {
    pub(super) cause: io::Error,
    /// Whether the file is again what it was.
    pub(super) undone: bool,
}

/// A write as it is appended.
pub(super) struct Entry {
    frame: Vec<u8>,
    /// The chain after it.
    pub(super) chain: Tag,
}

impl Entry {
    pub(super) fn new(keys: &Keyring, counter: u64, chain_before: &Tag, changes: &Changes) -> Self {
        let mut body = counter.to_be_bytes().to_vec();
        for (key, stored) in changes {
            put_bytes(&mut body, &key.encode());
            put_bytes(&mut body, stored.as_ref().map_or(&[], |stored| &stored.bytes));
        }
        let chain = entry_mac(keys, chain_before, &body);
        Self { frame: frame(&body, &chain), chain }
    }
}

impl Ledger {
    /// Writes a ledger that is nothing but a snapshot, in place of one that may stand.
    pub(super) fn write(
        path: &Path,
        keys: &Keyring,
        counter: u64,
        chain: &Tag,
        records: &Records,
    ) -> io::Result<Self> {
        let bytes = snapshot(keys, counter, chain, records);
        let files::Placed { file, lasting } = files::place(path, &bytes)?;
        lasting?;
        let length = bytes.len() as u64;
        Ok(Self { file, path: path.to_owned(), length, snapshot_length: length })
    }

    /// Opens one for appending behind what `reading` proved. What is behind that, a write that was cut short, goes.
    pub(super) fn open(path: &Path, reading: &Reading) -> io::Result<Self> {
        let file = files::open(path)?;
        if reading.unproven_bytes > 0 {
            file.set_len(reading.length)?;
            file.sync_all()?;
        }
        let Reading { length, snapshot_length, .. } = *reading;
        Ok(Self { file, path: path.to_owned(), length, snapshot_length })
    }

    /// Appends a write; it is on disk when the call returns.
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), LedgerFault> {
        let written = self.file.write_all_at(&entry.frame, self.length).and_then(|()| self.file.sync_all());
        match written {
            Ok(()) => {
                self.length += entry.frame.len() as u64;
                Ok(())
            }
            Err(cause) => {
                let undone = self.file.set_len(self.length).and_then(|()| self.file.sync_all()).is_ok();
                Err(LedgerFault { cause, undone })
            }
        }
    }

    /// Whether rewriting it as a snapshot is worth it.
    pub(super) fn is_long(&self) -> bool {
        self.length - self.snapshot_length > self.snapshot_length.max(SLACK_BYTES)
    }

    /// Rewrites it as a snapshot. Where the fault is undone it stays as it was.
    pub(super) fn compact(
        &mut self,
        keys: &Keyring,
        counter: u64,
        chain: &Tag,
        records: &Records,
    ) -> Result<(), LedgerFault> {
        let bytes = snapshot(keys, counter, chain, records);
        let placed = files::place(&self.path, &bytes).map_err(|cause| LedgerFault { cause, undone: true })?;
        self.go_on_with(placed, bytes.len() as u64)
    }

    /// The file from before has no name any more, so what is appended goes to the new one, also where nobody can know
    /// which of the two a crash would leave.
    fn go_on_with(&mut self, placed: files::Placed, length: u64) -> Result<(), LedgerFault> {
        (self.file, self.length, self.snapshot_length) = (placed.file, length, length);
        placed.lasting.map_err(|cause| LedgerFault { cause, undone: false })
    }
}

impl Reading {
    /// Reads a ledger as far as it is proven.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn of(path: &Path, keys: &Keyring) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let mut reading = Self { unproven_bytes: bytes.len() as u64, ..Self::default() };
        let mut cursor = Cursor::new(&bytes);
        if cursor.array() != Some(*MAGIC) || reading.snapshot(keys, &mut cursor).is_none() {
            reading.mentioned = mentioned_in_snapshot(&bytes).unwrap_or_default();
            return Ok(reading);
        }
        loop {
            let rest = cursor.rest();
            reading.length = (bytes.len() - rest.len()) as u64;
            reading.unproven_bytes = rest.len() as u64;
            if reading.snapshot_length == 0 {
                reading.snapshot_length = reading.length;
            }
            if reading.entry(keys, &mut cursor).is_none() {
                reading.mentioned = mentioned_in_entries(rest);
                return Ok(reading);
            }
        }
    }

    fn snapshot(&mut self, keys: &Keyring, cursor: &mut Cursor<'_>) -> Option<()> {
        let (body, tag) = read_frame(cursor)?;
        if !keys.integrity.holds(SNAPSHOT, [body], &tag) {
            return None;
        }
        let mut cursor = Cursor::new(body);
        if cursor.array() != Some(keys.vault) {
            return None;
        }
        (self.counter, self.chain) = (cursor.u64()?, cursor.array()?);
        while !cursor.rest().is_empty() {
            let (key, stored) = (cursor.key()?, cursor.bytes()?);
            self.records.insert(key, Stored::new(stored));
        }
        Some(())
    }

    fn entry(&mut self, keys: &Keyring, cursor: &mut Cursor<'_>) -> Option<()> {
        let (body, tag) = read_frame(cursor)?;
        if !keys.integrity.holds(ENTRY, entry_parts(keys, &self.chain, body), &tag) {
            return None;
        }
        let (counter, changes) = read_entry(body)?;
        let undo = changes.keys().map(|key| (key.clone(), self.records.get(key).cloned())).collect();
        contents::apply(&mut self.records, &changes);
        self.last = Some(Step { chain_before: self.chain, changes, undo });
        (self.counter, self.chain) = (counter, tag);
        Some(())
    }

    /// Whether it begins with a proven snapshot; without one it says nothing at all.
    pub(super) fn has_snapshot(&self) -> bool {
        self.snapshot_length > 0
    }
}

const SNAPSHOT: &str = "sigilum-vault-snapshot-v1";
const ENTRY: &str = "sigilum-vault-entry-v1";

fn entry_parts<'a>(keys: &'a Keyring, chain_before: &'a Tag, body: &'a [u8]) -> [&'a [u8]; 3] {
    [&keys.vault, chain_before, body]
}

fn entry_mac(keys: &Keyring, chain_before: &Tag, body: &[u8]) -> Tag {
    keys.integrity.mac(ENTRY, entry_parts(keys, chain_before, body))
}

fn snapshot(keys: &Keyring, counter: u64, chain: &Tag, records: &Records) -> Vec<u8> {
    let mut body = [keys.vault.as_slice(), &counter.to_be_bytes(), chain].concat();
    for (key, stored) in records {
        put_bytes(&mut body, &key.encode());
        put_bytes(&mut body, &stored.bytes);
    }
    let tag = keys.integrity.mac(SNAPSHOT, [body.as_slice()]);
    [MAGIC.as_slice(), &frame(&body, &tag)].concat()
}

/// Length, body, MAC.
fn frame(body: &[u8], tag: &Tag) -> Vec<u8> {
    [length_of(body).to_be_bytes().as_slice(), body, tag].concat()
}

fn read_frame<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], Tag)> {
    Some((cursor.bytes()?, cursor.array::<TAG_BYTES>()?))
}

fn read_entry(body: &[u8]) -> Option<(u64, Changes)> {
    let mut cursor = Cursor::new(body);
    let counter = cursor.u64()?;
    let mut changes = Changes::new();
    while !cursor.rest().is_empty() {
        let (key, stored) = (cursor.key()?, cursor.bytes()?);
        // A sealed record is never empty, so nothing means removed.
        changes.insert(key, (!stored.is_empty()).then(|| Stored::new(stored)));
    }
    Some((counter, changes))
}

/// The addresses that a damaged end seems to name: not proven, and good for nothing but telling what may be gone.
fn mentioned_in_entries(bytes: &[u8]) -> Vec<RecordKey> {
    let mut cursor = Cursor::new(bytes);
    let mut found = std::collections::BTreeSet::new();
    while let Some((body, _)) = read_frame(&mut cursor) {
        found.extend(read_entry(body).into_iter().flat_map(|(_, changes)| changes.into_keys()));
    }
    found.into_iter().collect()
}

fn mentioned_in_snapshot(bytes: &[u8]) -> Option<Vec<RecordKey>> {
    let mut cursor = Cursor::new(bytes);
    cursor.array::<8>()?;
    let (body, _) = read_frame(&mut cursor)?;
    let mut inside = Cursor::new(body.get(size_of::<super::seal::VaultId>() + 8 + TAG_BYTES..)?);
    let mut found = std::collections::BTreeSet::new();
    while let (Some(key), Some(_)) = (inside.key(), inside.bytes()) {
        found.insert(key);
    }
    found.extend(mentioned_in_entries(cursor.rest()));
    Some(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::super::record::Kind;
    use super::*;

    struct Place {
        _directory: tempfile::TempDir,
        path: PathBuf,
        keys: Keyring,
    }

    fn key(name: &str) -> RecordKey {
        RecordKey::new(Kind::Secret, "openai", name, 1).unwrap()
    }

    /// A ledger with the writes a, b and c, each setting a record of its own name.
    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let (path, keys) = (directory.path().join("ledger"), Keyring::create().unwrap());
        let mut ledger = Ledger::write(&path, &keys, 0, &[0; 32], &Records::new()).unwrap();
        let mut chain = [0; 32];
        for (counter, name) in (1..).zip(["a", "b", "c"]) {
            let changes =
                Changes::from([(key(name), Some(Stored::new(format!("value of {name}").as_bytes())))]);
            let entry = Entry::new(&keys, counter, &chain, &changes);
            ledger.append(&entry).unwrap();
            chain = entry.chain;
        }
        Place { _directory: directory, path, keys }
    }

    #[test]
    fn ledger_says_what_was_written() {
        let place = place();
        let reading = Reading::of(&place.path, &place.keys).unwrap();
        assert_eq!((reading.counter, reading.unproven_bytes), (3, 0));
        assert_eq!(reading.records.into_keys().collect::<Vec<_>>(), [key("a"), key("b"), key("c")]);
        assert_eq!(reading.last.unwrap().undo, Changes::from([(key("c"), None)]));
    }

    #[test]
    fn write_that_was_cut_short_is_unproven_and_goes() {
        let place = place();
        let whole = std::fs::read(&place.path).unwrap();
        std::fs::write(&place.path, &whole[..whole.len() - 1]).unwrap();
        let reading = Reading::of(&place.path, &place.keys).unwrap();
        assert_eq!(reading.counter, 2);
        assert!(reading.unproven_bytes > 0);
        drop(Ledger::open(&place.path, &reading).unwrap());
        assert_eq!(Reading::of(&place.path, &place.keys).unwrap().unproven_bytes, 0);
    }

    #[test]
    fn flipped_bit_ends_what_is_proven_and_the_rest_is_still_named() {
        let place = place();
        let whole = std::fs::read(&place.path).unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 4;
            std::fs::write(&place.path, damaged).unwrap();
            let reading = Reading::of(&place.path, &place.keys).unwrap();
            assert!(reading.counter < 3 && reading.unproven_bytes > 0, "byte {position}");
        }
        let mut damaged = whole.clone();
        let position = memchr::memmem::find(&whole, b"value of b").unwrap();
        damaged[position] ^= 1;
        std::fs::write(&place.path, damaged).unwrap();
        let reading = Reading::of(&place.path, &place.keys).unwrap();
        assert_eq!((reading.counter, reading.mentioned), (1, vec![key("b"), key("c")]));
    }

    #[test]
    fn writes_in_another_order_or_of_another_vault_are_not_proven() {
        let place = place();
        let neighbour = Keyring::create().unwrap();
        assert!(!Reading::of(&place.path, &neighbour).unwrap().has_snapshot());
        let mut other_vault = place.keys.share();
        other_vault.vault = [7; 16];
        assert!(!Reading::of(&place.path, &other_vault).unwrap().has_snapshot());
    }

    #[test]
    fn compaction_keeps_records_and_chain() {
        let place = place();
        let before = Reading::of(&place.path, &place.keys).unwrap();
        let mut ledger = Ledger::open(&place.path, &before).unwrap();
        ledger.compact(&place.keys, before.counter, &before.chain, &before.records).unwrap();
        let after = Reading::of(&place.path, &place.keys).unwrap();
        assert_eq!((after.counter, after.chain), (before.counter, before.chain));
        assert_eq!(after.records, before.records);
        assert!(after.last.is_none());
    }

    #[test]
    fn compaction_that_may_not_last_says_so_and_goes_on_with_the_file_that_stands() {
        let place = place();
        let before = Reading::of(&place.path, &place.keys).unwrap();
        let mut ledger = Ledger::open(&place.path, &before).unwrap();
        let bytes = snapshot(&place.keys, before.counter, &before.chain, &before.records);
        let mut placed = files::place(&place.path, &bytes).unwrap();
        placed.lasting = Err(io::Error::other("the directory cannot be synced"));
        let fault = ledger.go_on_with(placed, bytes.len() as u64).unwrap_err();
        assert!(!fault.undone, "{fault:?}");
        let changes = Changes::from([(key("d"), Some(Stored::new(b"value of d")))]);
        ledger.append(&Entry::new(&place.keys, 4, &before.chain, &changes)).unwrap();
        let after = Reading::of(&place.path, &place.keys).unwrap();
        assert_eq!((after.counter, after.unproven_bytes), (4, 0));
        assert!(after.records.contains_key(&key("d")));
    }

    #[test]
    fn compaction_that_cannot_be_made_leaves_the_ledger_as_it_was() {
        let place = place();
        let before = Reading::of(&place.path, &place.keys).unwrap();
        let mut ledger = Ledger::open(&place.path, &before).unwrap();
        // A directory in the draft's place.
        std::fs::create_dir(files::beside(&place.path, ".draft")).unwrap();
        let fault = ledger.compact(&place.keys, before.counter, &before.chain, &before.records).unwrap_err();
        assert!(fault.undone, "{fault:?}");
        let changes = Changes::from([(key("d"), Some(Stored::new(b"value of d")))]);
        ledger.append(&Entry::new(&place.keys, 4, &before.chain, &changes)).unwrap();
        assert_eq!(Reading::of(&place.path, &place.keys).unwrap().counter, 4);
    }
}
