//! The header: the vault's keys, each sealed under the master key, and which master key that is.
//!
//! Without it nothing opens, so it stands there twice. It is changed by replacing one copy after the other: whatever
//! moment a crash comes at, one whole copy is there, and the newer of two counts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::fault::VaultFault;
use super::files;
use super::key_id::MasterKeyId;
use super::master_key::{MasterKey, MasterKeySource, Stretching};
use super::seal::{Key, Keyring, VaultId};
use crate::names::hex;

/// The file names of the two copies.
const COPIES: [&str; 2] = ["header", "header.copy"];
const FORMAT: u32 = 1;
/// Bound to the integrity key's seal in place of a data key's number, which begins at 1.
const INTEGRITY: u32 = 0;

/// What the header says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    format: u32,
    /// Grows with every change; of two copies the higher counts.
    generation: u64,
    vault: String,
    master_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase: Option<Stretching>,
    integrity_key: String,
    /// By number; the highest seals.
    data_keys: BTreeMap<u32, String>,
    /// Whether an anchor was ever kept for this vault: one that is missing then is a sign.
    pub(super) anchored: bool,
}

impl Header {
    /// For these keys, sealed under `master`, following the header of `generation`.
    pub(super) fn new(
        generation: u64,
        keys: &Keyring,
        master: &MasterKey,
        passphrase: Option<Stretching>,
        anchored: bool,
    ) -> Result<Self, VaultFault> {
        let sealed = |number, key: &Key| -> Result<String, VaultFault> {
            let sealed = master.key().seal(&bound(&keys.vault, number), key.bytes())?;
            Ok(BASE64_STANDARD.encode(sealed))
        };
        let data_keys = keys.retired.iter().chain([(&keys.current.0, &keys.current.1)]);
        Ok(Self {
            format: FORMAT,
            generation,
            vault: BASE64_STANDARD.encode(keys.vault),
            master_key: master.id().to_string(),
            passphrase,
            integrity_key: sealed(INTEGRITY, &keys.integrity)?,
            data_keys: data_keys
                .map(|(number, key)| Ok((*number, sealed(*number, key)?)))
                .collect::<Result<_, VaultFault>>()?,
            anchored,
        })
    }

    /// The generation after this one.
    pub(super) fn next(&self) -> u64 {
        self.generation.saturating_add(1)
    }

    /// The same in the next generation, with a changed note of the anchor.
    pub(super) fn with_anchor(&self) -> Self {
        Self { generation: self.next(), anchored: true, ..self.clone() }
    }

    /// The same in the next generation, without the data keys that only opened.
    pub(super) fn without_retired(&self) -> Self {
        let data_keys = self.data_keys.last_key_value().map(|(number, key)| (*number, key.clone()));
        Self { generation: self.next(), data_keys: data_keys.into_iter().collect(), ..self.clone() }
    }

    /// Reads the copy that counts, and whether both were alike.
    pub(super) fn read(directory: &Path) -> Result<(Self, bool), VaultFault> {
        let mut texts = Vec::new();
        for path in paths(directory) {
            match fs::read(&path) {
                Ok(bytes) => texts.push(bytes),
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(VaultFault::Io { path, action: "read", cause }),
            }
        }
        if texts.is_empty() {
            return Err(VaultFault::NoHeader { path: directory.to_owned() });
        }
        let alike = texts.len() == 2 && texts.first() == texts.last();
        texts
            .iter()
            .filter_map(|bytes| Self::parse(bytes))
            .max_by_key(|header| header.generation)
            .map(|header| (header, alike))
            .ok_or_else(|| damaged(directory, "its checksum does not hold"))
    }

    /// Writes both copies, one after the other; the change is made when the first one stands.
    pub(super) fn write(&self, directory: &Path) -> Result<(), VaultFault> {
        let text = self.to_text();
        for path in paths(directory) {
            files::replace(&path, text.as_bytes()).map_err(|cause| {
                if super::fault::is_no_space(&cause) {
                    VaultFault::NoSpace
                } else {
                    VaultFault::Io { path, action: "written", cause }
                }
            })?;
        }
        Ok(())
    }

