//! `sigilum claim`: what agents ask for, decided by the namespace's owner.

use std::io::Write as _;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::control_client::{ControlArgs, Refused, seconds, text};
use super::owner_token::{Absent, OwnerCalls};
use super::place::Place;
use super::report::write_json;
use super::{Exit, Failure, Global, Io, Report};
use crate::clock::{Clock, UnixTime};
use crate::config::duration;
use crate::control::domain::claim::ClaimStatus;
use crate::names::{ClaimId, ServiceSlug};
use crate::policy::Scope;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the namespace's claims, the newest first
    List(List),
    /// Allow what a claim asks for
    Approve(Approve),
    /// Refuse a pending claim
    Reject(One),
    /// Take an approved claim back; gateways cut what runs on it
    Revoke(One),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only pending, approved, rejected, revoked or expired ones
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<ClaimStatus>,
    /// Only those on this service
    #[arg(long, value_name = "SLUG")]
    service: Option<ServiceSlug>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Leave out so many of the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: u64,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Approve {
    #[command(flatten)]
    one: One,
    /// Until when, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "RFC3339", conflicts_with = "ttl")]
    expires_at: Option<UnixTime>,
    /// For how long, such as 8h or 30d
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<Duration>,
    /// What it allows, such as "GET /v1/models" [default: what was asked for]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The claim's id
    id: ClaimId,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn status(word: &str) -> Result<ClaimStatus, String> {
    ClaimStatus::from_word(word)
        .ok_or_else(|| "it is pending, approved, rejected, revoked or expired".to_owned())
}

fn ttl(text: &str) -> Result<Duration, String> {
    let some = duration(text).filter(|duration| !duration.is_zero());
    some.ok_or_else(|| "it is a duration such as 30m, 8h or 30d".to_owned())
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    match command {
        Command::List(list) => self::list(list, global, io),
        Command::Approve(approve) => {
            let body = approve.body()?;
            decide(&approve.one, "approve", &body, global, io)
        }
        Command::Reject(one) => decide(one, "reject", &json!({}), global, io),
        Command::Revoke(one) => decide(one, "revoke", &json!({}), global, io),
    }
}

impl Approve {
    /// What is not said stays as it was asked for.
    fn body(&self) -> Result<Value, Failure> {
        let mut body = Map::new();
        let now = Clock::system().now();
        let end = self.expires_at.or_else(|| self.ttl.map(|ttl| now.plus(ttl)));
        if let Some(end) = end {
            if end <= now {
                return Err(Failure::usage(format!("the claim would end at {end}, which is in the past")));
            }
            body.insert("expires_at".to_owned(), json!(end.to_string()));
        }
        for scope in &self.scope {
            scope.parse::<Scope>().map_err(Failure::usage)?;
        }
        if !self.scope.is_empty() {
            body.insert("scopes".to_owned(), json!(self.scope));
        }
        Ok(body.into())
    }
}

fn decide(one: &One, action: &str, body: &Value, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let owner = OwnerCalls::new(&Place::here(None)?, &one.control, Absent::Fault, global, io)?;
    let decided = owner.control.post(&["v1", "claims", one.id.as_str(), action], body);
    let claim = decided.map_err(|failure| {
        if failure.is(|refused: &Refused| refused.status == StatusCode::NOT_FOUND) {
            failure.hint(format!(
                "`sigilum claim list --namespace {}` shows those that there are",
                owner.namespace
            ))
        } else {
            failure
        }
    })?;
    if one.json {
        write_json(&mut io.out, &claim)?;
        return Ok(Exit::Done);
    }
    let title = match text(&claim, "status") {
        "pending" => "Claim waits for a second approver.".to_owned(),
        status => format!("Claim {status}."),
    };
    let shown =
        ["claim_id", "namespace", "service", "public_key", "subject", "agent_id", "agent_name", "status"];
    let report = shown.iter().fold(Report::new(title), |report, name| match text(&claim, name) {
        "" => report,
        value => report.field(name, value),
    });
    let report = if action == "approve" {
        report.field("scopes", scopes(&claim)).field("expires_at", end(&claim))
    } else {
        report
    };
    report.write(&mut io.out, false)?;
    Ok(Exit::Done)
}

fn list(list: &List, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let owner = OwnerCalls::new(&Place::here(None)?, &list.control, Absent::Fault, global, io)?;
    let (limit, offset) = (list.limit.to_string(), list.offset.to_string());
    let mut query = vec![("limit", limit.as_str()), ("offset", offset.as_str())];
    query.extend(list.status.map(|status| ("status", status.word())));
    query.extend(list.service.as_ref().map(|service| ("service", service.as_str())));
    let page = owner.control.get(&["v1", "namespaces", owner.namespace.as_str(), "claims"], &query)?;
    if list.json {
        write_json(&mut io.out, &page)?;
        return Ok(Exit::Done);
    }
    let claims = page.get("claims").and_then(Value::as_array).cloned().unwrap_or_default();
    let total = page.pointer("/pagination/total").and_then(Value::as_u64).unwrap_or(claims.len() as u64);
    writeln!(io.out, "[ok] Claims of namespace {}: {total}", owner.namespace)?;
    let mut rows = vec![["CLAIM", "STATUS", "SERVICE", "AGENT", "KEY", "SINCE", "UNTIL"].map(str::to_owned)];
    rows.extend(claims.iter().map(row));
    if !claims.is_empty() {
        table(&mut io.out, &rows)?;
    }
    if (claims.len() as u64) < total {
        writeln!(io.out, "[i] These are {} of {total}; --limit and --offset show others", claims.len())?;
    }
    Ok(Exit::Done)
}

/// One line of the list.
fn row(claim: &Value) -> [String; 7] {
    let agent = ["agent_name", "agent_id", "subject"]
        .iter()
        .map(|name| text(claim, name))
        .find(|name| !name.is_empty());
    let since = ["decided_at", "approved_at", "created_at"]
        .iter()
        .map(|name| text(claim, name))
        .find(|at| !at.is_empty());
    [
        text(claim, "claim_id").to_owned(),
        text(claim, "status").to_owned(),
        text(claim, "service").to_owned(),
        printable(agent.unwrap_or("-")),
        short(text(claim, "public_key")),
        seconds(since.unwrap_or("-")),
        end(claim),
    ]
}

/// Agents choose their names themselves; none shall steer the terminal.
fn printable(name: &str) -> String {
    const LONGEST: usize = 24;
    let plain: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if plain.chars().count() <= LONGEST {
        return plain;
    }
    plain.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// The beginning of a key, by which it is recognized.
fn short(key: &str) -> String {
    const SHOWN: usize = 16;
    if key.chars().count() <= SHOWN {
        key.to_owned()
    } else {
        key.chars().take(SHOWN).chain(['…']).collect()
    }
}

fn end(claim: &Value) -> String {
    match text(claim, "expires_at") {
        "" => "no end".to_owned(),
        at => seconds(at),
    }
}

fn scopes(claim: &Value) -> String {
    let scopes = claim.get("scopes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let words: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
    if words.is_empty() { "everything".to_owned() } else { words.join(", ") }
}

/// Columns as wide as what is in them.
fn table<const N: usize>(out: &mut dyn std::io::Write, rows: &[[String; N]]) -> std::io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["A", "LONG"], ["abc", "x"]].map(|row| row.map(str::to_owned));
        let mut out = Vec::new();
        table(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A    LONG\nabc  x\n");
    }

    #[test]
    fn name_of_an_agent_cannot_steer_the_terminal() {
        let claim = json!({ "agent_name": "\u{1b}[2Jbob", "expires_at": null, "created_at": "2026-02-20T18:04:26.123Z" });
        let row = row(&claim);
        assert_eq!(
            (row[3].as_str(), row[5].as_str(), row[6].as_str()),
            ("?[2Jbob", "2026-02-20T18:04:26Z", "no end")
        );
    }

    #[test]
    fn ttl_is_a_duration_and_some() {
        assert_eq!(ttl("8h"), Ok(Duration::from_secs(28_800)));
        assert!(ttl("0h").is_err() && ttl("8").is_err());
    }
}
