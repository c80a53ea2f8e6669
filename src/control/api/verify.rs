//! `GET /v1/verify`: whether an agent's key may use a service now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::Route;
use super::asked::Asked;
use super::refusal::Refusal;
use super::signed::{Verifier, opens};
use crate::control::ControlPlane;
use crate::names::{Namespace, ServiceSlug};
use crate::protocol::PublicKey;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/v1/verify", get(verify)).asking(&["namespace", "public_key", "service"])]
}

async fn verify(
    State(plane): State<Arc<ControlPlane>>,
    asked: Asked,
    verifier: Verifier,
) -> Result<Json<Value>, Refusal> {
    let namespace: Namespace = asked.needed("namespace")?;
    let key: PublicKey = asked.needed("public_key")?;
    let service: ServiceSlug = asked.needed("service")?;
    let owner = match verifier {
        Verifier::Service(caller) => {
            opens(&caller, &service)?;
            Some(caller.service.owner)
        }
        // A service that asks without its key means itself, and not another's of the same slug.
        Verifier::Signer(signer) => {
            plane.store.service_of_slug(&signer, &service).await?.map(|own| own.owner)
        }
    };
    let now = plane.clock.now();
    let found = plane.store.verify_claim(&namespace, &key, &service, owner.as_ref(), now).await?;
    Ok(Json(match found {
        Some(claim) => json!({
            "authorized": true,
            "claim_id": claim.id.as_str(),
            "approved_at": claim.approved_at.map(|at| at.to_string()),
        }),
        None => json!({ "authorized": false, "reason": "AUTH_CLAIM_REQUIRED" }),
    }))
}
