//! `GET /v1/verify`: whether an agent's key may use a service now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::get;
use serde_json::{Value, json};

use super::Route;
use super::asked::Asked;
use super::refusal::Refusal;
use super::signed::{PerhapsService, opens};
use crate::control::ControlPlane;
use crate::names::{Namespace, ServiceSlug};
use crate::protocol::PublicKey;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/v1/verify", get(verify))]
}

async fn verify(
    State(plane): State<Arc<ControlPlane>>,
    uri: Uri,
    PerhapsService(caller): PerhapsService,
) -> Result<Json<Value>, Refusal> {
    let asked = Asked::read(&uri, &["namespace", "public_key", "service"])?;
    let namespace: Namespace = asked.needed("namespace")?;
    let key: PublicKey = asked.needed("public_key")?;
    let service: ServiceSlug = asked.needed("service")?;
    if let Some(caller) = &caller {
        opens(caller, &service)?;
    }
    let now = plane.clock.now();
    let found = plane.store.verify_claim(&namespace, &key, &service, caller.as_ref(), now).await?;
    Ok(Json(match found {
        Some(claim) => json!({
            "authorized": true,
            "claim_id": claim.id.as_str(),
            "approved_at": claim.approved_at.map(|at| at.to_string()),
        }),
        None => json!({ "authorized": false, "reason": "AUTH_CLAIM_REQUIRED" }),
    }))
}
