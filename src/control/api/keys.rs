//! `/v1/services/{id}/keys`: service API keys. A key is told once, when it is made; its SHA-256 alone is kept.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::asked::{Named, NamedTwo};
use super::body::{Perhaps, text};
use super::owner::Owner;
use super::refusal::Refusal;
use super::signed::hex;
use super::{Route, audit};
use crate::control::ControlPlane;
use crate::control::domain::service::ApiKeyRecord;
use crate::control::store::StoreFault;
use crate::names::{ApiKeyId, ServiceId};

/// What every key begins with, and 48 hexadecimal digits follow.
const PREFIX: &str = "sk_live_";
/// Digits that are kept with the prefix, to recognize a key by.
const SHOWN: usize = 4;

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
    let prefix: String = key.chars().take(PREFIX.len() + SHOWN).collect();
    let sha256 = hex(&Sha256::digest(key.as_bytes()));
    let most = plane.config.limits.keys_per_service;
    let now = plane.clock.now();
    let made = plane
        .store
        .add_key(&owner.namespace, &service, &name, &prefix, &sha256, new.all_services, most, now)
        .await??;
    let scope = if made.all_services { "all services of the owner" } else { "this service" };
    audit::changed(&owner, "key.add", &made.id, &format!("of {service}, for {scope}"));
    let mut shown = view(&made);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("key".to_owned(), key.into());
    }
    Ok((StatusCode::CREATED, Json(shown)))
}

async fn revoke(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    NamedTwo(service, key): NamedTwo<ServiceId, ApiKeyId>,
) -> Result<StatusCode, Refusal> {
    plane.store.revoke_key(&owner.namespace, &service, &key, plane.clock.now()).await??;
    audit::changed(&owner, "key.revoke", &key, &format!("of {service}"));
    Ok(StatusCode::NO_CONTENT)
}

fn make() -> Result<String, Refusal> {
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(|_| StoreFault::Random)?;
    Ok(format!("{PREFIX}{}", hex(&random)))
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
