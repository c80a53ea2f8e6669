//! `sigilum gateway`: the gateway alone.

mod connect;
mod life;
mod pair;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::SignalKind;

use super::background::{self, Background};
use super::ground::Ground;
use super::life::{Alive, Found, Serving, Traces};
use super::place::{Place, variable};
use super::reload::{ConfigFile, Typed};
use super::stack::{Addresses, Stack};
use super::up::announce;
use super::workspace::{self, Workspace};
use super::{Exit, Failure, Global, Io, reach, up};
use crate::config::{self, Mode, Settings, Whereabouts};

/// How long a gateway in the background is given until it is ready; it goes on all the same.
const PATIENCE: Duration = Duration::from_secs(15);
const THREADS: usize = 1;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Run the gateway, until Ctrl-C or SIGTERM; SIGHUP reads the configuration again
    Start(Start),
    /// Stop the gateway
    Stop(life::Stop),
    /// Tell whether the gateway runs, and whether it is ready
    Status(life::Status),
    /// Show the log of a gateway in the background
    Logs(life::Logs),
    /// Have the configuration read again
    Reload(life::Reload),
    /// Pair the running gateway with a dashboard, or look at or end its pairing
    Pair(Box<pair::Pair>),
    /// Start the gateway if need be, look at both ends, and pair it with a dashboard
    Connect(Box<connect::Connect>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Start {
    #[command(flatten)]
    which: Which,
    /// Where the gateway listens, in place of the first listener of its settings; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin listener is; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    #[command(flatten)]
    background: Background,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which gateway is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Its configuration; without it the defaults and the environment decide
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Without a configuration, whose setting up the defaults fit: managed, enterprise or oss-local
    /// [default: SIGILUM_MODE, else oss-local beside a local stack, else managed]
    #[arg(long, value_name = "MODE", conflicts_with = "config")]
    mode: Option<Mode>,
}

/// The traces of the gateway with this data directory.
pub(super) fn traces(data_dir: &Path) -> Traces {
    Traces::new(data_dir, "gateway")
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Start(args) => start(args, global, io),
        Command::Stop(args) => life::stop(args, io),
        Command::Status(args) => life::status(args, io),
        Command::Logs(args) => life::logs(args, io),
        Command::Reload(args) => life::reload(args, io),
        Command::Pair(args) => pair::run(args, global, io),
        Command::Connect(args) => connect::run(args, global, io),
    }
}

fn start(args: &Start, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let typed = Typed {
        namespace: global.typed_namespace()?,
        home: global.typed_home(),
        listen: args.listen,
        admin_listen: args.admin_listen,
    };
    let settings = settings(args, typed.clone(), global)?;
    let traces = traces(&settings.data_dir);
    if is_of_stack(&settings.data_dir) {
        workspace::need_own_ground()?;
        if let Found::Alive(pid) = up::traces().look()? {
            return Err(life::part_of_stack(pid));
        }
    }
    if args.background.daemon {
        if let Found::Alive(pid) = traces.look()? {
            return Err(runs_already(pid));
        }
        let serving = background::start(&traces, Path::new("."), io)?;
        announce(io, args.json, &serving)?;
        if !args.json {
            writeln!(io.out, "pid: {}\nlog: {}", serving.pid, traces.log().display())?;
        }
        return Ok(Exit::Done);
    }
    args.background.settle()?;
    let ground = Ground::lay(&settings.log, THREADS)?;
    ground.stop_on(&[SignalKind::interrupt(), SignalKind::terminate()]);
    let facts = Serving {
        drain_seconds: settings.gateway.drain.as_secs(),
        asks: settings.feed.as_ref().map(|feed| feed.url.to_string()),
        ..Serving::here()
    };
    let file = args.which.config.clone().map(|path| ConfigFile { path, typed });
    let stack = Stack::assemble(&ground, settings, file)?;
    let alive = take(&traces, args.background.detached)?;
    stack.run(&ground, |addresses| {
        let told = told(&ground, addresses, args.background.detached, facts);
        if let Some(alive) = &alive {
            alive.tell(&told)?;
        }
        announce(io, args.json, &told)?;
        Ok(io.out.flush()?)
    })
}

fn runs_already(pid: u32) -> Failure {
    Failure::from(anyhow::anyhow!("the gateway with this data directory runs already, as process {pid}"))
        .hint("`sigilum gateway status` shows it, `sigilum gateway stop` stops it")
}

