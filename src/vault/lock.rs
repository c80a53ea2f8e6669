//! One process at a time has a vault open.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::fault::VaultFault;
use super::files;

/// A lock that was let go is still held for a moment where this process is just starting another: until that one runs
/// its own program, it has the same files open.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

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
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(cause)) => return Err(io(cause)),
            }
        }
        Err(VaultFault::InUse { path: directory.to_owned() })
    }
}
