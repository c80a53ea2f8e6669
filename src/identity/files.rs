//! Files that hold private keys: 0600 in directories of 0700, replaced atomically, on disk when the call returns.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// An identity record has about 1.5 KB; what is larger than this is not one.
const LARGEST_BYTES: u64 = 1024 * 1024;

/// Why a private file was not read.
#[derive(Debug)]
pub(crate) enum ReadFault {
    /// The system's error.
    Io(io::Error),
    /// Others than its owner have a right to it; its mode.
    Open(u32),
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file of the owner's own as UTF-8. The mode is that of the file that is then read, not of a path that could
/// change in between.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, ReadFault> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(ReadFault::Open(mode));
    }
    let mut text = Zeroizing::new(String::new());
    let bytes = file.take(LARGEST_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > LARGEST_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
    }
    Ok(text)
}

/// Writes `text` to `path`, whose directory is there. A reader, or a crash at any moment, finds the old file or the new
/// one. Without `replace` a file that stands stays, and the error is [`io::ErrorKind::AlreadyExists`].
pub(crate) fn write(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let draft = draft_path(path)?;
    let placed = write_draft(&draft, text).and_then(|()| {
        // A link, unlike a rename, fails where the name is taken: of two writers at once one is told.
        if replace { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) }
    });
    if !replace || placed.is_err() {
        // After a link this is the second name of the new file; after a fault there may be none.
        let _ = fs::remove_file(&draft);
    }
    placed?;
    sync_directory(directory)
}

/// Makes `path` with every directory above it that is missing, for the owner alone, and each lasting.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        ),
    }
}

/// Takes every right to a directory from others than its owner.
pub(super) fn close_directory(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

/// A name beside `path` that nothing has: one that a crash left behind is in nobody's way.
pub(crate) fn draft_path(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{:016x}", u64::from_be_bytes(random))))
}

fn write_draft(draft: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn file_and_directories_are_the_owner_s_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b");
        make_directory(&directory).unwrap();
        write(&directory.join("key"), "one", false).unwrap();
        assert_eq!((mode(&place.path().join("a")), mode(&directory)), (0o700, 0o700));
        assert_eq!(mode(&directory.join("key")), 0o600);
        assert_eq!(read(&directory.join("key")).unwrap().as_str(), "one");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "a draft was left");
    }

    #[test]
    fn file_that_stands_is_replaced_only_when_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        write(&path, "one", false).unwrap();
        assert_eq!(write(&path, "two", false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).unwrap().as_str(), "one");
        write(&path, "two", true).unwrap();
        assert_eq!(read(&path).unwrap().as_str(), "two");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "a draft was left");
    }

    #[test]
    fn file_with_rights_for_others_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        write(&path, "one", false).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path), Err(ReadFault::Open(0o640))));
    }

    #[test]
    fn directory_with_rights_for_others_is_closed() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        close_directory(place.path()).unwrap();
        assert_eq!(mode(place.path()), 0o700);
    }
}
