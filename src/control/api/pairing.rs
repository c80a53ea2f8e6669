//! `/v1/gateway/pairing`: sessions, the gateways' sockets, and commands over them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::asked::{Asked, Named};
use super::body::{Perhaps, Sent, parsed};
use super::frame::who_asks;
use super::owner::Owner;
use super::refusal::{Kind, Refusal};
use super::signed::{Signed, target_uri};
use super::{Route, audit, random};
use crate::control::CommandOutcome;
use crate::control::domain::pairing::{MOST_TRIES, PairedGateway, PairingFault, PairingRecord};
use crate::control::{ControlPlane, RelayFault};
use crate::names::{Namespace, RequestId, SessionId};
use crate::protocol::pairing::{Command, MOST_MESSAGE_BYTES, PairCode, allow, code_digest};
use crate::protocol::sealed::SealingPublicKey;

/// How long a code counts, in seconds.
const LEAST_TTL: u64 = 30;
const MOST_TTL: u64 = 3_600;
const DEFAULT_TTL: u64 = 600;
/// How long a command may take, in milliseconds.
const LEAST_TIMEOUT: u64 = 1_000;
const MOST_TIMEOUT: u64 = 60_000;
const DEFAULT_TIMEOUT: u64 = 20_000;
/// For a whole command request: what the gateway may take, and some more.
const COMMAND: Duration = Duration::from_secs(70);
/// The longest id of a gateway.
const LONGEST_ID: usize = 256;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/gateway/pairing", get(all)),
        Route::new("/v1/gateway/pairing/start", post(start)),
        Route::new("/v1/gateway/pairing/connect", get(connect)).asking(&[
            "session_id",
            "namespace",
            "code",
            "gateway_id",
            "sealing_key",
        ]),
        Route::new("/v1/gateway/pairing/status", get(status)).asking(&["session_id"]),
        Route::new("/v1/gateway/pairing/command", post(command)).within(COMMAND),
        Route::new("/v1/gateway/pairing/{session_id}", delete(revoke)),
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    namespace: Option<String>,
    ttl_seconds: Option<u64>,
}