/// In the foreground whoever started the gateway looks after it: a data directory that takes no pid file, or that has
/// one of another gateway, is no reason not to serve.
fn take(traces: &Traces, needed: bool) -> Result<Option<Alive>, Failure> {
    match traces.take() {
        Ok(Ok(alive)) => Ok(Some(alive)),
        Ok(Err(pid)) if needed => Err(runs_already(pid)),
        Err(failure) if needed => Err(failure),
        Ok(Err(_)) | Err(_) => {
            let file = traces.pid_file();
            tracing::warn!(file = %file.display(), "there is no pid file, so `sigilum gateway stop` does not find this gateway");
            Ok(None)
        }
    }
}

/// Where it serves; of one in the background, once it is ready or has had its time.
fn told(ground: &Ground, addresses: &Addresses, background: bool, facts: Serving) -> Serving {
    let admin = format!("http://{}", addresses.admin);
    let ready = if background { reach::until_ready(ground, &[&admin], PATIENCE) } else { Ok(()) };
    Serving { gateway: addresses.gateway.clone(), admin: Some(admin), warning: ready.err(), ..facts }
}

fn settings(args: &Start, typed: Typed, global: &Global) -> Result<Settings, Failure> {
    let mut settings = match &args.which.config {
        Some(file) => config::load_file(file, &config::process_environment)?,
        None => without_file(&args.which.place()?, global)?,
    };
    typed.apply(&mut settings);
    Ok(settings)
}

/// The mode's defaults, and those of the local stack in this directory, as far as no variable says otherwise.
fn without_file(place: &Place, global: &Global) -> Result<Settings, Failure> {
    let data = usual_data_dir(place.mode());
    let api = place.api_url(None)?.to_string();
    let namespace = place.said_namespace(global)?.map(|namespace| namespace.to_string());
    let environment = |name: &str| {
        variable(name).or_else(|| match name {
            "GATEWAY_DATA_DIR" => data.as_ref()?.to_str().map(str::to_owned),
            "GATEWAY_SIGILUM_HOME" if variable("SIGILUM_HOME").is_none() => {
                data.as_ref()?.join("home").to_str().map(str::to_owned)
            }
            "GATEWAY_SIGILUM_NAMESPACE" => namespace.clone(),
            "SIGILUM_REGISTRY_URL" => Some(api.clone()),
            _ => None,
        })
    };
    Ok(Settings::defaults(place.mode(), &environment)?)
}

/// The data directory of a local stack's gateway, which is in this directory; that of others is the user's own.
pub(super) fn usual_data_dir(mode: Mode) -> Option<PathBuf> {
    let local = workspace::gateway_data(Workspace::read().ok().flatten().as_ref());
    let local = std::path::absolute(local).ok()?;
    (mode == Mode::OssLocal).then_some(local)
}

/// What the gateway tells that runs, where one does.
pub(super) fn serving(which: &Which) -> Result<Option<Serving>, Failure> {
    Ok(life::alive(which)?.1)
}

impl Which {
    /// The one of this configuration, else of this directory and its mode.
    pub(super) fn of(config: Option<PathBuf>) -> Self {
        Self { config, mode: None }
    }

    /// Where its configuration has the admin listener.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.whereabouts().ok()?.admin
    }

    /// Where its mode is looked for.
    fn place(&self) -> Result<Place, Failure> {
        Place::here(self.mode)
    }

    /// Its data directory, and its admin listener where a configuration says it: whatever else is wrong with that, a gateway
    /// that runs must be found.
    fn whereabouts(&self) -> Result<Whereabouts, Failure> {
        if let Some(file) = &self.config {
            return Ok(config::whereabouts(file, &config::process_environment)?);
        }
        let local = usual_data_dir(self.place()?.mode());
        let environment = |name: &str| {
            let local = || local.as_ref()?.to_str().map(str::to_owned);
            variable(name).or_else(|| if name == "GATEWAY_DATA_DIR" { local() } else { None })
        };
        let place = |name: &str| match name {
            "GATEWAY_DATA_DIR" | "XDG_DATA_HOME" | "HOME" => environment(name),
            _ => None,
        };
        let data_dir = Settings::defaults(Mode::OssLocal, &place)?.data_dir;
        Ok(Whereabouts { data_dir, admin: None })
    }
}

/// Whether this is the data directory of the local stack here.
fn is_of_stack(data_dir: &Path) -> bool {
    usual_data_dir(Mode::OssLocal).as_deref() == Some(data_dir)
}
