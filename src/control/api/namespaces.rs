//! `/v1/namespaces/{ns}`: what is known of a namespace, and its claims for its owner.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::asked::{Asked, Named};
use super::owner::Owner;
use super::refusal::Refusal;
use super::signed::Signed;
use super::{Route, claims};
use crate::control::ControlPlane;
use crate::control::domain::claim::{ClaimFault, ClaimFilter, ClaimStatus};
use crate::names::Namespace;
use crate::protocol::did::Did;

/// Claims of a page where it was not said.
const USUAL: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/namespaces/{ns}", get(one)),
        Route::new("/v1/namespaces/{ns}/claims", get(claims_of))
            .asking(&["status", "service", "limit", "offset"]),
    ]
}

async fn one(
    State(plane): State<Arc<ControlPlane>>,
    Named(namespace): Named<Namespace>,
    _: Signed,
) -> Result<Json<Value>, Refusal> {
    let found = plane.store.namespace(&namespace).await?;
    let found = found.ok_or_else(|| ClaimFault::NoNamespace(namespace.clone()))?;
    Ok(Json(json!({
        "namespace": found.namespace.as_str(),
        "did": Did::of(&found.namespace).to_string(),
        "created_at": found.created_at.to_string(),
    })))
}

async fn claims_of(
    State(plane): State<Arc<ControlPlane>>,
    asked: Asked,
    Named(namespace): Named<Namespace>,
    owner: Owner,
) -> Result<Json<Value>, Refusal> {
    owner.acts_for(&namespace)?;
    let status = asked.one::<String>("status")?.map(|word| {
        ClaimStatus::from_word(&word)
            .ok_or_else(|| Refusal::field("status", &"takes pending, approved, rejected, revoked or expired"))
    });
    let page = asked.page(USUAL)?;
    let filter = ClaimFilter {
        status: status.transpose()?,
        service: asked.one("service")?,
        limit: page.limit,
        offset: page.offset,
    };
    let (found, total) = plane.store.claims_of(&namespace, &filter).await?;
    Ok(Json(json!({
        "claims": found.iter().map(claims::view).collect::<Vec<_>>(),
        "pagination": page.told(found.len(), total),
    })))
}
