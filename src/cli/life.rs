//! Which of our processes live: each holds the lock of its pid file, and tells beside it where it serves.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{Failure, private};

/// Who looks at a pid file holds its lock for an instant; a start waits so often for it.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where processes of one kind leave their traces: `<name>.pid`, `<name>.json` and `<name>.log` in a directory.
#[derive(Debug, Clone)]
pub(super) struct Traces {
    directory: PathBuf,
    name: &'static str,
}

/// What such a process tells, once it serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Serving {
    /// Its process id.
    pub(super) pid: u32,
    /// Its version.
    pub(super) version: String,
    /// The control plane's origin, where it runs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) control_plane: Option<String>,
    /// The gateway's origins.
    #[serde(default)]
    pub(super) gateway: Vec<String>,
    /// The admin listener's origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) admin: Option<String>,
    /// What could not be waited for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warning: Option<String>,
}

/// What the traces say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// None runs, and none has left anything.
    Nothing,
    /// None runs; one ended without clearing up.
    Stale,
    /// One runs, with this process id.
    Alive(u32),
}

/// This process's own traces, cleared away when it is dropped.
pub(super) struct Alive {
    traces: Traces,
    /// Locked as long as it is open.
    _pid: File,
}

impl Serving {
    /// Of this process.
    pub(super) fn here() -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            control_plane: None,
            gateway: Vec::new(),
            admin: None,
            warning: None,
        }
    }
}

impl Traces {
    /// Of the processes called `name`, in `directory`.
    pub(super) fn new(directory: &Path, name: &'static str) -> Self {
        Self { directory: directory.to_owned(), name }
    }

    pub(super) fn log(&self) -> PathBuf {
        self.file("log")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.file("pid")
    }

    /// Looks whether such a process runs.
    pub(super) fn look(&self) -> Result<Found, Failure> {
        let path = self.pid_file();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(unusable(&path, error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Found::Stale),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(|error| unusable(&path, error))?;
                // Between its lock and its pid there is an instant.
                Ok(text.trim().parse().map_or(Found::Nothing, Found::Alive))
            }
            Err(TryLockError::Error(error)) => Err(unusable(&path, error)),
        }
    }

    /// What the process that runs tells; `None`: none runs, or it does not serve yet.
    pub(super) fn serving(&self) -> Result<Option<Serving>, Failure> {
        let Found::Alive(pid) = self.look()? else { return Ok(None) };
        let told = std::fs::read(self.file("json")).ok();
        let told: Option<Serving> = told.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(told.filter(|serving| serving.pid == pid))
    }

    /// Takes the place of the one such process, else gives the pid of the one that runs.
    pub(super) fn take(&self) -> Result<Result<Alive, u32>, Failure> {
        let path = self.pid_file();
        let failed = |error| unusable(&path, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        for _ in 0..TRIES {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(failed)?;
            // Else it is a file that its former holder has removed meanwhile.
            let is_the_one = |file: &File| {
                let (ours, named) = (file.metadata(), std::fs::metadata(&path));
                ours.is_ok_and(|ours| named.is_ok_and(|named| ours.ino() == named.ino()))
            };
            match file.try_lock() {
                Ok(()) if is_the_one(&file) => {
                    let mut write = || {
                        file.set_len(0)?;
                        file.rewind()?;
                        writeln!(file, "{}", std::process::id())?;
                        file.sync_all()
                    };
                    write().map_err(failed)?;
                    return Ok(Ok(Alive { traces: self.clone(), _pid: file }));
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            std::thread::sleep(PAUSE);
        }
        match self.look()? {
            Found::Alive(pid) => Ok(Err(pid)),
            _ => Err(failed(io::Error::other("others keep its lock"))),
        }
    }

    /// Removes what an ended process left.
    pub(super) fn clear(&self) {
        for file in ["json", "pid"] {
            // What is not there need not be removed.
            let _ = std::fs::remove_file(self.file(file));
        }
    }

    /// Asks the process to stop and waits until it has; `false`: none ran.
    pub(super) fn stop(&self, patience: Duration) -> Result<bool, Failure> {
        let pid = match self.look()? {
            Found::Nothing => return Ok(false),
            Found::Stale => {
                self.clear();
                return Ok(false);
            }
            Found::Alive(pid) => pid,
        };
        let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = process.context("the pid file holds no process id")?;
        kill_process(process, Signal::TERM)
            .with_context(|| format!("the process {pid} cannot be told to stop"))?;
        let looks = patience.as_millis() / LOOK_AGAIN.as_millis();
        for _ in 0..looks {
            if self.look()? != Found::Alive(pid) {
                return Ok(true);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let sentence = anyhow::anyhow!("the process {pid} still runs {} s later", patience.as_secs());
        Err(Failure::from(sentence).hint(format!("kill -KILL {pid}")))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }
}

impl Alive {
    /// Tells where this process serves, from now on.
    pub(super) fn tell(&self, serving: &Serving) -> Result<(), Failure> {
        let json = serde_json::to_vec(serving)?;
        private::write(&self.traces.file("json"), &json)
    }
}

impl Drop for Alive {
    /// While the lock is still held, so that nothing of a successor is removed.
    fn drop(&mut self) {
        self.traces.clear();
    }
}

fn unusable(path: &Path, error: io::Error) -> Failure {
    anyhow::Error::from(error).context(format!("the pid file {} cannot be used", path.display())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_of_a_name_lives_and_it_clears_up() {
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(&place.path().join("run"), "up");
        assert_eq!(traces.look().unwrap(), Found::Nothing);
        let alive = traces.take().unwrap().ok().unwrap();
        assert_eq!(traces.look().unwrap(), Found::Alive(std::process::id()));
        assert_eq!(traces.take().unwrap().err(), Some(std::process::id()));
        assert!(traces.serving().unwrap().is_none());
        alive.tell(&Serving::here()).unwrap();
        assert_eq!(traces.serving().unwrap().unwrap().pid, std::process::id());
        drop(alive);
        assert_eq!(traces.look().unwrap(), Found::Nothing);
        assert_eq!(std::fs::read_dir(place.path().join("run")).unwrap().count(), 0);
    }

    #[test]
    fn pid_file_that_nobody_holds_is_stale_whatever_pid_stands_in_it() {
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "up");
        // The pid is that of a process that runs, and that is not ours to stop.
        std::fs::write(traces.pid_file(), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(traces.look().unwrap(), Found::Stale);
        assert!(!traces.stop(Duration::from_secs(1)).unwrap());
        assert_eq!(traces.look().unwrap(), Found::Nothing);
    }
}
