//! `/api/admin/pairing`: the bridge to a dashboard, begun, looked at and ended.

use std::fmt;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::Sent;
use super::bridge::{PairFault, PairRequest, Pairing, PairingView};
use super::refusal::{Kind, Refusal};

impl From<PairFault> for Refusal {
    fn from(fault: PairFault) -> Self {
        let kind = match fault {
            PairFault::NoIdentity => Kind::NoIdentity,
            PairFault::Paired(_) => Kind::Paired,
            PairFault::ApiUrl => Kind::FieldInvalid,
            PairFault::NotKept(_) => Kind::PairingNotKept,
        };
        Self::Told(kind, fault.to_string())
    }
}

/// What is sent to begin one. The code is a secret for its session's time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPairing {
    session_id: String,
    pair_code: String,
    namespace: String,
    api_url: String,
}

impl NewPairing {
    fn parse(self) -> Result<PairRequest, Refusal> {
        Ok(PairRequest {
            session: self.session_id.parse().map_err(|fault| Refusal::name("session_id", &fault))?,
            code: self.pair_code.parse().map_err(|fault| Refusal::field("pair_code", fault))?,
            namespace: self.namespace.parse().map_err(|fault| Refusal::name("namespace", &fault))?,
            api_url: self.api_url.parse().map_err(|_| PairFault::ApiUrl)?,
        })
    }
}

impl fmt::Debug for NewPairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPairing").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

pub(super) async fn get(State(handles): State<Handles>) -> Result<Json<PairingView>, Refusal> {
    Ok(Json(bridge(&handles)?.view()))
}

/// 202: whether it comes to something, `GET` tells.
pub(super) async fn pair(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
    Sent(new): Sent<NewPairing>,
) -> Result<Response, Refusal> {
    let request = new.parse()?;
    let mut line = Line::of(&request.session);
    line.after(&json!({ "namespace": request.namespace.as_str(), "api_url": request.api_url.as_str() }));
    let view = bridge(&handles)?.pair(request).await?;
    line.write(&caller, "pairing.begin", true);
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

pub(super) async fn stop(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, Refusal> {
    let ended = bridge(&handles)?.stop().await?;
    if let Some(session) = &ended.session_id {
        let mut line = Line::of(session);
        line.before(&json!({ "namespace": ended.namespace, "api_url": ended.api_url }));
        line.write(&caller, "pairing.end", true);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn bridge(handles: &Handles) -> Result<&dyn Pairing, Refusal> {
    handles
        .pairing
        .as_deref()
        .ok_or_else(|| Refusal::Told(Kind::NoPairing, "this gateway has no bridge to a dashboard".to_owned()))
}
