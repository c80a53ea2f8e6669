//! How connections are printed.

use std::io::Write as _;

use serde_json::Value;

use super::super::report::write_json;
use super::super::{Failure, Io, Report};

/// What people want to see of a connection; the rest is in `--json`.
const SHOWN: [&str; 24] = [
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
    "credential_variables",
    "status",
    "source",
    "secret_version",
    "last_rotated_at",
    "last_rotated_by",
    "rotation_interval_days",
    "next_rotation_due_at",
    "last_tested_at",
    "last_test_status",
    "last_test_http_status",
    "last_test_error",
    "mcp_endpoint",
    "problem",
];

/// Prints a sentence and a connection; as JSON, the connection as the API shows it.
pub(super) fn connection(io: &mut Io<'_>, title: String, view: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(write_json(&mut io.out, view)?);
    }
    let report = SHOWN.iter().fold(Report::new(title), |report, name| match view.get(*name) {
        None | Some(Value::Null) => report,
        Some(Value::String(text)) if text.is_empty() => report,
        Some(Value::Array(list)) => report.field(name, words(list)),
        Some(Value::Object(map)) if map.is_empty() => report,
        Some(other) => report.field(name, other.clone()),
    });
    Ok(report.write(&mut io.out, false)?)
}

/// Prints one line for each connection.
pub(super) fn list(io: &mut Io<'_>, views: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(write_json(&mut io.out, views)?);
    }
    let all = views.get("connections").and_then(Value::as_array).cloned().unwrap_or_default();
    writeln!(io.out, "[ok] Connections: {}", all.len())?;
    let width = all.iter().map(|view| text(view, "id").len()).max().unwrap_or(0);
    for view in &all {
        let problem = match text(view, "problem") {
            "" => String::new(),
            problem => format!("  ! {problem}"),
        };
        writeln!(
            io.out,
            "{:width$}  {:8}  {:11}  {:6}  {}{problem}",
            text(view, "id"),
            text(view, "status"),
            text(view, "auth_mode"),
            text(view, "source"),
            text(view, "base_url"),
        )?;
    }
    Ok(())
}

fn text<'a>(view: &'a Value, name: &str) -> &'a str {
    view.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn words(list: &[Value]) -> String {
    list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}
