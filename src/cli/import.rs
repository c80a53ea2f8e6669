//! `sigilum import`: what `sigilum export` wrote, in another place.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::bundle::{Bundle, Opened, ServiceEntry};
use super::control_client::{ControlArgs, text};
use super::export::{Part, wants};
use super::owner_token::{Absent, OwnerCalls};
use super::passphrase::Passphrase;
use super::place::Place;
use super::quote::quote;
use super::report::write_json;
use super::{Exit, Failure, Global, Io, service};
use crate::identity::{Home, HomeFault};
use crate::names::ServiceSlug;
use crate::protocol::Identity;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to read
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Change nothing, and say what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Replace identities that stand; their keys are lost, and every claim on them
    #[arg(long)]
    force: bool,
    /// Only these, with commas between
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    only: Vec<Part>,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What becomes of one thing in the file.
struct Step {
    kind: &'static str,
    name: String,
    what: &'static str,
    /// What is left to be typed, or more to know.
    more: Option<String>,
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let opened = Opened::read(&args.file, || args.passphrase.read(io))?;
    let Opened { bundle, identities } = &opened;
    let place = Place::here(None)?;
    let mut steps = Vec::new();
    if wants(&args.only, Part::Identities) {
        let home = place.home(global)?;
        let plan = identities_plan(&home, bundle, identities, args.force)?;
        if !args.dry_run {
            for identity in identities {
                if plan
                    .iter()
                    .any(|step| step.name == identity.namespace().as_str() && step.what != "unchanged")
                {
                    home.adopt(identity, args.force)?;
                }
            }
        }
        steps.extend(plan);
    }
    if wants(&args.only, Part::Services) && !bundle.services.is_empty() {
        steps.extend(services(args, &place, bundle, global, io)?);
    }
    if wants(&args.only, Part::Connections) {
        steps.extend(bundle.connections.iter().map(connection));
    }
    if wants(&args.only, Part::Claims) {
        steps.extend(claims(bundle));
    }
    tell(&steps, args, io)?;
    Ok(Exit::Done)
}

/// What becomes of the identities; a fault before anything is changed, where one stands that is another.
fn identities_plan(
    home: &Home,
    bundle: &Bundle,
    identities: &[Identity],
    force: bool,
) -> Result<Vec<Step>, Failure> {
    let mut plan = Vec::new();
    for identity in identities {
        let namespace = identity.namespace();
        let what = match home.load(namespace) {
            Ok(standing) if standing.public_key() == identity.public_key() => "unchanged",
            Ok(_) if force => "replaced",
            Ok(_) => {
                let sentence = anyhow::anyhow!(
                    "another identity {namespace} is in {}; nothing was changed",
                    home.path().display()
                );
                return Err(Failure::from(sentence)
                    .hint("--force replaces it; its key is then gone, and every claim on it"));
            }
            Err(HomeFault::Missing { .. }) => "made",
            Err(_) if force => "replaced",
            Err(fault) => return Err(fault.into()),
        };
        plan.push(Step { kind: "identity", name: namespace.to_string(), what, more: None });
    }
    let keyless = bundle
        .identities
        .iter()
        .filter(|entry| !identities.iter().any(|identity| identity.namespace().as_str() == entry.namespace));
    plan.extend(keyless.map(|entry| Step {
        kind: "identity",
        name: plain(&entry.namespace),
        what: "skipped",
        more: Some("its private key is not in the file; export with --include-keys".to_owned()),
    }));
    Ok(plan)
}

/// Registers the services that the control plane does not have.
fn services(
    args: &Args,
    place: &Place,
    bundle: &Bundle,
    global: &Global,
    io: &mut Io<'_>,
) -> Result<Vec<Step>, Failure> {
    let owner = OwnerCalls::new(place, &args.control, Absent::Made(None), global, io)?;
    let there = service::all(&owner.control)?;
    let mut steps = Vec::new();
    for entry in &bundle.services {
        let slug: ServiceSlug = entry.slug.parse()?;
        let stands = there.iter().any(|service| text(service, "slug") == slug.as_str());
        if !stands && !args.dry_run {
            owner.control.post(&["v1", "services"], &serde_json::to_value::<&ServiceEntry>(entry)?)?;
        }
        let what = if stands { "unchanged" } else { "registered" };
        steps.push(Step { kind: "service", name: slug.to_string(), what, more: None });
    }
    Ok(steps)
}

/// Connections stay with the gateway and its vault; a new gateway needs them with their secrets.
fn connection(view: &Value) -> Step {
    let id = plain(text(view, "id"));
    let mut command = format!("sigilum connection add {}", quote(&id));
    let flags = [
        ("--name", "name"),
        ("--protocol", "protocol"),
        ("--base-url", "base_url"),
        ("--path-prefix", "path_prefix"),
        ("--auth-mode", "auth_mode"),
        ("--auth-header-name", "auth_header_name"),
        ("--auth-prefix", "auth_prefix"),
        ("--auth-secret-key", "auth_secret_key"),
        ("--mcp-endpoint", "mcp_endpoint"),
    ];
    for (flag, name) in flags {
        let value = plain(text(view, name));
        if !value.is_empty() {
            command.push_str(&format!(" {flag} {}", quote(&value)));
        }
    }
    let keys = view.get("credential_keys").and_then(Value::as_array);
    for key in keys.into_iter().flatten().filter_map(Value::as_str) {
        command.push_str(&format!(" --secret-env {}", quote(&format!("{}=NAME", plain(key)))));
    }
    Step {
        kind: "connection",
        name: id,
        what: "left",
        more: Some(format!("a new gateway needs it: {command}")),
    }
}

/// No claim moves: who owns the other namespace's control plane decides anew.
fn claims(bundle: &Bundle) -> impl Iterator<Item = Step> {
    bundle.claims.iter().map(|claim| Step {
        kind: "claim",
        name: plain(&claim.claim_id),
        what: "left",
        more: Some(format!(
            "to be asked for again, with the agent's next request: {} on {}, {} ({})",
            plain(&claim.namespace),
            plain(&claim.service),
            plain(&claim.public_key),
            plain(&claim.status)
        )),
    })
}

fn tell(steps: &[Step], args: &Args, io: &mut Io<'_>) -> Result<(), Failure> {
    if args.json {
        let steps: Vec<Value> = steps
            .iter()
            .map(|step| json!({ "kind": step.kind, "name": step.name, "action": step.what, "note": step.more }))
            .collect();
        return Ok(write_json(&mut io.out, &json!({ "dry_run": args.dry_run, "steps": steps }))?);
    }
    let title = if args.dry_run { "Nothing was changed; an import would do this:" } else { "Imported." };
    writeln!(io.out, "[ok] {title}")?;
    for step in steps {
        match &step.more {
            Some(more) => writeln!(io.out, "{} {}: {}; {more}", step.kind, step.name, step.what)?,
            None => writeln!(io.out, "{} {}: {}", step.kind, step.name, step.what)?,
        }
    }
    Ok(())
}

/// What stands in the file shall not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
