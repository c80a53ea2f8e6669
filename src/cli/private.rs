//! Files for their owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

use super::Failure;
use crate::identity::files::draft_path;

/// Writes `bytes` to `path` as [`create`] does.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    create(path, |file| Ok(file.write_all(bytes)?))
}

/// Has `fill` write the file `path`, 0600 in a directory that is made 0700 where it is not there. A reader, or a crash
/// at any moment, finds the old file or the whole new one.
pub(super) fn create(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unwritable = || format!("{} cannot be written", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(unwritable)?;
    let draft = draft_path(path).with_context(unwritable)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).with_context(unwritable)?;
    let placed = fill(&mut file).and_then(|()| {
        file.sync_all()?;
        Ok(std::fs::rename(&draft, path)?)
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
pub(super) fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}
