//! `GET /v1/namespaces/claims`: the approved claims of one service, across namespaces, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::Route;
use super::asked::{Asked, Page};
use super::refusal::{Kind, Refusal};
use super::signed::ServiceCaller;
use crate::control::ControlPlane;
use crate::control::domain::claim::ClaimRecord;
use crate::control::store::PageFrom;
use crate::names::{ClaimId, ServiceSlug};

/// Claims of a page where it was not said.
const USUAL: usize = 500;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/v1/namespaces/claims", get(page)).asking(&["service", "limit", "offset", "after"])]
}

async fn page(
    State(plane): State<Arc<ControlPlane>>,
    asked: Asked,
    caller: ServiceCaller,
) -> Result<Json<Value>, Refusal> {
    let service: ServiceSlug = asked.needed("service")?;
    let Page { limit, offset } = asked.page(USUAL)?;
    let from = match asked.one::<ClaimId>("after")? {
        Some(_) if offset > 0 => {
            return Err(Refusal::new(
                Kind::FieldInvalid,
                "after: takes the place of offset; send one of them",
            ));
        }
        Some(after) => PageFrom::After(after),
        None => PageFrom::Offset(u64::try_from(offset).unwrap_or(u64::MAX)),
    };
    readable(&plane, &caller, std::slice::from_ref(&service)).await?;
    let owner = &caller.caller.service.owner;
    let page = plane.store.approved_claims(owner, &service, from, limit, plane.clock.now()).await?;
    let mut pagination =
        json!({ "limit": limit, "offset": offset, "total": page.total, "has_more": page.has_more });
    let next = page.claims.last().filter(|_| page.has_more).map(|claim| claim.id.to_string());
    if let (Some(fields), Some(next)) = (pagination.as_object_mut(), next) {
        fields.insert("next".to_owned(), next.into());
    }
    Ok(Json(json!({
        "claims": page.claims.iter().map(view).collect::<Vec<_>>(),
        "pagination": pagination,
        "cursor": page.cursor.to_string(),
    })))
}

/// Holds the caller to services that its key opens and that are there.
///
/// # Errors
/// When one is not; the ones that are not there stand in the details.
pub(super) async fn readable(
    plane: &ControlPlane,
    caller: &ServiceCaller,
    services: &[ServiceSlug],
) -> Result<(), Refusal> {
    for service in services {
        caller.opens(service)?;
    }
    if !caller.caller.all_services {
        return Ok(());
    }
    let there = plane.store.services(&caller.caller.service.owner).await?;
    let missing: Vec<&str> = services
        .iter()
        .filter(|wanted| !there.iter().any(|service| service.slug == **wanted))
        .map(ServiceSlug::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let sentence = format!("the owner of this service API key has no service {}", missing.join(", "));
    Err(Refusal::new(Kind::ServiceNotFound, sentence).with_details(json!({ "services": missing })))
}

/// An approved claim as services and gateways see it.
pub(super) fn view(claim: &ClaimRecord) -> Value {
    json!({
        "claim_id": claim.id.as_str(),
        "namespace": claim.namespace.as_str(),
        "public_key": claim.public_key.to_string(),
        "service": claim.service.as_str(),
        "subject": claim.subject,
        "agent_id": claim.agent_id,
        "agent_name": claim.agent_name,
        "approved_at": claim.approved_at.map(|at| at.to_string()),
        "expires_at": claim.expires_at.map(|at| at.to_string()),
        "scopes": claim.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
