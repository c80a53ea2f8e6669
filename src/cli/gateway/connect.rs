//! `sigilum gateway connect`: looks at both ends, starts the gateway where none runs, and pairs it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use url::Url;

use super::super::life::Serving;
use super::super::quote::quote;
use super::super::{Exit, Failure, Global, Io, reach};
use super::life;
use super::pair::{self, Gateway, Session};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Connect {
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    gateway: Gateway,
    /// Taken for scripts: gateway and bridge are in the background anyway
    #[arg(long)]
    daemon: bool,
}

pub(super) fn run(args: &Connect, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    // Before anything is started: what was typed must be whole.
    args.session.given()?;
    let place = args.gateway.which.place()?;
    let api_url = place.api_url(args.session.api_url.as_deref())?;
    control_plane_answers(api_url.as_str())?;
    if !args.gateway.json {
        writeln!(io.out, "[ok] Control plane reachable at {}", api_url.as_str().trim_end_matches('/'))?;
    }
    if gateway_answers(&args.gateway)? {
        warn_of_another(&args.gateway, &api_url, io)?;
    } else {
        start(args, &api_url, global, io)?;
        let usual = place.api_url(None).ok();
        if args.gateway.which.config.is_none() && usual.as_ref() != Some(&api_url) {
            let said = quote(api_url.as_str());
            writeln!(
                io.err,
                "warning: the gateway asks {api_url} because of --api-url; before its next start type `export SIGILUM_REGISTRY_URL={said}`"
            )?;
        }
    }
    if !args.gateway.json {
        let at = origins(&args.gateway)?;
        writeln!(io.out, "[ok] Gateway runs{}.", if at.is_empty() { at } else { format!(" at {at}") })?;
    }
    let client = args.gateway.client(io)?;
    let namespace = match place.said_namespace(global)? {
        Some(namespace) => namespace,
        None => pair::own_namespace(&client)?,
    };
    pair::pair(&client, &args.session, &namespace, &api_url, args.gateway.json, io)
}

fn control_plane_answers(api_url: &str) -> Result<(), Failure> {
    let problem = match reach::get_one(api_url, "/health")? {
        Ok(answer) if answer.is_ok() => return Ok(()),
        Ok(answer) => answer.problem(),
        Err(cause) => cause,
    };
    let sentence = anyhow::anyhow!("the control plane at {api_url} is not there: {problem}");
    Err(Failure::new(Exit::NotReachable, sentence).hint("name the control plane with --api-url URL"))
}

fn gateway_answers(gateway: &Gateway) -> Result<bool, Failure> {
    let answered = reach::get_one(&gateway.admin_url()?, "/health")?;
    Ok(answered.is_ok_and(|answer| answer.is_ok()))
}

/// A gateway that runs already may ask another control plane for its claims than the one that it is to be paired with.
fn warn_of_another(gateway: &Gateway, api_url: &Url, io: &mut Io<'_>) -> Result<(), Failure> {
    let Some(serving) = serving(gateway)? else { return Ok(()) };
    let other = |asks: &String| asks.trim_end_matches('/') != api_url.as_str().trim_end_matches('/');
    if let Some(asks) = serving.asks.or(serving.control_plane).filter(other) {
        writeln!(
            io.err,
            "warning: the gateway that runs asks {asks} for claims, and is paired with {api_url}; to have it ask there, stop it, set SIGILUM_REGISTRY_URL or control_plane.url, and start it again"
        )?;
    }
    Ok(())
}

/// Where agents reach it, as far as its traces tell; another machine's tell nothing here.
fn origins(gateway: &Gateway) -> Result<String, Failure> {
    Ok(serving(gateway)?.map(|serving| serving.gateway.join(", ")).unwrap_or_default())
}

/// What the gateway's traces tell, where it is this one's.
fn serving(gateway: &Gateway) -> Result<Option<Serving>, Failure> {
    let (_, serving) = life::alive(&gateway.which)?;
    let admin = gateway.admin_url()?;
    Ok(serving.filter(|serving| serving.admin.as_deref() == Some(admin.as_str())))
}

/// Starts a gateway in the background, as `sigilum gateway start --daemon` does. One that was named by its address is
/// another's to start. Without a configuration it asks the control plane that it is to be paired with.
fn start(args: &Connect, api_url: &Url, global: &Global, io: &mut Io<'_>) -> Result<(), Failure> {
    if let Some(url) = args.gateway.gateway_admin_url.as_ref().filter(|url| !url.is_empty()) {
        let sentence = anyhow::anyhow!("the gateway's admin API at {url} does not answer");
        return Err(Failure::new(Exit::NotReachable, sentence).hint("start that gateway first"));
    }
    let (_, serving) = life::alive(&args.gateway.which)?;
    if let Some(serving) = serving {
        let sentence = anyhow::anyhow!("the gateway runs as process {}, and does not answer", serving.pid);
        return Err(Failure::new(Exit::NotReachable, sentence).hint("sigilum gateway logs"));
    }
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let mut command = Command::new(program);
    command.args(["gateway", "start", "--daemon"]).stdin(Stdio::null());
    // What variables say the gateway reads itself.
    if let Some(home) = global.typed_home() {
        command.arg("--home").arg(home);
    }
    if let Some(namespace) = global.typed_namespace()? {
        command.args(["--namespace", namespace.as_str()]);
    }
    match (&args.gateway.which.config, args.gateway.which.mode) {
        (Some(file), _) => drop(command.arg("--config").arg(file)),
        (None, mode) => {
            command.env("SIGILUM_REGISTRY_URL", api_url.as_str());
            if let Some(mode) = mode {
                command.args(["--mode", &mode.to_string()]);
            }
        }
    }
    let ended = command.output().context("the gateway cannot be started")?;
    io.err.write_all(&ended.stderr)?;
    if ended.status.success() {
        return Ok(());
    }
    let exit = [Exit::Usage, Exit::NotAuthorized, Exit::NotReachable]
        .into_iter()
        .find(|exit| ended.status.code() == Some(i32::from(exit.code())))
        .unwrap_or(Exit::Failed);
    Err(Failure::new(exit, anyhow::anyhow!("the gateway cannot be started; what it said stands above")))
}