/// 201, with the code, which is shown this once.
async fn start(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    parts: Parts,
    Perhaps(sent): Perhaps<Start>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    if let Some(namespace) = &sent.namespace {
        owner.acts_for(&parsed("namespace", namespace)?)?;
    }
    let ttl = sent.ttl_seconds.unwrap_or(DEFAULT_TTL);
    if !(LEAST_TTL..=MOST_TTL).contains(&ttl) {
        let fault = format!("takes a whole number from {LEAST_TTL} to {MOST_TTL}");
        return Err(Refusal::field("ttl_seconds", &fault));
    }
    let (id, code) = (SessionId::from_random(random()?), PairCode::from_random(&random::<64>()?));
    let code = code.ok_or_else(Refusal::internal)?;
    let digest = code_digest(&id, code.expose());
    let (ttl, now) = (Duration::from_secs(ttl), plane.clock.now());
    let session = plane.store.start_pairing(&owner.namespace, &id, &digest, ttl, now).await?;
    let session = session.map_err(|fault| Refusal::new(Kind::LimitReached, fault.to_string()))?;
    audit::changed(&owner, "pairing.start", &id, "");
    let answer = json!({
        "session_id": id.as_str(),
        "namespace": session.namespace.as_str(),
        "pair_code": code.expose(),
        // Both in one, for `sigilum gateway pair --code`.
        "pairing_code": format!("{id}.{}", code.expose()),
        "expires_at": session.expires_at.to_string(),
        "ws_url": ws_url(&plane, &parts, &owner, &session, &code)?,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

fn ws_url(
    plane: &ControlPlane,
    parts: &Parts,
    owner: &Owner,
    session: &PairingRecord,
    code: &PairCode,
) -> Result<String, Refusal> {
    let asked = target_uri(plane, parts, &owner.asker)?;
    let mut url = Url::parse(&asked).map_err(|_| Refusal::internal())?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| Refusal::internal())?;
    url.set_path("/v1/gateway/pairing/connect");
    url.query_pairs_mut()
        .clear()
        .append_pair("session_id", session.id.as_str())
        .append_pair("namespace", session.namespace.as_str())
        .append_pair("code", code.expose());
    Ok(url.into())
}

/// The gateway's end. All is answered before the upgrade. Its id and its sealing key stand in the query, which the
/// signature covers.
async fn connect(
    State(plane): State<Arc<ControlPlane>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parts: Parts,
    asked: Asked,
    signed: Signed,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|_| {
        Refusal::new(Kind::UpgradeRequired, "this route is a WebSocket; connect by `sigilum gateway pair`")
    })?;
    let (id, namespace): (String, String) = (asked.needed("session_id")?, asked.needed("namespace")?);
    let (Ok(id), Ok(namespace)) = (id.parse::<SessionId>(), namespace.parse::<Namespace>()) else {
        return Err(PairingFault::NotFound.into());
    };
    let agent = signed.agent();
    let gateway = PairedGateway {
        gateway_id: gateway_id(asked.needed("gateway_id")?)?,
        namespace: agent.namespace.clone(),
        public_key: agent.public_key,
        sealing_key: asked.one::<SealingPublicKey>("sealing_key")?,
    };
    let code: Option<String> = asked.one("code")?;
    let now = plane.clock.now();
    let admitted = plane.store.admit_gateway(&namespace, &id, code.as_deref(), &gateway, now).await?;
    if let Err(fault) = admitted {
        let client = who_asks(&parts)?.client;
        tracing::warn!(session = %id, %client, %fault, "a gateway was not let in");
        return Err(fault.into());
    }
    let (relay, open) = (Arc::clone(&plane.relay), plane.metrics.pairing_socket());
    let upgrade = upgrade.max_message_size(MOST_MESSAGE_BYTES).max_frame_size(MOST_MESSAGE_BYTES);
    // Without an upgrade the closure is dropped, and the place in the metric with it.
    Ok(upgrade.on_upgrade(move |socket| async move {
        relay.serve(id, socket).await;
        drop(open);
    }))
}

fn gateway_id(id: String) -> Result<String, Refusal> {
    let visible = id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if visible && (1..=LONGEST_ID).contains(&id.len()) {
        Ok(id)
    } else {
        Err(Refusal::field("gateway_id", &"takes 1 to 256 visible ASCII characters without a slash"))
    }
}

async fn all(State(plane): State<Arc<ControlPlane>>, owner: Owner) -> Result<Json<Value>, Refusal> {
    let now = plane.clock.now();
    let sessions = plane.store.pairings(&owner.namespace, now).await?;
    let views: Vec<Value> = sessions.iter().map(|session| view(session, &plane)).collect();
    Ok(Json(json!({ "pairings": views })))
}

async fn status(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let id: SessionId = asked.needed("session_id")?;
    Ok(Json(view(&find(&plane, &owner, &id).await?, &plane)))
}

async fn revoke(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<SessionId>,
) -> Result<StatusCode, Refusal> {
    // A second revocation is as good as the first.
    let session = find(&plane, &owner, &id).await?;
    if session.revoked_at.is_none() {
        plane.store.revoke_pairing(&owner.namespace, &id, plane.clock.now()).await?;
        audit::changed(&owner, "pairing.revoke", &id, "");
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commanded {
    session_id: String,
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A JSON object, or its text.
    #[serde(default)]
    body: Option<Value>,
    timeout_ms: Option<u64>,
}

async fn command(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Sent(sent): Sent<Commanded>,
) -> Result<Json<Value>, Refusal> {
    let id: SessionId = parsed("session_id", &sent.session_id)?;
    let timeout = sent.timeout_ms.unwrap_or(DEFAULT_TIMEOUT);
    if !(LEAST_TIMEOUT..=MOST_TIMEOUT).contains(&timeout) {
        let fault = format!("takes a whole number from {LEAST_TIMEOUT} to {MOST_TIMEOUT}");
        return Err(Refusal::field("timeout_ms", &fault));
    }
    let allowed = allow(Command {
        request_id: RequestId::from_random(random()?).to_string(),
        method: sent.method,
        path: sent.path,
        headers: sent.headers,
        body: sent.body.map(|body| match body {
            Value::String(text) => text,
            other => other.to_string(),
        }),
    });
    let allowed = allowed.inspect_err(|_| plane.metrics.pairing_command(CommandOutcome::Refused))?;
    let session = find(&plane, &owner, &id).await?;
    if session.revoked_at.is_some() {
        return Err(PairingFault::Revoked.into());
    }
    if !session.connected {
        plane.metrics.pairing_command(CommandOutcome::NotConnected);
        return Err(RelayFault::NotConnected.into());
    }
    audit::changed(&owner, "pairing.command", &id, &format!("{} {}", allowed.method(), allowed.path()));
    let replied = plane.relay.command(&id, allowed, Duration::from_millis(timeout)).await;
    plane.metrics.pairing_command(outcome(replied.as_ref().err()));
    let reply = replied?;
    Ok(Json(json!({
        "request_id": reply.request_id,
        "status": reply.status,
        "headers": reply.headers,
        "body": reply.body,
        "error": reply.error,
    })))
}

fn outcome(fault: Option<&RelayFault>) -> CommandOutcome {
    match fault {
        None => CommandOutcome::Answered,
        Some(RelayFault::NotConnected) => CommandOutcome::NotConnected,
        Some(RelayFault::TimedOut(_)) => CommandOutcome::TimedOut,
        Some(RelayFault::Busy) => CommandOutcome::Busy,
        Some(RelayFault::Store(_)) => CommandOutcome::Failed,
    }
}

async fn find(plane: &ControlPlane, owner: &Owner, id: &SessionId) -> Result<PairingRecord, Refusal> {
    let session = plane.store.pairing(&owner.namespace, id, plane.clock.now()).await?;
    session.ok_or_else(|| PairingFault::NotFound.into())
}

fn view(session: &PairingRecord, plane: &ControlPlane) -> Value {
    let state = match &session.gateway {
        _ if session.revoked_at.is_some() => "revoked",
        Some(_) if session.connected => "connected",
        Some(_) => "disconnected",
        None if session.expires_at <= plane.clock.now() => "expired",
        None if session.tries >= MOST_TRIES => "locked",
        None => "waiting",
    };
    let gateway = session.gateway.as_ref().map(|gateway| {
        json!({
            "gateway_id": gateway.gateway_id,
            "namespace": gateway.namespace.as_str(),
            "public_key": gateway.public_key.to_string(),
            "sealing_key": gateway.sealing_key.map(|key| json!({ "id": key.id(), "public_key": key.to_string() })),
        })
    });
    json!({
        "session_id": session.id.as_str(),
        "namespace": session.namespace.as_str(),
        "state": state,
        "connected": session.connected,
        "expires_at": session.expires_at.to_string(),
        "created_at": session.created_at.to_string(),
        "last_connected_at": session.last_connected_at.map(|at| at.to_string()),
        "revoked_at": session.revoked_at.map(|at| at.to_string()),
        "gateway": gateway,
    })
}