    /// The key that opens it, from where the operator says.
    pub(super) fn master_key(
        &self,
        source: &MasterKeySource,
        directory: &Path,
    ) -> Result<MasterKey, VaultFault> {
        let wanted: MasterKeyId =
            self.master_key.parse().map_err(|_| damaged(directory, "it names no master key"))?;
        let key = source.read(wanted, self.passphrase.as_ref())?;
        if key.id() == wanted { Ok(key) } else { Err(VaultFault::WrongMasterKey { wanted, given: key.id() }) }
    }

    /// Opens the keys with the master key, which is the right one already.
    pub(super) fn unlock(&self, master: &MasterKey, directory: &Path) -> Result<Keyring, VaultFault> {
        let closed = || damaged(directory, "a key in it does not open");
        let vault = decode(&self.vault).ok_or_else(closed)?;
        let opened = |number, sealed: &String| -> Option<Key> {
            let sealed = BASE64_STANDARD.decode(sealed).ok()?;
            let bytes = master.key().open(&bound(&vault, number), &sealed)?;
            Some(Key::new(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
        };
        let mut retired = self
            .data_keys
            .iter()
            .map(|(number, sealed)| Some((*number, opened(*number, sealed)?)))
            .collect::<Option<BTreeMap<u32, Key>>>()
            .ok_or_else(closed)?;
        let current = retired.pop_last().ok_or_else(closed)?;
        let integrity = opened(INTEGRITY, &self.integrity_key).ok_or_else(closed)?;
        Ok(Keyring { vault, integrity, current, retired })
    }

    /// One line of JSON, and a line with its checksum: a flipped bit must not look like a wrong master key.
    fn to_text(&self) -> String {
        let line = serde_json::to_string(self).unwrap_or_default();
        format!("{line}\n{}\n", checksum(&line))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (line, rest) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        if rest.strip_suffix('\n')? != checksum(line) {
            return None;
        }
        serde_json::from_str(line).ok().filter(|header: &Self| header.format == FORMAT)
    }
}

fn checksum(line: &str) -> String {
    hex(&Sha256::digest(line.as_bytes()))
}

fn decode(text: &str) -> Option<VaultId> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// What a key's seal binds: the vault, and which key it is.
fn bound(vault: &VaultId, number: u32) -> Vec<u8> {
    [b"sigilum-vault-key-v1\0".as_slice(), vault, &number.to_be_bytes()].concat()
}

fn paths(directory: &Path) -> [PathBuf; 2] {
    COPIES.map(|name| directory.join(name))
}

fn damaged(directory: &Path, what: &'static str) -> VaultFault {
    VaultFault::HeaderDamaged { path: directory.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_copy_is_enough_and_the_newer_counts() {
        let place = tempfile::tempdir().unwrap();
        let (keys, master) = (Keyring::create().unwrap(), MasterKey::generate().unwrap());
        let first = Header::new(1, &keys, &master, None, false).unwrap();
        first.write(place.path()).unwrap();
        assert!(Header::read(place.path()).unwrap().1);
        let text = fs::read(place.path().join("header")).unwrap();
        for position in 0..text.len() {
            let mut damaged = text.clone();
            damaged[position] ^= 1;
            fs::write(place.path().join("header"), damaged).unwrap();
            let (header, alike) = Header::read(place.path()).unwrap();
            assert_eq!((header.generation, alike), (1, false), "byte {position}");
        }
        fs::write(place.path().join("header"), first.with_anchor().to_text()).unwrap();
        let (header, alike) = Header::read(place.path()).unwrap();
        assert_eq!((header.generation, header.anchored, alike), (2, true, false));
        let opened = header.unlock(&master, place.path()).unwrap();
        assert_eq!(opened.integrity.bytes(), keys.integrity.bytes());
    }

    #[test]
    fn other_master_key_is_named_with_the_wanted_one() {
        let (keys, master) = (Keyring::create().unwrap(), MasterKey::generate().unwrap());
        let header = Header::new(1, &keys, &master, None, false).unwrap();
        let other = MasterKey::generate().unwrap();
        let (wanted, given) = (master.id(), other.id());
        let fault = header.master_key(&MasterKeySource::Given(other), Path::new("vault")).unwrap_err();
        assert_eq!(
            fault.to_string(),
            format!(
                "the vault wants master key {wanted}, and the one given is {given}; set vault.master_key (or vault.passphrase) to where {wanted} is read from"
            )
        );
    }
}
