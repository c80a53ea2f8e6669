//! Files of the vault: for the owner alone, replaced atomically, on disk when the call returns.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    let placed = write_draft(&draft, bytes)
        // A link, unlike a rename, fails where the name is taken.
        .and_then(|_| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    placed.and_then(|()| sync_parent(path))
}

/// Writes a file anew: a reader, or a crash at any moment, finds the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes).and_then(|placed| placed.lasting)
}

/// A file that stands under its name in place of another.
pub(super) struct Placed {
    /// Open for writing.
    pub(super) file: File,
    /// Whether a crash leaves it there, and not the one from before.
    pub(super) lasting: io::Result<()>,
}

/// As [`replace`], for one that goes on with the file. An error says that the old one still stands.
pub(super) fn place(path: &Path, bytes: &[u8]) -> io::Result<Placed> {
    let draft = draft(path);
    let placed = write_draft(&draft, bytes).and_then(|file| fs::rename(&draft, path).map(|()| file));
    if placed.is_err() {
        let _ = fs::remove_file(&draft);
    }
    Ok(Placed { file: placed?, lasting: sync_parent(path) })
}

/// Opens a file for reading and writing, made where it is missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

/// Makes a directory that must not be there yet.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    sync_parent(path)
}

/// Makes the directory that `path` is in, and those above it.
pub(super) fn make_parent(path: &Path) -> io::Result<()> {
    let parent = parent(path);
    if parent.is_dir() {
        return Ok(());
    }
    make_parent(&parent)?;
    match make_directory(&parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Takes every right from others than the owner, in the whole tree. What an engine makes later lies in a directory that
/// is closed already.
pub(super) fn close_tree(path: &Path) -> io::Result<()> {
    let directory = fs::symlink_metadata(path)?.is_dir();
    fs::set_permissions(path, Permissions::from_mode(if directory { DIRECTORY_MODE } else { FILE_MODE }))?;
    if directory {
        for entry in fs::read_dir(path)? {
            match close_tree(&entry?.path()) {
                // An engine removes files of its own at any time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                closed => closed?,
            }
        }
    }
    Ok(())
}

/// Makes the names in a file's directory lasting.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// The directory that `path` is in.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `path` with something after its last part.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// One writer at a time is there, so one name is enough, and what a killed one left is written over.
fn draft(path: &Path) -> PathBuf {
    beside(path, ".draft")
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_stands_is_replaced_only_when_told() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/file");
        make_parent(&path).unwrap();
        write_new(&path, b"one").unwrap();
        assert_eq!(write_new(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(parent(&path)).unwrap().count(), 1, "a draft was left");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&parent(&path))), (0o600, 0o700));
    }
}
