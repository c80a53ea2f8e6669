//! `/v1/services`: an owner's services.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::asked::Named;
use super::body::{Change, Sent, parsed, text};
use super::owner::Owner;
use super::refusal::{Kind, Refusal};
use super::webhooks::{self, AskedWebhook};
use super::{Route, audit};
use crate::control::domain::service::{ServiceChange, ServiceFault, ServiceMode, ServiceRecord};
use crate::control::store::NewService;
use crate::control::{ClaimEvent, ControlPlane};
use crate::names::ServiceId;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/services", get(all).post(add)),
        Route::new("/v1/services/{id}", get(one).patch(change).delete(remove)),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    slug: String,
    name: Option<String>,
    domain: Option<String>,
    description: Option<String>,
    mode: Option<String>,
    upstream_url: Option<String>,
    webhook: Option<AskedWebhook>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Changes {
    name: Change<String>,
    domain: Change<String>,
    description: Change<String>,
    mode: Change<String>,
    upstream_url: Change<Option<String>>,
}

async fn all(State(plane): State<Arc<ControlPlane>>, owner: Owner) -> Result<Json<Value>, Refusal> {
    let services = plane.store.services(&owner.namespace).await?;
    Ok(Json(json!({ "services": services.iter().map(view).collect::<Vec<_>>() })))
}

async fn add(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Sent(new): Sent<New>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let slug = parsed("slug", &new.slug)?;
    let asked = new.webhook;
    let new = NewService {
        name: name(new.name.unwrap_or(new.slug))?,
        domain: domain(new.domain.unwrap_or_else(|| "localhost".to_owned()))?,
        description: description(new.description.unwrap_or_default())?,
        mode: mode(new.mode.as_deref().unwrap_or("native"))?,
        upstream_url: new.upstream_url.map(upstream_url).transpose()?,
        slug,
    };
    let (limits, store) = (&plane.config.limits, &plane.store);
    let most = limits.services_per_owner;
    let (made, webhook) = match asked {
        None => (store.add_service(&owner.namespace, new, most, plane.clock.now()).await??, None),
        Some(asked) => {
            // Before the name of its host is looked up, which takes a turn from others.
            store.room_for_service(&owner.namespace, &new.slug, most).await??;
            let id = ServiceId::from_random(super::random()?);
            let webhook = asked.admit(&plane, &owner.namespace, &id).await;
            let webhook = webhook.map_err(|refusal| refusal.under("webhook"))?;
            let (most, now) = ((most, limits.webhooks_per_service), plane.clock.now());
            let made = store.add_service_with_webhook(&owner.namespace, id, new, webhook, most, now);
            let (made, webhook) = made.await??;
            (made, Some(webhook))
        }
    };
    audit::changed(&owner, "service.add", &made.id, made.slug.as_str());
    let mut shown = view(&made);
    if let Some(webhook) = webhook {
        audit::changed(&owner, "webhook.create", &webhook.id, &format!("service {}", made.id));
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("webhook".to_owned(), webhooks::view(&webhook));
        }
    }
    Ok((StatusCode::CREATED, Json(shown)))
}

async fn one(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ServiceId>,
) -> Result<Json<Value>, Refusal> {
    let service = plane.store.service(&owner.namespace, &id).await?.ok_or(ServiceFault::NotFound)?;
    Ok(Json(view(&service)))
}

async fn change(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ServiceId>,
    Sent(changes): Sent<Changes>,
) -> Result<Json<Value>, Refusal> {
    let change = ServiceChange {
        name: changes.name.sent().map(name).transpose()?,
        domain: changes.domain.sent().map(domain).transpose()?,
        description: changes.description.sent().map(description).transpose()?,
        mode: changes.mode.sent().map(|word| mode(&word)).transpose()?,
        upstream_url: match changes.upstream_url {
            Change::Keep => None,
            Change::Set(url) => Some(url.map(upstream_url).transpose()?),
        },
    };
    let changed = plane.store.change_service(&owner.namespace, &id, change, plane.clock.now()).await??;
    audit::changed(&owner, "service.change", &changed.id, changed.slug.as_str());
    Ok(Json(view(&changed)))
}

async fn remove(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ServiceId>,
) -> Result<StatusCode, Refusal> {
    let revoked = plane.store.delete_service(&owner.namespace, &id, plane.clock.now()).await??;
    plane.metrics.claims(ClaimEvent::Revoked, revoked);
    audit::changed(&owner, "service.delete", &id, "");
    Ok(StatusCode::NO_CONTENT)
}

fn view(service: &ServiceRecord) -> Value {
    json!({
        "id": service.id.as_str(),
        "namespace": service.owner.as_str(),
        "slug": service.slug.as_str(),
        "name": service.name,
        "domain": service.domain,
        "description": service.description,
        "mode": service.mode.word(),
        "upstream_url": service.upstream_url,
        "created_at": service.created_at.to_string(),
        "updated_at": service.updated_at.to_string(),
    })
}

fn name(sent: String) -> Result<String, Refusal> {
    text("name", sent, 1, 128)
}

fn domain(sent: String) -> Result<String, Refusal> {
    text("domain", sent, 1, 253)
}

fn description(sent: String) -> Result<String, Refusal> {
    text("description", sent, 0, 1_024)
}

fn mode(word: &str) -> Result<ServiceMode, Refusal> {
    ServiceMode::from_word(word).ok_or_else(|| Refusal::field("mode", &"takes native or gateway"))
}

/// It is for showing alone, and must not carry a secret.
fn upstream_url(sent: String) -> Result<String, Refusal> {
    let sent = text("upstream_url", sent, 1, 2_048)?;
    let url = Url::parse(&sent).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
    });
    match url {
        Some(_) => Ok(sent),
        None => Err(Refusal::new(
            Kind::FieldInvalid,
            "upstream_url: takes an http or https URL without user and password",
        )),
    }
}
