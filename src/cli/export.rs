//! `sigilum export`: identities and registrations, for moving between modes.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::bundle::{Bundle, ClaimEntry, IdentityEntry};
use super::connection::client::{Access, Client, HEADING};
use super::control_client::{Control, ControlArgs};
use super::owner_token::{Absent, OwnerCalls};
use super::passphrase::Passphrase;
use super::place::Place;
use super::{Exit, Failure, Global, Io, Report, private, service};
use crate::clock::Clock;
use crate::names::Namespace;
use crate::protocol::Identity;

/// Claims of one request.
const PAGE: usize = 1_000;
/// The most claims that are exported: more than an owner decides about.
const MOST_CLAIMS: usize = 100_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write; it must not be there [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Take private keys along; the file is sealed under a passphrase then
    #[arg(long, requires = "output")]
    include_keys: bool,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Only these, with commas between
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    only: Vec<Part>,
    #[command(flatten)]
    control: ControlArgs,
    /// Where the gateway's admin API is [default: the local stack's, else http://127.0.0.1:38100]
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    gateway_admin_url: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// The identities of the home
    Identities,
    /// The namespace's services at the control plane
    Services,
    /// The gateway's connections, without their secrets
    Connections,
    /// The namespace's approved and pending claims
    Claims,
}

/// Whether a part is meant: with none named, all are.
pub(super) fn wants(only: &[Part], part: Part) -> bool {
    only.is_empty() || only.contains(&part)
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    if args.passphrase.is_named() && !args.include_keys {
        return Err(Failure::usage(
            "without --include-keys the file is not sealed, and a passphrase is of no use",
        ));
    }
    if let Some(file) = args.output.as_ref().filter(|file| file.exists()) {
        let sentence = anyhow::anyhow!("{} is there already", file.display());
        return Err(Failure::from(sentence).hint("name another file, or remove it"));
    }
    let passphrase = if args.include_keys { Some(args.passphrase.read(io)?) } else { None };
    let place = Place::here(None)?;
    let mut bundle = Bundle::new(Clock::system().now().to_string());
    let identities =
        if wants(&args.only, Part::Identities) { identities(&place, global)? } else { Vec::new() };
    bundle.identities = identities.iter().map(IdentityEntry::of).collect();
    if wants(&args.only, Part::Services) || wants(&args.only, Part::Claims) {
        let owner = OwnerCalls::new(&place, &args.control, Absent::Fault, global, io)?;
        if wants(&args.only, Part::Services) {
            bundle.services = serde_json::from_value(service::all(&owner.control)?.into())?;
        }
        if wants(&args.only, Part::Claims) {
            bundle.claims = claims(&owner.control, &owner.namespace)?;
        }
    }
    if wants(&args.only, Part::Connections) {
        let url = place.admin_url(args.gateway_admin_url.as_deref());
        bundle.connections = connections(&Client::new(&url, &args.access, io)?)?;
    }
    let Some(file) = &args.output else {
        write!(io.out, "{}", bundle.to_json()?)?;
        return Ok(Exit::Done);
    };
    match &passphrase {
        Some(passphrase) => private::create(file, |out| bundle.seal(&identities, passphrase, out))?,
        None => private::write(file, bundle.to_json()?.as_bytes())?,
    }
    Report::new("Exported.")
        .field("file", file.display().to_string())
        .field("identities", bundle.identities.len())
        .field("private_keys", args.include_keys)
        .field("services", bundle.services.len())
        .field("connections", bundle.connections.len())
        .field("claims", bundle.claims.len())
        .write(&mut io.out, args.json)?;
    Ok(Exit::Done)
}

/// The one that `--namespace` names, else all that are there.
fn identities(place: &Place, global: &Global) -> Result<Vec<Identity>, Failure> {
    let home = place.home(global)?;
    let namespaces = match global.namespace()? {
        Some(namespace) => vec![namespace],
        None => home.namespaces()?,
    };
    Ok(namespaces.iter().map(|namespace| home.load(namespace)).collect::<Result<_, _>>()?)
}

fn claims(control: &Control, namespace: &Namespace) -> Result<Vec<ClaimEntry>, Failure> {
    let mut all = Vec::new();
    for status in ["approved", "pending"] {
        let mut offset = 0;
        loop {
            let (limit, from) = (PAGE.to_string(), offset.to_string());
            let query = [("status", status), ("limit", &limit), ("offset", &from)];
            let page = control.get(&["v1", "namespaces", namespace.as_str(), "claims"], &query)?;
            let claims: Vec<ClaimEntry> =
                serde_json::from_value(page.get("claims").cloned().unwrap_or_default())?;
            let got = claims.len();
            all.extend(claims);
            offset += got;
            if got < PAGE || all.len() >= MOST_CLAIMS {
                break;
            }
        }
    }
    Ok(all)
}

fn connections(client: &Client) -> Result<Vec<Value>, Failure> {
    const MAKE_ONE: [&str; 16] = [
        "id",
        "name",
        "protocol",
        "base_url",
        "path_prefix",
        "auth_mode",
        "auth_header_name",
        "auth_prefix",
        "auth_secret_key",
        "credential_keys",
        "status",
        "rotation_interval_days",
        "mcp_transport",
        "mcp_endpoint",
        "mcp_tool_policy",
        "mcp_subject_tool_policies",
    ];
    let all = client.get("/api/admin/connections")?;
    let views = all.get("connections").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept = |view: &Value| {
        let fields = MAKE_ONE.iter().filter_map(|name| {
            let value = view.get(*name).filter(|value| !value.is_null())?;
            Some(((*name).to_owned(), value.clone()))
        });
        Value::Object(fields.collect::<Map<_, _>>())
    };
    Ok(views.iter().map(kept).collect())
}
