//! `sigilum up`: the local stack, control plane and gateway in one process.

mod demo;
pub mod echo;
mod site;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::SignalKind;

use self::demo::Demo;
use self::site::Site;
use super::background::{self, Background};
use super::ground::Ground;
use super::life::{Alive, Serving, Traces};
use super::plane::{Plane, local_origin};
use super::quote::quote;
use super::stack::{Addresses, Stack};
use super::workspace::{self, Workspace};
use super::{Exit, Failure, Global, Io, Report, reach};
use crate::clock::Clock;
use crate::config::control_config;

/// How long the start waits until both are ready; it goes on all the same.
const PATIENCE: Duration = Duration::from_secs(30);
/// The control plane and the gateway's services share them.
const THREADS: usize = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Add a provider to try it with: an echo in the form of OpenAI's API, and an agent whose claim waits for approval
    #[arg(long)]
    demo: bool,
    /// Where the gateway listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:38100")]
    listen: SocketAddr,
    /// Where the admin listener is; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:38101")]
    admin_listen: SocketAddr,
    /// Where the control plane listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    api_listen: SocketAddr,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    background: Background,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where the local stack's files are.
#[derive(Debug, clap::Args)]
pub(super) struct Directory {
    /// The directory whose `.sigilum-workspace` and `.local` hold the stack [default: the current one]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

impl Directory {
    /// Goes there, and gives the directory that it came from.
    pub(super) fn enter(&self) -> Result<PathBuf, Failure> {
        let from = std::env::current_dir().context("the current directory is gone")?;
        if let Some(directory) = &self.workspace {
            std::env::set_current_dir(directory)
                .with_context(|| format!("the directory {} cannot be entered", directory.display()))?;
        }
        Ok(from)
    }

    /// How the directory is called, and the line that goes there, where it is another one than the user's.
    fn named(&self) -> (&'static str, String) {
        match self.line() {
            None => ("this", String::new()),
            Some(line) => ("that", format!("{line}\n  ")),
        }
    }

