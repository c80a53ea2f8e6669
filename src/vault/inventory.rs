//! The storage engine's files that never change, each with its hash.
//!
//! fjall trusts its own files so far that a flipped bit in some of them ends the whole process, past every
//! `catch_unwind`. The vault has it keep everything in its journal, so all other files are written once, when the
//! storage is made. They are listed then, under a MAC, and fjall is not let near them before they have been compared.
//! On a damaged journal fjall returns a fault or panics in a way that can be caught.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::files;
use super::seal::{Keyring, Tag};
use super::wire::{Cursor, put_bytes};

const NAME: &str = "inventory";
const LABEL: &str = "sigilum-vault-inventory-v1";

/// Path below the storage's directory, and hash of the file.
type Files = BTreeMap<Vec<u8>, Tag>;

/// Lists the files of a closed storage.
pub(super) fn write(store: &Path, keys: &Keyring) -> io::Result<()> {
    let mut body = Vec::new();
    for (path, hash) in unchanging(store)? {
        put_bytes(&mut body, &path);
        body.extend(hash);
    }
    let tag = keys.integrity.mac(LABEL, [keys.vault.as_slice(), &body]);
    files::replace(&store.join(NAME), &[tag.as_slice(), &body].concat())
}

/// Compares the files of a closed storage; the fault says what is wrong.
pub(super) fn check(store: &Path, keys: &Keyring) -> Result<(), String> {
    let bytes =
        fs::read(store.join(NAME)).map_err(|cause| format!("its inventory cannot be read: {cause}"))?;
    let listed = read(&bytes, keys).ok_or("its inventory is damaged")?;
    let there = unchanging(store).map_err(|cause| format!("its files cannot be read: {cause}"))?;
    let differs = listed.iter().find(|(path, hash)| there.get(*path) != Some(*hash));
    let added = there.keys().find(|path| !listed.contains_key(*path));
    match differs.map(|(path, _)| path).or(added) {
        None => Ok(()),
        Some(path) => Err(format!("its file {} is not as it was written", String::from_utf8_lossy(path))),
    }
}

fn read(bytes: &[u8], keys: &Keyring) -> Option<Files> {
    let (tag, body) = bytes.split_first_chunk::<32>()?;
    if !keys.integrity.holds(LABEL, [keys.vault.as_slice(), body], tag) {
        return None;
    }
    let mut cursor = Cursor::new(body);
    let mut listed = Files::new();
    while !cursor.rest().is_empty() {
        listed.insert(cursor.bytes()?.to_vec(), cursor.array()?);
    }
    Some(listed)
}

/// Every file but the journal and the inventory itself.
fn unchanging(store: &Path) -> io::Result<Files> {
    let mut found = Files::new();
    let mut waiting = vec![store.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.strip_prefix(store).unwrap_or(&path).as_os_str().as_encoded_bytes();
            if path.is_dir() {
                waiting.push(path);
            } else if name != NAME.as_bytes() && !name.ends_with(b".jnl") && !name.ends_with(b".draft") {
                let hash = Sha256::digest(fs::read(&path)?).into();
                found.insert(name.to_vec(), hash);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn altered_missing_and_added_files_are_named_and_the_journal_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let (store, keys) = (place.path(), Keyring::create().unwrap());
        fs::create_dir(store.join("tables")).unwrap();
        fs::write(store.join("tables/1"), "one").unwrap();
        fs::write(store.join("0.jnl"), "journal").unwrap();
        write(store, &keys).unwrap();
        fs::write(store.join("0.jnl"), "longer journal").unwrap();
        assert_eq!(check(store, &keys), Ok(()));
        let fault = Err("its file tables/1 is not as it was written".to_owned());
        fs::write(store.join("tables/1"), "onf").unwrap();
        assert_eq!(check(store, &keys), fault);
        fs::remove_file(store.join("tables/1")).unwrap();
        assert_eq!(check(store, &keys), fault);
        fs::write(store.join("tables/1"), "one").unwrap();
        fs::write(store.join("tables/2"), "two").unwrap();
        assert_eq!(check(store, &keys), Err("its file tables/2 is not as it was written".to_owned()));
        assert_eq!(check(store, &Keyring::create().unwrap()), Err("its inventory is damaged".to_owned()));
    }
}
