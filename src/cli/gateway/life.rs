//! `sigilum gateway stop|status|logs|reload`: a gateway that was started before.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::background::tail;
use super::super::connection::client::{Access, Client, HEADING};
use super::super::life::{Found, Serving, Traces};
use super::super::report::write_json;
use super::super::{Exit, Failure, Io, reach, up};
use super::{Which, is_of_stack, traces};

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How much of a log is read at once.
const PIECE_BYTES: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Stop {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Status {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Logs {
    #[command(flatten)]
    which: Which,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: u32,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Reload {
    #[command(flatten)]
    which: Which,
    /// Where the gateway's admin API is [default: where the gateway of this data directory has it]
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    gateway_admin_url: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn stop(args: &Stop, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let data_dir = args.which.whereabouts()?.data_dir;
    let stopped = traces(&data_dir).stop()?;
    if !stopped
        && is_of_stack(&data_dir)
        && let Found::Alive(pid) = up::traces().look()?
    {
        return Err(part_of_stack(pid));
    }
    if args.json {
        write_json(&mut io.out, &json!({ "stopped": if stopped { vec!["gateway"] } else { Vec::new() } }))?;
    } else {
        writeln!(io.out, "[ok] {}", if stopped { "Gateway stopped." } else { "No gateway runs here." })?;
    }
    Ok(Exit::Done)
}

/// The gateway of this directory runs, and is not to be handled by itself.
pub(super) fn part_of_stack(pid: u32) -> Failure {
    Failure::from(anyhow::anyhow!("the gateway here is a part of the local stack, process {pid}"))
        .hint("`sigilum down` stops the local stack")
}

/// The gateway's own traces, else those of the local stack where it is that one's, whichever lives.
pub(super) fn alive(which: &Which) -> Result<(Traces, Option<Serving>), Failure> {
    let data_dir = which.whereabouts()?.data_dir;
    let own = traces(&data_dir);
    let stack = is_of_stack(&data_dir).then(up::traces);
    for traces in [Some(own.clone()), stack].into_iter().flatten() {
        if let Found::Alive(_) = traces.look()? {
            let serving = traces.serving()?;
            return Ok((traces, serving));
        }
    }
    Ok((own, None))
}

/// There is none, or none that can be found.
fn none_runs() -> Failure {
    Failure::new(Exit::NotReachable, anyhow::anyhow!("no gateway runs here"))
}

pub(super) fn status(args: &Status, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let (_, serving) = alive(&args.which)?;
    let Some(serving) = serving else {
        return Err(none_runs().hint("sigilum gateway start --daemon"));
    };
    let admin = serving.admin.clone().unwrap_or_default();
    let answered = reach::get_one(&admin, "/health/ready")?;
    let problem = match &answered {
        Ok(answer) if answer.is_ok() => None,
        Ok(answer) => Some(answer.problem()),
        Err(cause) => Some(format!("{admin} cannot be reached: {cause}")),
    };
    if args.json {
        let told = json!({
            "pid": serving.pid,
            "version": serving.version,
            "gateway": serving.gateway,
            "admin": admin,
            "ready": problem.is_none(),
            "problem": problem,
        });
        write_json(&mut io.out, &told)?;
    } else {
        let (mark, state) = match &problem {
            None => ("[ok]", "ready".to_owned()),
            Some(problem) => ("[warn]", format!("not ready: {problem}")),
        };
        writeln!(io.out, "{mark} Gateway runs, {state}.")?;
        writeln!(io.out, "pid: {}\nversion: {}", serving.pid, serving.version)?;
        for origin in &serving.gateway {
            writeln!(io.out, "gateway: {origin}")?;
        }
        writeln!(io.out, "admin: {admin}")?;
    }
    Ok(if problem.is_none() { Exit::Done } else { Exit::NotReachable })
}

pub(super) fn logs(args: &Logs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let (traces, _) = alive(&args.which)?;
    let log = traces.log();
    let most = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let (lines, end) = match tail(&log, most) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let sentence = anyhow::anyhow!("there is no log {}", log.display());
            return Err(Failure::from(sentence).hint(
                "a gateway in the foreground writes to its terminal; one started with --daemon has a log",
            ));
        }
        Err(error) => return Err(anyhow::Error::from(error).context(log.display().to_string()).into()),
    };
    for line in lines {
        writeln!(io.out, "{line}")?;
    }
    io.out.flush()?;
    if args.follow { follow(&log, end, io) } else { Ok(Exit::Done) }
}

/// Goes on behind the first `from` bytes; a file that takes the log's place is begun at its start.
fn follow(log: &Path, mut from: u64, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mut file = std::fs::File::open(log)?;
    loop {
        file.seek(SeekFrom::Start(from))?;
        let mut piece = Vec::new();
        let read = (&file).take(PIECE_BYTES).read_to_end(&mut piece)?;
        if read > 0 {
            io.out.write_all(&piece)?;
            io.out.flush()?;
            from = from.saturating_add(read as u64);
            continue;
        }
        let here = file.metadata()?;
        match std::fs::metadata(log) {
            Ok(named) if named.ino() != here.ino() => (file, from) = (std::fs::File::open(log)?, 0),
            _ if here.len() < from => from = 0,
            _ => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

pub(super) fn reload(args: &Reload, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let url = match args.gateway_admin_url.clone().filter(|url| !url.is_empty()) {
        Some(url) => url,
        None => {
            let (_, serving) = alive(&args.which)?;
            serving.and_then(|serving| serving.admin).ok_or_else(|| {
                none_runs().hint("start it with `sigilum gateway start --daemon`, or name its admin listener with --gateway-admin-url URL")
            })?
        }
    };
    let answer = Client::new(&url, &args.access, io)?.post("/api/admin/reload", &json!({}))?;
    if args.json {
        write_json(&mut io.out, &answer)?;
        return Ok(Exit::Done);
    }
    writeln!(io.out, "[ok] Configuration read again.")?;
    writeln!(io.out, "connections: {}", answer.get("connections").unwrap_or(&Value::Null))?;
    for warning in answer.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| warning.get(name).and_then(Value::as_str).unwrap_or_default();
        writeln!(io.out, "warning: {}: {}", text("path"), text("message"))?;
    }
    for section in answer.get("restart_needed_for").and_then(Value::as_array).into_iter().flatten() {
        writeln!(io.out, "restart needed for: {}", section.as_str().unwrap_or_default())?;
    }
    Ok(Exit::Done)
}
