//! `sigilum status`: what runs in this directory.

use std::io::Write as _;

use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::control_client::ControlArgs;
use super::down::all;
use super::owner_token::{Absent, OwnerCalls};
use super::place::Place;
use super::reach::{self, Answer};
use super::report::write_json;
use super::up::Directory;
use super::workspace::Workspace;
use super::{Exit, Failure, Global, Io};

/// The fact that is an object.
const PAIRING: &str = "pairing";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    directory: Directory,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A part of the stack, as it answered.
struct Part {
    name: &'static str,
    label: &'static str,
    origin: String,
    /// Why it is not ready; `None`: it is.
    problem: Option<String>,
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    args.directory.enter()?;
    let (parts, facts) = reach::asking(|runtime| {
        let parts = parts(runtime)?;
        let facts = if parts.is_empty() { Map::new() } else { facts(runtime, &parts, global) };
        Ok::<_, Failure>((parts, facts))
    })??;
    if parts.is_empty() {
        return Err(Failure::new(Exit::NotReachable, anyhow::anyhow!("nothing runs here"))
            .hint("start the local stack with `sigilum up`; a gateway in another place is shown by `sigilum gateway status`"));
    }
    let well = parts.iter().all(|part| part.problem.is_none());
    if args.json {
        let mut told = Map::new();
        told.insert("healthy".to_owned(), Value::Bool(well));
        for part in &parts {
            let value =
                json!({ "url": part.origin, "ready": part.problem.is_none(), "problem": part.problem });
            told.insert(part.name.to_owned(), value);
        }
        told.extend(facts);
        write_json(&mut io.out, &told)?;
    } else {
        for part in &parts {
            match &part.problem {
                None => writeln!(io.out, "[ok] {}: {}", part.label, part.origin)?,
                Some(problem) => writeln!(io.out, "[fail] {}: {}: {problem}", part.label, part.origin)?,
            }
        }
        for (name, fact) in &facts {
            let shown = if name == PAIRING { pairing(fact) } else { Some(words(fact)) };
            if let Some(shown) = shown {
                writeln!(io.out, "{name}: {shown}")?;
            }
        }
    }
    Ok(if well { Exit::Done } else { Exit::NotReachable })
}

/// The parts that were started here, else those that the workspace names; none where there is neither.
fn parts(runtime: &Runtime) -> Result<Vec<Part>, Failure> {
    let (mut control, mut gateway, mut admin) = (None, None, None);
    for (_, traces) in all()? {
        if let Some(serving) = traces.serving()? {
            control = control.or(serving.control_plane);
            gateway = gateway.or(serving.gateway.into_iter().next());
            admin = admin.or(serving.admin);
        }
    }
    if control.is_none()
        && gateway.is_none()
        && let Some(workspace) = Workspace::read()?
    {
        (control, gateway, admin) =
            (Some(workspace.api_url), Some(workspace.gateway_url), Some(workspace.admin_url));
    }
    let named = [
        ("control_plane", "Control plane", control),
        ("gateway", "Gateway", gateway),
        ("admin", "Admin", admin),
    ];
    let asked = named.into_iter().filter_map(|(name, label, origin)| Some((name, label, origin?)));
    Ok(asked
        .map(|(name, label, origin)| {
            let problem = match runtime.block_on(reach::get(&origin, "/health/ready")) {
                Ok(answer) if answer.is_ok() => None,
                Ok(answer) => Some(answer.problem()),
                Err(cause) => Some(format!("cannot be reached: {cause}")),
            };
            Part { name, label, origin, problem }
        })
        .collect())
}

/// What the parts tell of themselves, as far as they do.
fn facts(runtime: &Runtime, parts: &[Part], global: &Global) -> Map<String, Value> {
    let mut facts = Map::new();
    for (_, traces) in all().unwrap_or_default() {
        if let Ok(Some(serving)) = traces.serving() {
            facts.insert("pid".to_owned(), serving.pid.into());
            facts.insert("version".to_owned(), serving.version.into());
            break;
        }
    }
    if let Ok(Some(workspace)) = Workspace::read() {
        facts.insert("namespace".to_owned(), workspace.namespace.into());
    }
    let origin = |name: &str| parts.iter().find(|part| part.name == name).map(|part| part.origin.as_str());
    if let Some(admin) = origin("admin") {
        let ask = |path: &str| runtime.block_on(reach::get(admin, path)).ok().filter(Answer::is_ok);
        if let Some(answer) = ask("/api/admin/connections") {
            facts.insert("connections".to_owned(), ids(&answer.json, "connections", "id"));
        }
        if let Some(answer) = ask("/api/admin/pairing") {
            facts.insert(PAIRING.to_owned(), answer.json);
        }
    }
    if origin("control_plane").is_some()
        && let Ok(services) = services(global)
    {
        facts.insert("services".to_owned(), ids(&services, "services", "slug"));
    }
    facts
}

/// The owner's services; a stack in another mode, or one without a token here, tells none.
fn services(global: &Global) -> Result<Value, Failure> {
    let mut silent = std::io::sink();
    let (mut out, mut input) = (std::io::sink(), std::io::empty());
    let mut io = Io::new(&mut out, &mut silent, &mut input);
    let calls =
        OwnerCalls::new(&Place::here(None)?, &ControlArgs::default(), Absent::Fault, global, &mut io)?;
    calls.control.get(&["v1", "services"], &[])
}

/// The names in a list of an answer.
fn ids(answer: &Value, list: &str, name: &str) -> Value {
    let all = answer.get(list).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|one| one.get(name).cloned()).collect()
}

fn words(fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// How the gateway stands to a dashboard; nothing where it is not paired.
fn pairing(view: &Value) -> Option<String> {
    let text = |name: &str| view.get(name).and_then(Value::as_str);
    let state = text("state").filter(|state| *state != "none")?;
    Some(match text("api_url") {
        Some(api) => format!("{state}, {}", api.trim_end_matches('/')),
        None => state.to_owned(),
    })
}
