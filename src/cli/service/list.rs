//! `sigilum service list`: the services of a namespace.

use std::io::Write as _;

use serde_json::{Map, Value, json};

use super::super::control_client::{Control, ControlArgs, seconds, text};
use super::super::owner_token::{Absent, OwnerCalls};
use super::super::place::Place;
use super::super::report::write_json;
use super::{Exit, Failure, Global, Io};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &List, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let owner = OwnerCalls::new(&Place::here(None)?, &args.control, Absent::Fault, global, io)?;
    let services = all(&owner.control)?;
    if args.json {
        let services: Vec<Value> = services.iter().map(shown).collect();
        write_json(&mut io.out, &json!({ "namespace": owner.namespace.as_str(), "services": services }))?;
        return Ok(Exit::Done);
    }
    writeln!(io.out, "[ok] Services for namespace: {}", owner.namespace)?;
    for service in &services {
        writeln!(io.out, "{} ({})", text(service, "slug"), text(service, "id"))?;
        writeln!(io.out, "  mode: {}", text(service, "mode"))?;
        let upstream = text(service, "upstream_url");
        if !upstream.is_empty() {
            writeln!(io.out, "  upstream: {upstream}")?;
        }
        writeln!(io.out, "  created: {}", seconds(text(service, "created_at")))?;
    }
    Ok(Exit::Done)
}

/// All services of the owner, the oldest first: the control plane bounds how many there are.
pub(in crate::cli) fn all(control: &Control) -> Result<Vec<Value>, Failure> {
    let answer = control.get(&["v1", "services"], &[])?;
    Ok(answer.get("services").and_then(Value::as_array).cloned().unwrap_or_default())
}

/// The fields that scripts know.
fn shown(service: &Value) -> Value {
    const FIELDS: [&str; 6] = ["id", "slug", "name", "mode", "upstream_url", "created_at"];
    let fields = FIELDS.iter().filter_map(|name| {
        let value = service.get(*name).filter(|value| !value.is_null())?;
        let value = if *name == "created_at" { json!(seconds(text(service, name))) } else { value.clone() };
        Some(((*name).to_owned(), value))
    });
    fields.collect::<Map<_, _>>().into()
}
