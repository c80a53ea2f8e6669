//! One process at a time serves a SQLite file: what must work once, such as a signature, is remembered by that process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use crate::identity::files;

/// Why a SQLite file is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoleFault {
    /// Another process serves it.
    #[error(
        "another control plane serves this database; stop that one, or let both serve a PostgreSQL (DATABASE_URL)"
    )]
    Served,
    /// The lock beside it cannot be taken.
    #[error("the lock {} cannot be taken: {cause}", path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// A lock that was let go is still held for a moment where this process is just starting another: until that one runs
/// its own program, it has the same files open.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Held as long as the file is served, and let go by the system when the process ends in whatever way. Whoever only writes
/// an owner into the database needs it not.
#[derive(Debug)]
pub(super) struct Sole {
    _file: File,
}

impl Sole {
    /// Takes the lock beside this database, `sigilum.db.lock` of `sigilum.db`.
    ///
    /// # Errors
    /// When another process serves it, or the lock cannot be made.
    pub(super) async fn of(database: &Path) -> Result<Self, SoleFault> {
        let path = beside(database);
        let fault = |cause| SoleFault::Lock { path: path.clone(), cause };
        let file = open(&path).map_err(fault)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(cause)) => return Err(fault(cause)),
            }
        }
        Err(SoleFault::Served)
    }
}

/// By whatever links the database is named, its lock is the same one.
fn beside(database: &Path) -> PathBuf {
    let real = fs::canonicalize(database).or_else(|_| path::absolute(database));
    let mut path = real.unwrap_or_else(|_| database.to_owned()).into_os_string();
    path.push(".lock");
    path.into()
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        files::make_directory(directory)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn database_is_served_once_by_whatever_name_until_it_is_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("data/sigilum.db"), directory.path().join("link.db"));
        let first = Sole::of(&file).await.unwrap();
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for name in [&file, &link] {
            assert!(matches!(Sole::of(name).await, Err(SoleFault::Served)), "{}", name.display());
        }
        Sole::of(&directory.path().join("data/other.db")).await.unwrap();
        drop(first);
        Sole::of(&link).await.unwrap();
    }

    #[tokio::test]
    async fn lock_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let fault = Sole::of(&directory.path().join("file/sigilum.db")).await.unwrap_err();
        assert!(fault.to_string().contains("file/sigilum.db.lock"), "{fault}");
    }
}
