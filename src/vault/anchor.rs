//! The anchor: how far the vault has come, kept outside the data directory, so that an older copy of the whole is seen.

use std::fs;
use std::io;
use std::path::Path;

use super::files;
use super::seal::{Keyring, Tag};
use super::wire::Cursor;

/// A point that the vault has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) counter: u64,
    pub(super) chain: Tag,
}

/// What is in an anchor's file.
pub(super) enum Seen {
    /// There is none.
    Nothing,
    /// A point of this vault.
    Point(Anchor),
    /// Damage, or another vault's anchor.
    Other,
}

const MAGIC: &[u8; 8] = b"SGLMANC1";
const LABEL: &str = "sigilum-vault-anchor-v1";

impl Anchor {
    pub(super) fn read(path: &Path, keys: &Keyring) -> io::Result<Seen> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&bytes, keys).map_or(Seen::Other, Seen::Point)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen::Nothing),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, path: &Path, keys: &Keyring) -> io::Result<()> {
        let counter = self.counter.to_be_bytes();
        let tag = keys.integrity.mac(LABEL, [keys.vault.as_slice(), &counter, &self.chain]);
        files::replace(path, &[MAGIC.as_slice(), &counter, &self.chain, &tag].concat())
    }

    fn parse(bytes: &[u8], keys: &Keyring) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != *MAGIC {
            return None;
        }
        let anchor = Self { counter: cursor.u64()?, chain: cursor.array()? };
        let counter = anchor.counter.to_be_bytes();
        let parts = [keys.vault.as_slice(), &counter, &anchor.chain];
        keys.integrity.holds(LABEL, parts, cursor.rest()).then_some(anchor)
    }
}
