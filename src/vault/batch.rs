//! Changes that are made together or not at all.

use super::fault::VaultFault;
use super::record::{Kind, RecordKey, RecordKeyFault};
use super::seal::LARGEST_VALUE_BYTES;
use crate::secret::SecretBytes;

/// How many versions of a secret are kept; adding one more removes the oldest.
pub const VERSIONS_KEPT: usize = 5;

/// Changes that are made together or not at all, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) changes: Vec<Change>,
}

#[derive(Debug)]
pub(super) enum Change {
    Put(RecordKey, SecretBytes),
    /// Fails the whole batch where the record stands.
    Create(RecordKey, SecretBytes),
    /// The next version; the version in the key counts for nothing.
    PutVersion(RecordKey, SecretBytes),
    Delete(RecordKey),
    DeleteVersions(RecordKey),
    DeleteOwned(Kind, String),
}

impl Batch {
    /// Without changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a record, whether or not it stands.
    #[must_use]
    pub fn put(mut self, key: RecordKey, value: SecretBytes) -> Self {
        self.changes.push(Change::Put(key, value));
        self
    }

    /// Makes a record. Where it stands, the batch fails with [`VaultFault::Exists`] and changes nothing.
    #[must_use]
    pub fn create(mut self, key: RecordKey, value: SecretBytes) -> Self {
        self.changes.push(Change::Create(key, value));
        self
    }

    /// Adds a version of a record, one above its latest, and removes all but the last [`VERSIONS_KEPT`].
    ///
    /// # Errors
    /// When owner or name cannot be one.
    pub fn put_version(
        mut self,
        kind: Kind,
        owner: &str,
        name: &str,
        value: SecretBytes,
    ) -> Result<Self, RecordKeyFault> {
        self.changes.push(Change::PutVersion(RecordKey::new(kind, owner, name, 0)?, value));
        Ok(self)
    }

    /// Removes a record; one that is not there is no fault.
    #[must_use]
    pub fn delete(mut self, key: RecordKey) -> Self {
        self.changes.push(Change::Delete(key));
        self
    }

    /// Removes every version of a record; the version in `key` counts for nothing.
    #[must_use]
    pub fn delete_versions(mut self, key: RecordKey) -> Self {
        self.changes.push(Change::DeleteVersions(key));
        self
    }

    /// Removes every record of a kind that `owner` has, in all versions.
    #[must_use]
    pub fn delete_owned(mut self, kind: Kind, owner: &str) -> Self {
        self.changes.push(Change::DeleteOwned(kind, owner.to_owned()));
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Values that no record takes are found before anything is written.
    pub(super) fn check(&self) -> Result<(), VaultFault> {
        let values = self.changes.iter().filter_map(|change| match change {
            Change::Put(_, value) | Change::Create(_, value) | Change::PutVersion(_, value) => Some(value),
            Change::Delete(_) | Change::DeleteVersions(_) | Change::DeleteOwned(..) => None,
        });
        for value in values {
            let bytes = value.expose().len();
            if bytes > LARGEST_VALUE_BYTES {
                return Err(VaultFault::ValueTooLarge { bytes, most: LARGEST_VALUE_BYTES });
            }
        }
        Ok(())
    }
}
