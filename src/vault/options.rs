//! Where a vault is, and what opens it.

use std::path::{Path, PathBuf};

use super::master_key::MasterKeySource;

/// Where a vault is, and what opens it.
#[derive(Debug)]
pub struct VaultOptions {
    pub(super) directory: PathBuf,
    pub(super) master_key: MasterKeySource,
    pub(super) anchor: Option<PathBuf>,
}

impl VaultOptions {
    /// The vault in `directory`, opened by this master key.
    #[must_use]
    pub fn new(directory: &Path, master_key: MasterKeySource) -> Self {
        Self { directory: directory.to_owned(), master_key, anchor: None }
    }

    /// Keeps how far the vault has come in the file `anchor` too, which lies outside the data directory, so that an
    /// older copy of the whole vault is seen at open.
    #[must_use]
    pub fn anchored_at(self, anchor: &Path) -> Self {
        Self { anchor: Some(anchor.to_owned()), ..self }
    }

    /// The vault's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of the vault's own in which its master key lies, where it is [`MasterKeySource::Generated`].
    #[must_use]
    pub fn generated_key(&self) -> Option<&Path> {
        match &self.master_key {
            MasterKeySource::Generated(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn anchor(&self) -> Option<&Path> {
        self.anchor.as_deref()
    }
}
