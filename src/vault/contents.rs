//! What a vault holds at one moment, sealed, and the proof that this is all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::record::RecordKey;
use super::seal::{Keyring, Tag};
use super::wire::Cursor;

/// The sealed records by address.
pub(super) type Records = BTreeMap<RecordKey, Stored>;

/// One record as it stands on disk.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) bytes: Arc<[u8]>,
    hash: Tag,
}

impl Stored {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), hash: Sha256::digest(bytes).into() }
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

/// Changes to records: set, or removed where there is no value.
pub(super) type Changes = BTreeMap<RecordKey, Option<Stored>>;

/// The records after `changes`, in order.
pub(super) fn after<'a>(records: &'a Records, changes: &'a Changes) -> Vec<(&'a RecordKey, &'a Stored)> {
    let kept = records.iter().filter(|(key, _)| !changes.contains_key(key));
    let set = changes.iter().filter_map(|(key, stored)| Some((key, stored.as_ref()?)));
    let mut all: Vec<_> = kept.chain(set).collect();
    all.sort_by_key(|(key, _)| *key);
    all
}

/// Makes the changes.
pub(super) fn apply(records: &mut Records, changes: &Changes) {
    for (key, stored) in changes {
        match stored {
            Some(stored) => records.insert(key.clone(), stored.clone()),
            None => records.remove(key),
        };
    }
}

/// The manifest: how many writes led here, the chain over all of them, and a MAC over every record that is there. It
/// stands in the store beside the records, written with them in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) counter: u64,
    /// The MAC of the last write in the ledger, which covers the one before it, and so on.
    pub(super) chain: Tag,
    set: Tag,
}

impl Manifest {
    /// Over these records.
    pub(super) fn over<'a>(
        keys: &Keyring,
        counter: u64,
        chain: Tag,
        records: impl IntoIterator<Item = (&'a RecordKey, &'a Stored)>,
    ) -> Self {
        let mut set = Vec::new();
        for (key, stored) in records {
            super::wire::put_bytes(&mut set, &key.encode());
            set.extend(stored.hash);
        }
        let parts = [keys.vault.as_slice(), &counter.to_be_bytes(), &chain, &set];
        Self { counter, chain, set: keys.integrity.mac("sigilum-vault-set-v1", parts) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        [self.counter.to_be_bytes().as_slice(), &self.chain, &self.set].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let manifest = Self { counter: cursor.u64()?, chain: cursor.array()?, set: cursor.array()? };
        cursor.rest().is_empty().then_some(manifest)
    }
}
