//! `sigilum api`: the control plane alone.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tracing::Level;

use super::background::{self, Background};
use super::ground::Ground;
use super::life::{Found, Serving, Traces};
use super::place::variable;
use super::plane::Plane;
use super::up::{announce, need_free};
use super::workspace;
use super::{Exit, Failure, Global, Io, api_owner, reach};
use crate::config::{ControlDefaults, control_config, process_environment};
use crate::telemetry::{LogConfig, LogFormat};

/// How long the start waits until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);
const THREADS: usize = 2;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Run the control plane, until Ctrl-C or SIGTERM; its settings are variables of the environment
    Start(Start),
    /// Who owns a namespace
    #[command(subcommand)]
    Owner(api_owner::Command),
}

#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// Where it listens; port 0 takes a free one [default: SIGILUM_API_LISTEN, else 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    background: Background,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The traces of a control plane that runs in the background, in the current directory.
pub(super) fn traces() -> Traces {
    Traces::new(&workspace::file("run"), "api")
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Start(args) => start(args, io),
        Command::Owner(command) => api_owner::run(command, global, io),
    }
}

fn start(args: &Start, io: &mut Io<'_>) -> Result<Exit, Failure> {
    // Where neither its data nor its pid file are in this directory, what else is here is not its business.
    let elsewhere = ["DATABASE_URL", "SIGILUM_API_DATA_DIR"].iter().any(|name| variable(name).is_some());
    if !elsewhere || args.background.daemon || args.background.detached {
        workspace::need_own_ground()?;
    }
    let traces = traces();
    if args.background.daemon {
        if let Found::Alive(pid) = traces.look()? {
            return Err(runs_already(pid));
        }
        let serving = background::start(&traces, Path::new("."), io)?;
        announce(io, args.json, &serving)?;
        return Ok(Exit::Done);
    }
    args.background.settle()?;
    // In the foreground whoever started it looks after it: a service manager, or a person.
    let alive = match args.background.detached {
        true => Some(traces.take()?.map_err(runs_already)?),
        false => None,
    };
    let defaults = ControlDefaults { listen: args.listen, data_dir: workspace::api_data(None) };
    let (config, warnings) = control_config(&process_environment, &defaults)?;
    need_free(config.listen, "the control plane", "--listen")?;
    let ground = Ground::lay(&LogConfig { format: LogFormat::Json, level: Level::INFO }, THREADS)?;
    ground.stop_on(&[SignalKind::interrupt(), SignalKind::terminate()]);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let plane = Plane::assemble(&ground, config)?;
    let origin = plane.origin();
    let serving = plane.serve(&ground);
    let warning = reach::until_ready(&ground, &[&origin], PATIENCE).err();
    let told = Serving { control_plane: Some(origin), warning, ..Serving::here() };
    let shown = alive.as_ref().map_or(Ok(()), |alive| alive.tell(&told)).and_then(|()| {
        announce(io, args.json, &told)?;
        Ok(std::io::Write::flush(&mut io.out)?)
    });
    if shown.is_ok() {
        let mut stopped = ground.stopped();
        let _ = ground.runtime().block_on(stopped.wait_for(|stop| *stop));
    }
    serving.stop(&ground);
    shown.map(|()| Exit::Done)
}

fn runs_already(pid: u32) -> Failure {
    Failure::from(anyhow::anyhow!("the control plane of this directory runs already, as process {pid}"))
        .hint("`sigilum status` shows it, `sigilum down` stops it")
}
