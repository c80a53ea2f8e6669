//! `/api/admin/gateway` and `/api/admin/reload`: the gateway as a whole.

use axum::Extension;
use axum::extract::State;
use serde::Serialize;

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::Perhaps;
use super::refusal::{Kind, Refusal};
use super::{ReloadFault, Reloaded};
use crate::vault::Health;

/// The gateway's public part.
#[derive(Debug, Serialize)]
pub(super) struct View {
    id: String,
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    /// What secrets are sealed to; null without a vault.
    sealing_key: Option<SealingKey>,
    connections: usize,
    claims: Claims,
    replay: Replay,
    vault: Option<Vault>,
}

#[derive(Debug, Serialize)]
struct SealingKey {
    id: String,
    public_key: String,
}

#[derive(Debug, Serialize)]
struct Claims {
    ready: bool,
    entries: usize,
    /// Since the claims were last known to be whole; null without a feed, or where one service's never were received.
    age_seconds: Option<u64>,
    /// `stream`, `poll`, or `none`.
    source: &'static str,
    /// Whether the control plane is heard for all services.
    connected: bool,
    /// When it was last heard.
    last_event_at: Option<String>,
    /// Services that are asked for nothing, since no service API key is set for them.
    without_key: Vec<String>,
    /// What stands in the way now.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Replay {
    entries: usize,
    /// Requests signed before are refused, since an earlier process may have seen them.
    not_before: String,
}

#[derive(Debug, Serialize)]
struct Vault {
    directory: String,
    takes_writes: bool,
    /// Why not.
    problem: Option<String>,
    records: usize,
    bytes: u64,
    writes: u64,
}

pub(super) async fn get(State(handles): State<Handles>) -> Result<Json<View>, Refusal> {
    let (sealing, connections) =
        handles.ask(|book| (book.sealing_public(), book.connections().len())).await?;
    let now = handles.clock.now();
    let claims = handles.claims.state(now);
    Ok(Json(View {
        id: handles.gateway_id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: handles.started.to_string(),
        uptime_seconds: now.since(handles.started).as_secs(),
        sealing_key: sealing.map(|key| SealingKey { id: key.id(), public_key: key.to_string() }),
        connections,
        claims: Claims {
            ready: claims.ready,
            entries: claims.entries,
            age_seconds: claims.age.map(|age| age.as_secs()),
            source: claims.source.as_str(),
            connected: claims.connected,
            last_event_at: claims.last_event_at.map(|at| at.to_string()),
            without_key: claims.without_key.iter().map(ToString::to_string).collect(),
            problem: claims.problem,
        },
        replay: Replay { entries: handles.replay.len(), not_before: handles.replay.not_before().to_string() },
        vault: handles.vault.as_ref().map(|vault| vault_view(&handles, vault)),
    }))
}

fn vault_view(handles: &Handles, vault: &crate::vault::Vault) -> Vault {
    let state = vault.state();
    let problem = match state.health {
        Health::Healthy => None,
        Health::NoSpace => Some("no space was left for the last write".to_owned()),
        Health::Poisoned { cause } => Some(format!("a write failed: {cause}; mend it and restart")),
    };
    let directory = handles.vault_directory.as_ref().map(|path| path.display().to_string());
    Vault {
        directory: directory.unwrap_or_default(),
        takes_writes: problem.is_none(),
        problem,
        records: state.records,
        bytes: state.bytes,
        writes: state.writes,
    }
}

/// A request that says nothing.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn reload(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
    Perhaps(Nothing {}): Perhaps<Nothing>,
) -> Result<Json<Reloaded>, Refusal> {
    let whole = tokio::spawn(async move {
        let read = (handles.reload)().await;
        handles.metrics.config_reload(read.is_ok());
        if let Ok(reloaded) = &read {
            let mut line = Line::of("configuration");
            line.after(reloaded);
            line.write(&caller, "config.reload", true);
        }
        read
    });
    whole.await.map_err(|_| Refusal::Internal)?.map(Json).map_err(|fault| match fault {
        ReloadFault::NoFile => Refusal::Told(Kind::NoConfigFile, fault.to_string()),
        ReloadFault::Invalid(faults) => Refusal::ConfigInvalid(faults),
        ReloadFault::NotInService(_) => Refusal::Told(Kind::NotInService, fault.to_string()),
    })
}