    /// What to type to get there, where it is named.
    pub(super) fn line(&self) -> Option<String> {
        let there = std::env::current_dir().ok().filter(|_| self.workspace.is_some())?;
        Some(format!("cd {}", quote(&there.display().to_string())))
    }
}

/// The traces of the local stack in the current directory.
pub(super) fn traces() -> Traces {
    Traces::new(&workspace::file("run"), "up")
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let from = args.directory.enter()?;
    workspace::need_own_ground()?;
    let traces = traces();
    if args.background.daemon {
        if let Some(pid) = alive(&traces)? {
            return Err(runs_already(pid));
        }
        let serving = background::start(&traces, &from, io)?;
        announce(io, args.json, &serving)?;
        if !args.json {
            writeln!(io.out, "pid: {}\nlog: {}", serving.pid, traces.log().display())?;
            next(args, global, io)?;
        }
        return Ok(Exit::Done);
    }
    args.background.settle()?;
    let alive = traces.take()?.map_err(runs_already)?;
    serve(args, global, &alive, io)
}

fn alive(traces: &Traces) -> Result<Option<u32>, Failure> {
    Ok(match traces.look()? {
        super::life::Found::Alive(pid) => Some(pid),
        _ => None,
    })
}

fn runs_already(pid: u32) -> Failure {
    Failure::from(anyhow::anyhow!("the local stack of this directory runs already, as process {pid}"))
        .hint("`sigilum status` shows it, `sigilum down` stops it")
}

fn serve(args: &Args, global: &Global, alive: &Alive, io: &mut Io<'_>) -> Result<Exit, Failure> {
    for (address, whose, flag) in [
        (args.api_listen, "the control plane", "--api-listen"),
        (args.listen, "the gateway", "--listen"),
        (args.admin_listen, "the admin listener", "--admin-listen"),
    ] {
        need_free(address, whose, flag)?;
    }
    let site = Site::of(args.demo, global)?;
    // Looked through before anything starts; the control plane's real address is known only then.
    let log = site.settings(args, &local_origin(args.api_listen))?.log;
    let (control, warnings) =
        control_config(&|name| site.control_variable(name), &site.control_defaults(args))?;
    let ground = Ground::lay(&log, THREADS)?;
    let hangup = (!args.background.detached).then(SignalKind::hangup);
    let stops: Vec<_> =
        [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup).collect();
    ground.stop_on(&stops);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let plane = Plane::assemble(&ground, control)?;
    let api = plane.origin();
    let now = Clock::system().now();
    ground.runtime().block_on(plane.parts().store.add_owner(&site.namespace, &site.email(), now))?;
    site.make_identity()?;
    let mut settings = site.settings(args, &api)?;
    let demo = args.demo.then(|| Demo::prepare(&ground, plane.parts(), &site, &mut settings)).transpose()?;
    let facts = Serving {
        drain_seconds: settings.gateway.drain.as_secs(),
        claim_id: demo.as_ref().map(|demo| demo.claim().to_string()),
        ..Serving::here()
    };
    let serving = plane.serve(&ground);
    let ended = Stack::assemble(&ground, settings, None).and_then(|stack| {
        // The gateway's first call would be refused, since it was signed before the control plane began. What is not
        // ready then is told below.
        let _ = reach::until_ready(&ground, &[&api], PATIENCE);
        let mut lent = None;
        let ended = stack.run(&ground, |addresses| {
            let told = told(&ground, &api, addresses, facts);
            lent = site.write_workspace(&told)?;
            alive.tell(&told)?;
            announce(io, args.json, &told)?;
            if !args.json {
                next(args, global, io)?;
            }
            Ok(io.out.flush()?)
        });
        drop(lent);
        ended
    });
    serving.stop(&ground);
    drop(demo);
    ended
}

/// Where everything serves, once both are ready, or have had their time.
fn told(ground: &Ground, api: &str, addresses: &Addresses, facts: Serving) -> Serving {
    let origins: Vec<&str> = [api].into_iter().chain(addresses.gateway.iter().map(String::as_str)).collect();
    let warning = reach::until_ready(ground, &origins, PATIENCE).err();
    Serving {
        control_plane: Some(api.to_owned()),
        gateway: addresses.gateway.clone(),
        admin: Some(format!("http://{}", addresses.admin)),
        warning,
        ..facts
    }
}

/// Prints where a stack serves, or the parts of one.
pub(super) fn announce(io: &mut Io<'_>, json: bool, serving: &Serving) -> Result<(), Failure> {
    if let Some(warning) = &serving.warning {
        writeln!(io.err, "warning: not everything is ready: {warning}; `sigilum doctor` says why")?;
    }
    if json {
        let mut report = Report::new("");
        if let Some(api) = &serving.control_plane {
            report = report.field("control_plane", api.as_str());
        }
        if let Some(admin) = &serving.admin {
            report = report.field("gateway", serving.gateway.clone()).field("admin", admin.as_str());
        }
        if let Some(claim) = &serving.claim_id {
            report = report.field("claim_id", claim.as_str());
        }
        return Ok(report.field("pid", serving.pid).write(&mut io.out, true)?);
    }
    if let Some(api) = &serving.control_plane {
        writeln!(io.out, "[ok] Control plane listening on {api}")?;
    }
    for origin in &serving.gateway {
        writeln!(io.out, "[ok] Gateway listening on {origin}")?;
    }
    if let Some(admin) = &serving.admin {
        writeln!(io.out, "[ok] Admin listening on {admin}")?;
    }
    Ok(())
}

/// What to type next.
fn next(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<(), Failure> {
    let Some(workspace) = Workspace::read()? else { return Ok(()) };
    let (program, gateway) = (program(), &workspace.gateway_url);
    let agent = match global.given_home() {
        None => program.clone(),
        // The other terminal may have the same variable, and it would go before the workspace's identity.
        Some(_) => format!("{program} --home {}", quote(&workspace.home().display().to_string())),
    };
    let (place, enter) = args.directory.named();
    if args.demo {
        demo::instructions(io, &program, &agent, gateway, &workspace.data_dir, (place, &enter))?;
    } else {
        writeln!(
            io.out,
            "\nIn another terminal, in {place} directory, put a provider behind the gateway:\n  \
             {enter}export OPENAI_API_KEY=sk-...\n  \
             {program} service add --service-slug openai --service-name OpenAI --mode gateway \
             --upstream-base-url https://api.openai.com --auth-mode bearer --upstream-secret-env OPENAI_API_KEY\n\
             Then let an agent ask for it, approve its claim, and ask again:\n  \
             {agent} curl {gateway}/proxy/openai/v1/models\n  \
             {program} claim list\n  \
             {program} claim approve cl_..."
        )?;
    }
    let how = if args.background.daemon { format!("{program} down") } else { "Ctrl-C".to_owned() };
    Ok(writeln!(io.out, "\n{how} stops it.")?)
}

/// How this program is called again from here.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sigilum"));
    let name = path.file_name().unwrap_or_default();
    let on_path = std::env::var_os("PATH")
        .is_some_and(|places| std::env::split_paths(&places).any(|place| place.join(name) == path));
    if on_path {
        return quote(&name.to_string_lossy()).into_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let path = match path.strip_prefix(&here) {
        // A name alone would be looked for on the path.
        Ok(name) if name.components().count() == 1 => Path::new(".").join(name),
        Ok(below) => below.to_owned(),
        Err(_) => path,
    };
    quote(&path.display().to_string()).into_owned()
}

/// Before anything is made: a port that another program has is a sentence of its own.
pub(super) fn need_free(address: SocketAddr, whose: &str, flag: &str) -> Result<(), Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let (ip, port) = (address.ip(), address.port());
            let sentence =
                anyhow::anyhow!("port {port} of {ip}, which {whose} needs, is taken by another program");
            Err(Failure::from(sentence).hint(format!(
                "stop what listens there (`sigilum down` in its directory, if it is a local stack), or choose another port with {flag} {}",
                SocketAddr::new(ip, 0)
            )))
        }
        Err(error) => {
            let sentence = format!("{whose} cannot listen on {address}");
            Err(anyhow::Error::from(error).context(sentence).into())
        }
    }
}
