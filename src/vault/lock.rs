//! One process at a time has a vault open.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::fault::VaultFault;
use super::files;

/// Held as long as the vault is open, and let go by the system when the process ends in whatever way.
///
/// The file lies beside the vault's directory: it is also held while that directory is being made.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, VaultFault> {
        let path = files::beside(directory, ".lock");
        let io = |cause| VaultFault::Io { path: path.clone(), action: "written", cause };
        files::make_parent(directory).map_err(io)?;
        let file = files::open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(VaultFault::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(cause)) => Err(io(cause)),
        }
    }
}
