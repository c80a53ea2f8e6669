//! A command that goes on in the background: the same binary with the same arguments, its output in a log file.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::life::{Serving, Traces};
use super::{Exit, Failure, Io};

/// The flag that asks for it, and the one that the process in the background gets in its place.
const ASKED: &str = "--daemon";
const DETACHED: &str = "--detached";
/// It looks for its parts' health this long, and tells then whatever it is.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Lines of the log that are shown of a start that failed.
const LAST_LINES: usize = 20;
/// The end of the log in which these are looked for, in bytes.
const LAST_BYTES: u64 = 64 * 1024;

/// Whether a command goes into the background.
#[derive(Debug, clap::Args)]
pub(super) struct Background {
    /// Go into the background once it is healthy; the output goes to a log file
    #[arg(long)]
    pub(super) daemon: bool,
    /// This is the process in the background
    #[arg(long, hide = true)]
    pub(super) detached: bool,
}

impl Background {
    /// Leaves the terminal, where this is the process in the background.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        if self.detached {
            rustix::process::setsid().context("the process cannot leave its terminal")?;
        }
        Ok(())
    }
}

/// Starts this command again in the background, in `directory`, and returns when it serves. What it says of itself goes
/// to its log; the log of the time before stays beside it as `.1`.
pub(super) fn start(traces: &Traces, directory: &Path, io: &mut Io<'_>) -> Result<Serving, Failure> {
    let log = traces.log();
    let mut child = spawn(&log, directory).with_context(|| format!("with the log {}", log.display()))?;
    for _ in 0..PATIENCE.as_millis() / LOOK_AGAIN.as_millis() {
        if let Some(serving) = traces.serving()?.filter(|serving| serving.pid == child.id()) {
            return Ok(serving);
        }
        if let Some(status) = child.try_wait()? {
            return Err(ended(&log, status.code(), io));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    // It is asked to stop, as it would be by hand; nothing is to be left running.
    let _ = traces.stop();
    let _ = child.kill();
    let _ = child.wait();
    Err(ended(&log, None, io))
}

fn spawn(log: &Path, directory: &Path) -> anyhow::Result<Child> {
    let place = log.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(place).context("its directory cannot be made")?;
    // Also where a link stands that leads nowhere: it is moved itself, and what it leads to is not touched.
    if log.symlink_metadata().is_ok() {
        let mut former = log.as_os_str().to_owned();
        former.push(".1");
        std::fs::rename(log, former).context("the former log cannot be moved")?;
    }
    let out = OpenOptions::new().append(true).create_new(true).mode(0o600).open(log)?;
    let args = std::env::args_os().skip(1).filter(|arg| arg != ASKED);
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let child = Command::new(program)
        .args(args)
        .arg(DETACHED)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    Ok(child)
}

/// Shows how the log ends.
fn ended(log: &Path, code: Option<i32>, io: &mut Io<'_>) -> Failure {
    for line in tail(log, LAST_LINES).unwrap_or_default().0 {
        let _ = writeln!(io.err, "{line}");
    }
    let exit = [Exit::Usage, Exit::NotAuthorized, Exit::NotReachable]
        .into_iter()
        .find(|exit| code == Some(i32::from(exit.code())))
        .unwrap_or(Exit::Failed);
    let sentence = match code {
        Some(_) => "it ended before it was healthy",
        None => "it was not healthy in time, and was stopped",
    };
    Failure::new(exit, anyhow::anyhow!("{sentence}; its log is {}", log.display()))
}

/// The last lines of a log, `most` of them, and where the log ended when they were read.
pub(super) fn tail(log: &Path, most: usize) -> std::io::Result<(Vec<String>, u64)> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    let bytes = LAST_BYTES.max(u64::try_from(most).unwrap_or(u64::MAX).saturating_mul(1024));
    let start = length.saturating_sub(bytes);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    let end = start.saturating_add(file.take(length - start).read_to_end(&mut text)? as u64);
    let text = String::from_utf8_lossy(&text);
    // A line that begins before the part that was read is not shown.
    let lines: Vec<&str> = text.lines().skip(usize::from(start > 0)).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(most)).map(|line| (*line).to_owned());
    Ok((last.collect(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_whole_and_no_more_than_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&log, 2).unwrap(), (vec!["two".to_owned(), "three".to_owned()], 14));
        assert_eq!(tail(&log, 20).unwrap().0, ["one", "two", "three"]);
        let long: String = (0..40_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&log, long).unwrap();
        let (lines, _) = tail(&log, 40_000).unwrap();
        assert_eq!(lines.last().unwrap(), "line 39999");
        assert!(lines.iter().all(|line| line.starts_with("line ")), "a broken line was shown");
    }
}
