//! The first start: a vault is made whole under another name, and then gets its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::contents::{Changes, Manifest, Records};
use super::fault::{VaultFault, is_no_space};
use super::files;
use super::header::Header;
use super::ledger::Ledger;
use super::master_key::MasterKeySource;
use super::reconcile::Layout;
use super::seal::{Keyring, random};
use super::store::{Store, StoreFault};

/// The middle of the name that a vault has while it is made.
const UNFINISHED: &str = ".new-";

/// Whether there is no vault: no directory, or an empty one that somebody made for it.
pub(super) fn is_missing(directory: &Path) -> Result<bool, VaultFault> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(VaultFault::Io { path: directory.to_owned(), action: "read", cause }),
    }
}

/// Removes what first starts left that were killed. The lock is held, so no other is at work.
pub(super) fn remove_unfinished(directory: &Path) -> Result<(), VaultFault> {
    let parent = files::parent(directory);
    let beginning = files::beside(directory, UNFINISHED);
    let beginning = beginning.file_name().unwrap_or_default().as_encoded_bytes();
    let failed = |cause| VaultFault::Io { path: parent.clone(), action: "read", cause };
    for entry in fs::read_dir(&parent).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(beginning) {
            let removed = fs::remove_dir_all(&path);
            removed.map_err(|cause| VaultFault::Io { path, action: "written", cause })?;
        }
    }
    Ok(())
}

/// Makes an empty vault.
pub(super) fn create(directory: &Path, master_key: &MasterKeySource) -> Result<(), VaultFault> {
    let (master, passphrase) = master_key.create()?;
    let keys = Keyring::create()?;
    let header = Header::new(1, &keys, &master, passphrase, false)?;
    let number = u64::from_be_bytes(random()?);
    let unfinished = files::beside(directory, &format!("{UNFINISHED}{number:016x}"));
    let made = fill(&unfinished, &keys, &header).and_then(|()| {
        fs::rename(&unfinished, directory)
            .and_then(|()| files::sync_parent(directory))
            .map_err(|cause| io_fault(directory.to_owned(), cause))
    });
    if made.is_err() {
        // The next start would remove it too.
        let _ = fs::remove_dir_all(&unfinished);
    }
    made
}

fn fill(directory: &Path, keys: &Keyring, header: &Header) -> Result<(), VaultFault> {
    files::make_directory(directory).map_err(|cause| io_fault(directory.to_owned(), cause))?;
    header.write(directory)?;
    let layout = Layout::new(directory);
    let ledger = Ledger::write(&layout.ledger(), keys, 0, &[0; 32], &Records::new());
    ledger.map_err(|cause| io_fault(layout.ledger(), cause))?;
    fill_store(&layout.store(), keys, 0, [0; 32], &Records::new())
}

/// Makes a storage with these records, closed and on disk when the call returns.
pub(super) fn fill_store(
    path: &Path,
    keys: &Keyring,
    counter: u64,
    chain: [u8; 32],
    records: &Records,
) -> Result<(), VaultFault> {
    let changes: Changes = records.iter().map(|(key, stored)| (key.clone(), Some(stored.clone()))).collect();
    let manifest = Manifest::over(keys, counter, chain, records);
    Store::create(path, keys, &changes, &manifest).map_err(|fault| store_fault(path, fault))?;
    files::sync_parent(path).map_err(|cause| io_fault(path.to_owned(), cause))
}

/// Puts the storage that was made as `store.new` in the place of the one that is there, which gets the name `aside`.
pub(super) fn swap_store(layout: &Layout, aside: &Path) -> Result<(), VaultFault> {
    let moved = match fs::rename(layout.store(), aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        moved => moved,
    };
    moved
        .and_then(|()| fs::rename(layout.new_store(), layout.store()))
        .and_then(|()| files::sync_parent(&layout.store()))
        .map_err(|cause| io_fault(layout.store(), cause))
}

/// Ends a swap that a crash came into: the new storage is whole before the old one is moved away. What was not yet in
/// the place of another, or is replaced already, goes.
pub(super) fn settle_store(layout: &Layout) -> Result<(), VaultFault> {
    if !layout.store().exists() && layout.new_store().exists() {
        fs::rename(layout.new_store(), layout.store())
            .and_then(|()| files::sync_parent(&layout.store()))
            .map_err(|cause| io_fault(layout.store(), cause))?;
    }
    remove_directory(&layout.new_store())?;
    remove_directory(&layout.old_store())
}

/// Removes a directory with everything in it, where it is there.
pub(super) fn remove_directory(path: &Path) -> Result<(), VaultFault> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(io_fault(path.to_owned(), cause)),
        _ => Ok(()),
    }
}

pub(super) fn store_fault(path: &Path, fault: StoreFault) -> VaultFault {
    if fault.passing {
        VaultFault::NoSpace
    } else {
        VaultFault::Store { path: path.to_owned(), what: fault.what }
    }
}

pub(super) fn io_fault(path: PathBuf, cause: io::Error) -> VaultFault {
    if is_no_space(&cause) { VaultFault::NoSpace } else { VaultFault::Io { path, action: "written", cause } }
}
