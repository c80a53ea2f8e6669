//! Which of our processes live: each holds the lock of its pid file, and tells beside it where it serves.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{Failure, private, workspace};
use crate::identity::files::draft_path;

/// Who looks at a pid file holds its lock for an instant; a start waits so often for it.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a process may take to end beyond the time that it lets requests finish.
const MARGIN: Duration = Duration::from_secs(60);
/// The rights of others: whoever may read a pid file can keep its lock, and so have its pid stopped.
const OTHERS: u32 = 0o077;
/// The longest that is read of what a process tells, in bytes.
const LONGEST: u64 = 64 * 1024;

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
    /// The control plane that the gateway asks for claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asks: Option<String>,
    /// How long requests may go on once it is told to stop, in seconds.
    #[serde(default)]
    pub(super) drain_seconds: u64,
    /// The claim of the demo's agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claim_id: Option<String>,
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
            asks: None,
            drain_seconds: 0,
            claim_id: None,
            warning: None,
        }
    }

    /// How long it may take to end once it is told to stop.
    fn patience(&self) -> Duration {
        MARGIN + Duration::from_secs(self.drain_seconds)
    }

    /// Where it serves.
    fn origins(&self) -> impl Iterator<Item = &String> {
        self.gateway.iter().chain(&self.control_plane).chain(&self.admin)
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
        let failed = |error| unusable(&path, error);
        let mut file = match private::open_own(&path, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Found::Stale),
            Err(TryLockError::WouldBlock) => {
                need_closed(&file).map_err(failed)?;
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(failed)?;
                Ok(text.trim().parse().map_or(Found::Nothing, Found::Alive))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// What the process that runs tells; `None`: none runs, or it does not serve yet. Tokens go where it says, so it must
    /// be this machine.
    pub(super) fn serving(&self) -> Result<Option<Serving>, Failure> {
        let Found::Alive(pid) = self.look()? else { return Ok(None) };
        let path = self.file("json");
        let file = match private::open_own(&path, OpenOptions::new().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, error)),
        };
        let mut told = Vec::new();
        let read = need_closed(&file).and_then(|()| file.take(LONGEST).read_to_end(&mut told));
        read.map_err(|error| unusable(&path, error))?;
        let told = serde_json::from_slice::<Serving>(&told).ok().filter(|serving| serving.pid == pid);
        if let Some(away) = told.iter().flat_map(Serving::origins).find(|origin| !workspace::is_here(origin))
        {
            let away = format!("it leads away: {away} is not on this machine");
            return Err(unusable(&path, io::Error::other(away)));
        }
        Ok(told)
    }

    /// Takes the place of the one such process, else gives the pid of the one that runs.
    ///
    /// The file gets its name only when it holds the pid and is locked, so that no reader finds a lock with a pid of
    /// somebody else; and a name that stands is never written through.
    pub(super) fn take(&self) -> Result<Result<Alive, u32>, Failure> {
        let path = self.pid_file();
        let failed = |error| unusable(&path, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let draft = draft_path(&path).map_err(failed)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
        let mut named = || {
            writeln!(file, "{}", std::process::id())?;
            file.sync_all()?;
            file.lock()?;
            self.name_it(&draft)
        };
        let named = named();
        let _ = fs::remove_file(&draft);
        if named.map_err(failed)? {
            self.sweep();
            return Ok(Ok(Alive { traces: self.clone(), _pid: file }));
        }
        match self.look()? {
            Found::Alive(pid) => Ok(Err(pid)),
            _ => Err(failed(io::Error::other("others keep its lock"))),
        }
    }

    /// Removes what processes that were killed on the way here left. A process on its way loses its draft too, while
    /// this one has the place that both want.
    fn sweep(&self) {
        let ours = format!(".{}.", self.name);
        let is_draft = |name: &str| {
            let random = name.strip_prefix(&ours).and_then(|rest| rest.rsplit_once('.'));
            random.is_some_and(|(file, random)| {
                ["pid", "json"].contains(&file)
                    && random.len() == 16
                    && random.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        };
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_draft) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Gives the pid file's name to `draft`, once no process that runs has it; `false`: one has.
    fn name_it(&self, draft: &Path) -> io::Result<bool> {
        for _ in 0..TRIES {
            // A link, unlike a rename, fails where the name is taken.
            match fs::hard_link(draft, self.pid_file()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // Whoever took the place has swept it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                named => return named.map(|()| true),
            }
            if !self.free()? {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(false)
    }

    /// Removes what an ended process left.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        self.free().map(|_| ()).map_err(|error| unusable(&self.pid_file(), error))
    }

    /// Removes the pid file that no process holds, and what its process told: under the file's own lock, so that nothing
    /// of a process that has taken the place meanwhile goes with it. `false`: a process holds it.
    ///
    /// A file that no process holds is never held again, so it is emptied before it is locked: who looks meanwhile finds
    /// a lock, but no pid that another program may have by now.
    fn free(&self) -> io::Result<bool> {
        let path = self.pid_file();
        let file = match private::open_own(&path, OpenOptions::new().read(true).write(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        let emptied = file.try_lock_shared().and_then(|()| file.set_len(0).map_err(TryLockError::Error));
        match emptied.and_then(|()| file.try_lock()) {
            Ok(()) => {
                let (ours, named) = (file.metadata()?, fs::symlink_metadata(&path));
                if named.is_ok_and(|named| (ours.dev(), ours.ino()) == (named.dev(), named.ino())) {
                    self.remove();
                }
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn remove(&self) {
        for file in ["json", "pid"] {
            // What is not there need not be removed.
            let _ = fs::remove_file(self.file(file));
        }
    }

    /// Asks the process to stop and waits until it has, as long as it lets requests finish and some more; `false`: none
    /// ran.
    pub(super) fn stop(&self) -> Result<bool, Failure> {
        let pid = match self.look()? {
            Found::Nothing => return Ok(false),
            Found::Stale => {
                self.clear()?;
                return Ok(false);
            }
            Found::Alive(pid) => pid,
        };
        // What it tells may be of no use, and it is to stop all the same.
        let serving = self.serving().ok().flatten();
        let patience = serving.map_or(MARGIN, |serving| serving.patience());
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
        self.traces.remove();
    }
}

fn need_closed(file: &File) -> io::Result<()> {
    match file.metadata()?.mode() & 0o777 {
        mode if mode & OTHERS == 0 => Ok(()),
        mode => Err(io::Error::other(format!("it has mode {mode:04o}, so others may have put it there"))),
    }
}

fn unusable(path: &Path, error: io::Error) -> Failure {
    anyhow::Error::from(error).context(format!("{} cannot be used", path.display())).into()
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
        assert!(!traces.stop().unwrap());
        assert_eq!(traces.look().unwrap(), Found::Nothing);
    }

    #[test]
    fn pid_file_that_leads_elsewhere_is_neither_written_nor_removed_with_what_it_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let (other, traces) = (place.path().join("other"), Traces::new(place.path(), "up"));
        std::os::unix::fs::symlink(&other, traces.pid_file()).unwrap();
        for there in [false, true] {
            if there {
                fs::write(&other, "a key\n").unwrap();
            }
            for refused in [traces.take().err(), traces.look().err(), traces.clear().err()] {
                assert!(refused.unwrap().sentence().ends_with("it is a symbolic link"));
            }
            assert_eq!(fs::read_to_string(&other).ok(), there.then(|| "a key\n".to_owned()));
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn pid_file_that_is_being_removed_names_nobody() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "up");
        fs::write(traces.pid_file(), format!("{}\n", std::process::id())).unwrap();
        // Somebody who looks holds up the removal, just before its lock.
        let looks = File::open(traces.pid_file()).unwrap();
        looks.try_lock_shared().unwrap();
        traces.clear().unwrap();
        drop(looks);
        // The lock, as the removal has it.
        let file = OpenOptions::new().write(true).open(traces.pid_file()).unwrap();
        file.try_lock().unwrap();
        fs::set_permissions(traces.pid_file(), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(traces.look().unwrap(), Found::Nothing);
        drop(file);
        assert!(!traces.stop().unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn drafts_of_processes_that_were_killed_are_swept_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "up");
        for left in [".up.pid.0123456789abcdef", ".up.json.0123456789abcdef"] {
            fs::write(place.path().join(left), "").unwrap();
        }
        let others = [".api.pid.0123456789abcdef", ".up.pid.mine", ".up.txt.0123456789abcdef", "up.log"];
        for other in others {
            fs::write(place.path().join(other), "").unwrap();
        }
        drop(traces.take().unwrap().ok().unwrap());
        let left = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, others);
    }

    #[test]
    fn start_whose_draft_another_one_swept_is_told_who_runs() {
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "up");
        assert!(!traces.name_it(&place.path().join(".up.pid.0123456789abcdef")).unwrap());
    }

    #[test]
    fn process_is_waited_for_as_long_as_it_lets_requests_finish_and_a_minute_more() {
        let serving = |drain_seconds| Serving { drain_seconds, ..Serving::here() };
        assert_eq!(serving(0).patience(), Duration::from_secs(60));
        assert_eq!(serving(90).patience(), Duration::from_secs(150));
    }

    #[test]
    fn pid_file_whose_lock_others_can_keep_stops_nobody() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "up");
        let _alive = traces.take().unwrap().ok().unwrap();
        fs::set_permissions(traces.pid_file(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(traces.stop().err().unwrap().sentence().contains("has mode 0644"));
    }

    #[test]
    fn file_of_a_process_that_took_the_place_meanwhile_is_not_cleared() {
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "up");
        fs::write(traces.pid_file(), "1\n").unwrap();
        assert_eq!(traces.look().unwrap(), Found::Stale);
        let alive = traces.take().unwrap().ok().unwrap();
        alive.tell(&Serving::here()).unwrap();
        traces.clear().unwrap();
        assert_eq!(traces.look().unwrap(), Found::Alive(std::process::id()));
        assert!(traces.serving().unwrap().is_some());
    }

    #[test]
    fn what_a_process_tells_must_be_on_this_machine() {
        let place = tempfile::tempdir().unwrap();
        let traces = Traces::new(place.path(), "gateway");
        let alive = traces.take().unwrap().ok().unwrap();
        alive.tell(&Serving { admin: Some("https://evil.example".to_owned()), ..Serving::here() }).unwrap();
        assert!(traces.serving().err().unwrap().sentence().contains("it leads away"));
    }
}
