//! `/v1/services/{id}/keys`: service API keys. A key is told once, when it is made; its SHA-256 alone is kept.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::asked::{Named, NamedTwo};
use super::body::{Perhaps, text};
use super::owner::Owner;
use super::refusal::Refusal;
use super::{Route, audit};
use crate::control::ControlPlane;
use crate::control::domain::api_key::ApiKey;
use crate::control::domain::service::ApiKeyRecord;
use crate::control::store::{NewKey, StoreFault};
use crate::names::{ApiKeyId, ServiceId};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/services/{id}/keys", get(all).post(add)),
        Route::new("/v1/services/{id}/keys/{keyId}", delete(revoke)),
    ]
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct New {
    name: Option<String>,
    all_services: bool,
}

async fn all(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(service): Named<ServiceId>,
) -> Result<Json<Value>, Refusal> {
    let keys = plane.store.keys(&owner.namespace, &service).await??;
    Ok(Json(json!({ "keys": keys.iter().map(view).collect::<Vec<_>>() })))
}

async fn add(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(service): Named<ServiceId>,
    Perhaps(new): Perhaps<New>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let name = text("name", new.name.unwrap_or_else(|| "default".to_owned()), 1, 128)?;
    let key = make()?;
    let new = NewKey {
        name,
        prefix: key.beginning().to_owned(),
        sha256: key.sha256(),
        all_services: new.all_services,
    };
    let most = plane.config.limits.keys_per_service;
    let made = plane.store.add_key(&owner.namespace, &service, new, most, plane.clock.now()).await??;
    let scope = if made.all_services { "all services of the owner" } else { "this service" };
    audit::changed(&owner, "key.add", &made.id, &format!("of {service}, for {scope}"));
    let mut shown = view(&made);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("key".to_owned(), key.expose().into());
    }
    Ok((StatusCode::CREATED, Json(shown)))
}

async fn revoke(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    NamedTwo(service, key): NamedTwo<ServiceId, ApiKeyId>,
) -> Result<StatusCode, Refusal> {
    plane.store.revoke_key(&owner.namespace, &service, &key).await??;
    audit::changed(&owner, "key.revoke", &key, &format!("of {service}"));
    Ok(StatusCode::NO_CONTENT)
}

fn make() -> Result<ApiKey, Refusal> {
    let mut random = Zeroizing::new([0_u8; 24]);
    getrandom::fill(random.as_mut_slice()).map_err(|_| StoreFault::Random)?;
    Ok(ApiKey::from_random(&random))
}

fn view(key: &ApiKeyRecord) -> Value {
    json!({
        "id": key.id.as_str(),
        "service_id": key.service_id.as_str(),
        "name": key.name,
        "prefix": key.prefix,
        "all_services": key.all_services,
        "created_at": key.created_at.to_string(),
        "last_used_at": key.last_used_at.map(|at| at.to_string()),
    })
}
