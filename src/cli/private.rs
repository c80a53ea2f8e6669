//! Files for their owner alone.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;

use super::Failure;

/// Writes `path`, 0600 in a directory that is made 0700 where it is not there. A reader, or a crash at any moment, finds
/// the old file or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = || -> std::io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let draft = directory.join(name);
        let placed = draft_of(&draft, bytes).and_then(|()| std::fs::rename(&draft, path));
        if placed.is_err() {
            // There may be none.
            let _ = std::fs::remove_file(&draft);
        }
        placed?;
        std::fs::File::open(directory)?.sync_all()
    };
    Ok(written().with_context(|| format!("{} cannot be written", path.display()))?)
}

fn draft_of(draft: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}
