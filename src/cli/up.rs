//! `sigilum up`: the local stack.

pub mod echo;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::echo::Echo;
use super::quote::quote;
use super::stack::{Addresses, Stack, random};
use super::{Exit, Failure, Io};
use crate::clock::Clock;
use crate::config::{Mode, Settings};
use crate::connections::{Auth, Connection, Endpoint, SecretSource};
use crate::identity::Home;
use crate::names::{ClaimId, ConnectionId, Namespace};
use crate::policy::{Claim, Scopes};
use crate::secret::SecretString;

/// Where the demo keeps its identity and its key.
const WORKSPACE: &str = ".sigilum-workspace/demo";
const NAMESPACE: &str = "demo";
const CONNECTION: &str = "openai";
/// Enough for a try, whatever the machine's limit of open files is.
const DEMO_CONNECTIONS: usize = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Add a provider to try it with: an echo in the form of OpenAI's API, an identity and an approved claim
    #[arg(long)]
    demo: bool,
    /// Where the gateway listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:38100")]
    listen: SocketAddr,
    /// Where the admin listener is; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:38101")]
    admin_listen: SocketAddr,
    /// Where the demo keeps its identity and its key
    #[arg(long, value_name = "DIR", default_value = WORKSPACE)]
    workspace: PathBuf,
}

pub(super) fn run(args: &Args, io: &mut Io<'_>) -> Result<Exit, Failure> {
    if !args.demo {
        return Err(Failure::usage(
            "`sigilum up` without --demo needs the control plane, which is not built yet",
        )
        .hint("sigilum up --demo, or sigilum gateway start --config FILE"));
    }
    let home = args.workspace.join("home");
    let key = provider_key(&args.workspace)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let secret = SecretString::new(fs::read_to_string(&key)?)?;
    let echo = runtime.block_on(Echo::start(secret)).context("the echo provider cannot listen")?;
    let settings = settings(args, &home, key, echo.address())?;
    let exit =
        Stack::assemble(settings, None)?.run(io, false, |io, addresses| instructions(io, addresses, &home));
    drop(echo);
    exit
}

/// The provider's key, which only the gateway and the provider read: made at the first start.
fn provider_key(workspace: &Path) -> Result<PathBuf, Failure> {
    let path = workspace.join("provider-key");
    if path.exists() {
        return Ok(path);
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(workspace)
        .with_context(|| format!("the workspace {} cannot be made", workspace.display()))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    write!(file, "sk-demo-{:032x}", u128::from_be_bytes(random()?))?;
    Ok(path)
}

fn settings(args: &Args, home: &Path, key: PathBuf, provider: SocketAddr) -> Result<Settings, Failure> {
    let mut settings = Settings::defaults(Mode::OssLocal, &|_| None)?;
    let namespace: Namespace = NAMESPACE.parse()?;
    let connection: ConnectionId = CONNECTION.parse()?;
    let identities = Home::at(home);
    let agent = match identities.namespaces()?.contains(&namespace) {
        true => identities.load(&namespace)?,
        false => identities.create(&namespace, &Clock::system(), false)?,
    };
    settings.data_dir = args.workspace.join("data");
    settings.identity.home = Some(home.to_owned());
    settings.admin.address = args.admin_listen;
    settings.gateway.limits.connections = DEMO_CONNECTIONS;
    for listener in &mut settings.gateway.listeners {
        listener.address = args.listen;
    }
    settings.static_claims = vec![Claim {
        id: "demo".parse::<ClaimId>()?,
        namespace,
        public_key: *agent.public_key(),
        service: connection.clone(),
        expires_at: None,
        scopes: Scopes::default(),
    }];
    settings.connections = vec![Connection {
        endpoints: vec![Endpoint { url: format!("http://{provider}").parse()?, weight: 1 }],
        auth: Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() },
        secret: Some(SecretSource::File(key)),
        ..Connection::named(connection)
    }];
    Ok(settings)
}

fn instructions(io: &mut Io<'_>, addresses: &Addresses, home: &Path) -> Result<(), Failure> {
    let origin = addresses.gateway.first().map_or("", String::as_str);
    let program = program();
    let home = home.display().to_string();
    let home = quote(&home);
    writeln!(
        io.out,
        "[ok] Demo ready: agent `{NAMESPACE}` may use `{CONNECTION}`, an echo provider that wants a key.\n\n\
         Paste this into another terminal:\n  \
         {program} --home {home} curl {origin}/proxy/{CONNECTION}/v1/models\n\n\
         For an OpenAI client library, run the local signing agent and point the library at it:\n  \
         {program} --home {home} agent --gateway {origin}\n  \
         export OPENAI_BASE_URL=http://127.0.0.1:38200/proxy/{CONNECTION}/v1 OPENAI_API_KEY=unused\n\n\
         Ctrl-C stops the demo."
    )?;
    Ok(())
}

/// How this program is called again from here.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("sigilum"));
    let here = std::env::current_dir().unwrap_or_default();
    quote(&path.strip_prefix(&here).unwrap_or(&path).display().to_string()).into_owned()
}
