//! `sigilum down`: stops what runs in this directory.

use std::io::Write as _;

use super::life::Traces;
use super::report::write_json;
use super::up::Directory;
use super::workspace::{self, Workspace};
use super::{Exit, Failure, Io, api, gateway, up};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, io: &mut Io<'_>) -> Result<Exit, Failure> {
    args.directory.enter()?;
    let mut stopped = Vec::new();
    // What the gateway alone needs goes last.
    for (name, traces) in all()? {
        if traces.stop()? {
            stopped.push(name);
        }
    }
    if args.json {
        write_json(&mut io.out, &serde_json::json!({ "stopped": stopped }))?;
    } else if stopped.is_empty() {
        writeln!(io.out, "[ok] Nothing runs here.")?;
    } else {
        writeln!(io.out, "[ok] Stopped.")?;
    }
    Ok(Exit::Done)
}

/// The traces of all that may run in the current directory, in the order in which it is stopped.
pub(super) fn all() -> Result<Vec<(&'static str, Traces)>, Failure> {
    let workspace = Workspace::read().ok().flatten();
    let gateway_data = workspace::gateway_data(workspace.as_ref());
    Ok(vec![("up", up::traces()), ("gateway", gateway::traces(&gateway_data)), ("api", api::traces())])
}
