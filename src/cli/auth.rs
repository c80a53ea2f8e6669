//! `sigilum auth`: the tokens of a namespace's owner.

mod show;

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::local_plane::LocalPlane;
use super::openclaw::{self, Entry, Notify, Outcome};
use super::place::{Place, openclaw_home, variable};
use super::{Exit, Failure, Global, Io, Report, owner_token};
use crate::clock::{Clock, UnixTime};
use crate::config::Mode;
use crate::names::Namespace;
use crate::secret::SecretString;

/// Seven days.
const DEFAULT_TTL: u64 = 604_800;
const TTL_VARIABLE: &str = "SIGILUM_OWNER_TOKEN_TTL_SECONDS";
/// A minute to a year.
const TTL_RANGE: RangeInclusive<u64> = 60..=31_622_400;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Get a token for a namespace's owner, and keep it
    Login(Box<Login>),
    /// Get a new one in its place
    Refresh(Box<Login>),
    /// Print the token that is kept
    Show(show::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Login {
    /// managed, enterprise or oss-local [default: SIGILUM_MODE, else oss-local beside a workspace, else managed]
    #[arg(long)]
    mode: Option<Mode>,
    /// The owner's e-mail address [default: <namespace>@local.sigilum]
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// The control plane [default: the local stack's, else the mode's]
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// The token, in managed mode; other users and the shell's history see it
    #[arg(long, value_name = "JWT", group = "token")]
    owner_token: Option<String>,
    /// Read the token from standard input
    #[arg(long, group = "token")]
    owner_token_stdin: bool,
    #[command(flatten)]
    ttl: Ttl,
    /// OpenClaw's directory [default: ~/.openclaw]
    #[arg(long, value_name = "DIR")]
    openclaw_home: Option<PathBuf>,
    /// OpenClaw's configuration [default: <openclaw-home>/openclaw.json]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the token is kept [default: <openclaw-home>/.sigilum/owner-token-<namespace>.jwt]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Write the hook's entry into OpenClaw's configuration; said so, the file is made where it is not there [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    write_openclaw: Option<bool>,
    /// Whether OpenClaw's hook notifies the owner
    #[arg(long, value_enum, value_name = "WHETHER", num_args = 0..=1, default_missing_value = "true", default_value = "preserve")]
    enable_authz_notify: Notify,
    /// Print the token
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    print_token: bool,
    /// Print the token and nothing else
    #[arg(long, conflicts_with = "json")]
    token_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How long a token holds that is made here.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Ttl {
    /// How long the token holds, where it is made here [default: SIGILUM_OWNER_TOKEN_TTL_SECONDS, else 604800]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(TTL_RANGE))]
    ttl_seconds: Option<u64>,
}

impl Ttl {
    /// The flag's, else the variable's, else seven days.
    pub(super) fn get(&self) -> Result<Duration, Failure> {
        let of_variable = |text: String| {
            let seconds = text.trim().parse().ok().filter(|seconds| TTL_RANGE.contains(seconds));
            seconds.ok_or_else(|| {
                Failure::usage(format!(
                    "{TTL_VARIABLE} takes seconds, from 60 to 31622400; it holds {text:?}"
                ))
            })
        };
        let seconds = match self.ttl_seconds {
            Some(typed) => typed,
            None => variable(TTL_VARIABLE).map(of_variable).transpose()?.unwrap_or(DEFAULT_TTL),
        };
        Ok(Duration::from_secs(seconds))
    }
}

/// A token, and what was made besides.
struct Ready {
    namespace: Namespace,
    token: SecretString,
    expires_at: UnixTime,
    /// The identity's file, where it was made.
    identity: Option<PathBuf>,
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Login(args) | Command::Refresh(args) => login(args, global, io),
        Command::Show(args) => show::run(args, global, io),
    }
}

/// `sigilum auth login`, `auth refresh` and `login`: which are one, since a token is never prolonged but replaced.
pub(super) fn login(args: &Login, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let place = Place::here(args.mode)?;
    let api_url = place.api_url(args.api_url.as_deref())?;
    let api_url = api_url.as_str().trim_end_matches('/');
    let openclaw = openclaw_home(args.openclaw_home.as_deref())?;
    let ready =
        if place.is_local() { local(args, &place, global) } else { brought(args, &place, global, io) }?;
    let token_file =
        args.token_file.clone().unwrap_or_else(|| owner_token::file(&openclaw, &ready.namespace));
    owner_token::write(&token_file, &ready.token)?;
    let config = args.config.clone().unwrap_or_else(|| openclaw.join("openclaw.json"));
    let entry =
        Entry { namespace: &ready.namespace, api_url, token: &ready.token, notify: args.enable_authz_notify };
    let asked_for = args.write_openclaw == Some(true) || args.enable_authz_notify != Notify::Preserve;
    let outcome = match args.write_openclaw {
        Some(false) => None,
        said => match openclaw::update(&config, &entry, said == Some(true)) {
            Ok(outcome) => Some(outcome),
            Err(failure) if asked_for => return Err(failure),
            // The token is what was asked for, and it is kept.
            Err(failure) => {
                writeln!(io.err, "warning: {}", failure.sentence())?;
                None
            }
        },
    };
    if args.token_only {
        writeln!(io.out, "{}", ready.token.expose())?;
        return Ok(Exit::Done);
    }
    let mut report = Report::new("Namespace-owner token ready.")
        .field("mode", place.mode().to_string())
        .field("namespace", ready.namespace.as_str())
        .field("api", api_url)
        .field("token_file", token_file.display().to_string());
    if outcome.is_some() {
        report = report
            .field("openclaw_config", config.display().to_string())
            .field("authz_notify_enabled", args.enable_authz_notify.word());
    }
    if args.json {
        report = report
            .field("openclaw_written", outcome == Some(Outcome::Written))
            .field("identity_made", ready.identity.as_ref().map(|file| file.display().to_string()))
            .field("expires_at", ready.expires_at.to_string());
        if args.print_token {
            report = report.field("token", ready.token.expose());
        }
        report.write(&mut io.out, true)?;
        return Ok(Exit::Done);
    }
    report.write(&mut io.out, false)?;
    tell(args, &ready, outcome, &config, io)?;
    Ok(Exit::Done)
}

/// What a person is told besides.
fn tell(
    args: &Login,
    ready: &Ready,
    outcome: Option<Outcome>,
    config: &Path,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    if let Some(file) = &ready.identity {
        writeln!(io.out, "[i] Identity made: {}", file.display())?;
    }
    if outcome == Some(Outcome::Absent) {
        let config = config.display();
        writeln!(io.out, "[i] {config} is not there and was not made; --write-openclaw true makes it")?;
    }
    if args.print_token {
        writeln!(io.out, "[i] JWT:\n{}", ready.token.expose())?;
    }
    Ok(())
}

/// Signed with the local control plane's own secret.
fn local(args: &Login, place: &Place, global: &Global) -> Result<Ready, Failure> {
    if args.owner_token.is_some() || args.owner_token_stdin {
        return Err(Failure::usage(
            "in oss-local mode the token is made here; one that you have belongs to managed mode",
        )
        .hint("leave --owner-token away, or say --mode managed"));
    }
    let namespace = place.namespace(global)?;
    let email = owner_token::email(args.email.as_deref(), &namespace);
    let ttl = args.ttl.get()?;
    let issued = LocalPlane::new(place)?.issue(&namespace, &email, ttl)?;
    Ok(Ready { namespace, token: issued.token, expires_at: issued.expires_at, identity: None })
}

/// Brought by the owner, from the control plane's dashboard or its operator.
fn brought(args: &Login, place: &Place, global: &Global, io: &mut Io<'_>) -> Result<Ready, Failure> {
    let token = explicit(args, place, global, io)?;
    let said = owner_token::said(&token)?;
    let namespace = place.said_namespace(global)?.unwrap_or_else(|| said.namespace.clone());
    owner_token::fits(&said, &namespace)?;
    let home = place.home(global)?;
    let mut identity = None;
    if !home.namespaces()?.contains(&namespace) {
        home.create(&namespace, &Clock::system(), false)?;
        identity = Some(home.path().join("identities").join(namespace.as_str()).join("identity.json"));
    }
    Ok(Ready { namespace, token, expires_at: said.expires_at, identity })
}

fn explicit(args: &Login, place: &Place, global: &Global, io: &mut Io<'_>) -> Result<SecretString, Failure> {
    use super::connection::secrets::{from_input, warn_of_typed};
    if let Some(typed) = &args.owner_token {
        warn_of_typed(io)?;
        return Ok(SecretString::new(typed.clone())?);
    }
    if args.owner_token_stdin {
        return from_input("Paste the owner token, then press Enter", io);
    }
    if let Some(text) = variable(owner_token::VARIABLE) {
        return Ok(SecretString::new(text)?);
    }
    let login = owner_token::login_again(place, place.said_namespace(global)?.as_ref());
    let sentence = anyhow::anyhow!("{} mode requires an explicit owner JWT", place.mode());
    Err(Failure::new(Exit::NotAuthorized, sentence)
        .hint(format!("{login}, and paste the token of the dashboard")))
}
