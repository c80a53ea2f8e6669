//! Usage: what gateways and services tell of their agents' calls, and what an owner sees of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::Route;
use super::asked::{Asked, Named};
use super::body::{parsed, text};
use super::owner::Owner;
use super::refusal::Refusal;
use super::signed::UsageTeller;
use crate::control::ControlPlane;
use crate::control::domain::usage::{UsageEvent, UsageRow, UsageSort};
use crate::names::Namespace;

/// Events in one request.
const MOST_EVENTS: usize = 1_000;
/// Rows of a page where it was not said.
const USUAL: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/usage/events", post(take)),
        Route::new("/v1/namespaces/{ns}/usage", get(show)).asking(&["sort", "limit", "offset"]),
    ]
}

/// Whether the body is a batch.
#[derive(Deserialize)]
struct Probe {
    events: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    events: Vec<Told>,
}

/// One event, as it is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    event_id: String,
    namespace: String,
    service: String,
    public_key: String,
    subject: String,
    agent_id: Option<String>,
    protocol: String,
    action: String,
    outcome: String,
    status_code: Option<u16>,
    duration_ms: Option<u64>,
    response_bytes: Option<u64>,
    request_method: Option<String>,
    request_path: Option<String>,
    remote_ip: Option<String>,
}

async fn take(
    State(plane): State<Arc<ControlPlane>>,
    UsageTeller(caller): UsageTeller,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let batch = caller.signed.json::<Probe>()?.events.is_some();
    let told = if batch { caller.signed.json::<Batch>()?.events } else { vec![caller.signed.json()?] };
    if told.len() > MOST_EVENTS {
        return Err(Refusal::field("events", &"takes 1,000 events at most"));
    }
    let mut events = Vec::with_capacity(told.len());
    for (index, told) in told.into_iter().enumerate() {
        let place = if batch { format!("events[{index}].") } else { String::new() };
        let event = told.read(&place)?;
        caller.opens(&event.service)?;
        events.push(event);
    }
    let owner = &caller.caller.service.owner;
    let taken = plane.store.add_usage(owner, &events, plane.clock.now()).await?;
    let answer = json!({
        "accepted": taken.accepted,
        "duplicates": taken.duplicates,
        "ignored": taken.ignored,
    });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

async fn show(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(namespace): Named<Namespace>,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    owner.acts_for(&namespace)?;
    let sort = asked.one::<UsageSort>("sort")?.unwrap_or_default();
    let page = asked.page(USUAL)?;
    let (rows, total) = plane.store.usage_of(&namespace, sort, page.limit, page.offset).await?;
    Ok(Json(json!({
        "usage": rows.iter().map(view).collect::<Vec<_>>(),
        "pagination": page.told(rows.len(), total),
    })))
}

impl Told {
    /// Holds the event to the contract. `place` is what stands before a field's name in a fault.
    fn read(self, place: &str) -> Result<UsageEvent, Refusal> {
        let at = |name: &str| format!("{place}{name}");
        let held = |name: &str, value: String, most| text(&at(name), value, 1, most);
        let held_of = |name: &str, value: Option<String>, most| {
            value.map(|value| text(&at(name), value, 1, most)).transpose()
        };
        if self.status_code.is_some_and(|code| !(100..=999).contains(&code)) {
            return Err(Refusal::field(&at("status_code"), &"must be a status of HTTP"));
        }
        Ok(UsageEvent {
            id: parsed(&at("event_id"), &self.event_id)?,
            namespace: parsed(&at("namespace"), &self.namespace)?,
            service: parsed(&at("service"), &self.service)?,
            public_key: parsed(&at("public_key"), &self.public_key)?,
            subject: held("subject", self.subject, 256)?,
            agent_id: held_of("agent_id", self.agent_id, 128)?,
            protocol: word(&at("protocol"), self.protocol, &["http", "mcp"])?,
            action: held("action", self.action, 128)?,
            outcome: word(&at("outcome"), self.outcome, &["success", "rejected", "error"])?,
            status_code: self.status_code,
            duration_ms: self.duration_ms,
            response_bytes: self.response_bytes,
            request_method: held_of("request_method", self.request_method, 32)?,
            request_path: held_of("request_path", self.request_path, 4096)?,
            remote_ip: self.remote_ip.map(|ip| parsed(&at("remote_ip"), &ip)).transpose()?,
        })
    }
}

fn word(name: &str, text: String, known: &[&str]) -> Result<String, Refusal> {
    if known.contains(&text.as_str()) {
        return Ok(text);
    }
    Err(Refusal::field(name, &format!("must be one of {}", known.join(", "))))
}

fn view(row: &UsageRow) -> Value {
    json!({
        "subject": row.subject,
        "agent_id": row.agent_id,
        "public_key": row.public_key.to_string(),
        "service": row.service.as_str(),
        "service_owner": row.service_owner.as_str(),
        "calls": row.calls,
        "errors": row.errors,
        "response_bytes": row.response_bytes,
        "duration_ms": row.duration_ms,
        "first_at": row.first_at.to_string(),
        "last_at": row.last_at.to_string(),
        "last": {
            "protocol": row.last.protocol,
            "action": row.last.action,
            "outcome": row.last.outcome,
            "status_code": row.last.status_code,
        },
    })
}
