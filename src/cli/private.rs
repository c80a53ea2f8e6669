//! Files for their owner alone.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::OFlags;

use super::Failure;
use crate::identity::files::draft_path;

/// The workspace's directory, in the current one.
pub(crate) const WORKSPACE: &str = ".sigilum-workspace";
/// The directory of OpenClaw's that owner tokens are kept in.
pub(super) const TOKENS: &str = ".sigilum";

/// Writes `bytes` to `path` as [`create`] does.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let unwritable = || format!("{} cannot be written", path.display());
    create(path, |file| Ok(file.write_all(bytes).with_context(unwritable)?))
}

/// Has `fill` write the file `path`, 0600 in a directory that is made 0700 where it is not there, and closed to others
/// where it is one of ours. A reader, or a crash at any moment, finds the old file or the whole new one.
pub(super) fn create(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unwritable = || format!("{} cannot be written", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(unwritable)?;
    close_ours(directory).with_context(unwritable)?;
    let draft = draft_path(path).with_context(unwritable)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).with_context(unwritable)?;
    let placed = fill(&mut file).and_then(|()| {
        file.sync_all().with_context(unwritable)?;
        Ok(std::fs::rename(&draft, path).with_context(unwritable)?)
    });
    if placed.is_err() {
        // What is half-written is of no use to anybody.
        let _ = std::fs::remove_file(&draft);
    }
    placed?;
    sync(directory).with_context(unwritable)?;
    Ok(())
}

/// Makes what happened to the names in a directory lasting.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Opens a regular file of this user's own. No link at the end of `path` is followed: a directory may be anybody's, and
/// what stands there under a name of ours could lead anywhere.
pub(super) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Whoever opens a pipe would wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(io::Error::other("it is a symbolic link"));
        }
        opened => opened?,
    };
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if facts.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    Ok(file)
}

/// A directory of the workspace, or of owner tokens, may have been there before with rights for others.
fn close_ours(directory: &Path) -> io::Result<()> {
    let ours =
        directory.ends_with(TOKENS) || directory.components().any(|part| part.as_os_str() == WORKSPACE);
    let facts = std::fs::symlink_metadata(directory)?;
    if ours && facts.is_dir() && facts.mode() & 0o077 != 0 {
        std::fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}
