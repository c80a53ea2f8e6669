//! Files: who may read them, who left them, and whether there is room for more.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::super::down::all;
use super::super::life::Found;
use super::super::quote::quote;
use super::super::walk::{GaveUp, Walk};
use super::super::{private, workspace};
use super::Visit;

/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Less room than this is too little for the next days.
const FEW_BYTES: u64 = 512 * 1024 * 1024;
/// Less room than this, and the next write may fail.
const TOO_FEW_BYTES: u64 = 32 * 1024 * 1024;

impl Visit<'_> {
    /// The directories of the local stack that are there.
    fn places(&self) -> Vec<PathBuf> {
        let workspace = self.workspace.as_ref();
        let mut places = vec![
            PathBuf::from(private::WORKSPACE),
            workspace::api_data(workspace),
            workspace::gateway_data(workspace),
        ];
        places.retain(|place| place.is_dir());
        // A demo's data lie in the workspace itself.
        let all = places.clone();
        places.retain(|place| !all.iter().any(|other| other != place && place.starts_with(other)));
        places
    }

    /// Keys and data are for their owner alone: files 0600, directories 0700.
    pub(super) fn permissions(&mut self) {
        let places = self.places();
        if places.is_empty() {
            return;
        }
        let mut found = Openness::of(&places);
        if self.fix {
            found.open.retain(|path| !close(path));
        }
        match (found.open.as_slice(), found.gave_up) {
            ([], None) => self.ok("permissions", format!("{} files are for their owner alone", found.seen)),
            ([], Some(at)) => {
                let seen = found.seen;
                let detail = format!(
                    "{seen} files are for their owner alone; more were not looked at, from {} on",
                    at.display()
                );
                let places: Vec<_> =
                    places.iter().map(|place| quote(&place.display().to_string()).into_owned()).collect();
                self.warn("permissions", detail, format!("chmod -R go= {}", places.join(" ")));
            }
            ([first, rest @ ..], _) => {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                let detail = format!("others have a right to {}{more}", first.display());
                self.fail("permissions", detail, "sigilum doctor --fix");
            }
        }
    }

    /// Pid files of processes that ended without clearing up.
    pub(super) fn stale_files(&mut self) {
        for (name, traces) in all().unwrap_or_default() {
            let file = traces.pid_file();
            match traces.look() {
                Ok(Found::Stale) if self.fix && traces.clear().is_ok() => {
                    self.ok(
                        "processes",
                        format!("{} was of a process that is gone; it was removed", file.display()),
                    );
                }
                Ok(Found::Stale) => {
                    let detail = format!("{} is of a process that is gone", file.display());
                    self.warn("processes", detail, "sigilum doctor --fix");
                }
                Ok(Found::Alive(pid)) => self.ok("processes", format!("{name} runs as process {pid}")),
                Ok(Found::Nothing) => {}
                Err(_) => {
                    let fix = format!("rm {}", quote(&file.display().to_string()));
                    self.fail("processes", format!("{} cannot be read", file.display()), fix);
                }
            }
        }
    }

    /// Room where the databases are.
    pub(super) fn space(&mut self) {
        for place in self.places() {
            let Ok(filesystem) = rustix::fs::statvfs(&place) else { continue };
            let free = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
            let detail = format!("{} MiB are free at {}", free / (1024 * 1024), place.display());
            let fix = format!("df -h {}", quote(&place.display().to_string()));
            match free {
                free if free < TOO_FEW_BYTES => self.fail("space", detail, fix),
                free if free < FEW_BYTES => self.warn("space", detail, fix),
                _ => self.ok("space", detail),
            }
        }
    }
}

/// What others have a right to.
struct Openness {
    open: Vec<PathBuf>,
    seen: usize,
    /// Where there was more than is looked at.
    gave_up: Option<PathBuf>,
}

impl Openness {
    fn of(places: &[PathBuf]) -> Self {
        let mut found = Self { open: Vec::new(), seen: 0, gave_up: None };
        for step in Walk::through(places.iter().cloned()) {
            match step {
                Ok((_, about)) if about.is_symlink() => {}
                Ok((path, about)) => {
                    found.seen += 1;
                    if about.permissions().mode() & OTHERS != 0 {
                        found.open.push(path);
                    }
                }
                Err(GaveUp(at)) => found.gave_up = Some(at),
            }
        }
        found
    }
}

/// Takes the rights of others away; whether that was done.
fn close(path: &Path) -> bool {
    let Ok(about) = fs::symlink_metadata(path) else { return false };
    let mode = if about.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).is_ok()
}
