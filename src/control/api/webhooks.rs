//! `/v1/services/{id}/webhooks`: who is told of a service's claims.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::{Value, json};

use super::asked::{Named, NamedTwo};
use super::body::Sent;
use super::owner::Owner;
use super::refusal::Refusal;
use super::{Route, audit};
use crate::control::ControlPlane;
use crate::control::domain::webhook::{NewWebhook, WebhookEvent, WebhookRecord, auth_header};
use crate::control::seal::SealFault;
use crate::control::webhooks::target::TargetFault;
use crate::control::webhooks::{AUTH_VALUE, SECRET};
use crate::names::{Namespace, ServiceId, WebhookId};
use crate::secret::SecretString;

/// Characters that a secret has at least, and at most.
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 16..=512;
/// Characters that the value of `auth_header` has at most.
const MOST_AUTH_CHARS: usize = 4096;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/services/{id}/webhooks", get(list).post(make)),
        Route::new("/v1/services/{id}/webhooks/{webhookId}", delete(remove)),
    ]
}

/// A webhook that is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedWebhook {
    url: String,
    secret: HeldSecret,
    events: Vec<String>,
    auth_header: Option<String>,
    auth_value: Option<HeldSecret>,
}

async fn list(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(service): Named<ServiceId>,
) -> Result<Json<Value>, Refusal> {
    let found = plane.store.webhooks(&owner.namespace, &service).await??;
    Ok(Json(json!({ "webhooks": found.iter().map(view).collect::<Vec<_>>() })))
}

async fn make(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(service): Named<ServiceId>,
    Sent(asked): Sent<AskedWebhook>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let most = plane.config.limits.webhooks_per_service;
    // Before the name of its host is looked up, which takes a turn from others.
    plane.store.room_for_webhook(&owner.namespace, &service, most).await??;
    let new = asked.admit(&plane, &owner.namespace, &service).await?;
    let made = plane.store.add_webhook(&owner.namespace, &service, new, most, plane.clock.now()).await??;
    audit::changed(&owner, "webhook.create", &made.id, &format!("service {service}"));
    Ok((StatusCode::CREATED, Json(view(&made))))
}

async fn remove(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    NamedTwo(service, webhook): NamedTwo<ServiceId, WebhookId>,
) -> Result<StatusCode, Refusal> {
    plane.store.delete_webhook(&owner.namespace, &service, &webhook).await??;
    audit::changed(&owner, "webhook.delete", &webhook, &format!("service {service}"));
    Ok(StatusCode::NO_CONTENT)
}

impl AskedWebhook {
    /// Holds what is asked for to the rules, and seals its secrets for the service.
    ///
    /// # Errors
    /// Which field cannot be what it is.
    pub(super) async fn admit(
        self,
        plane: &ControlPlane,
        owner: &Namespace,
        service: &ServiceId,
    ) -> Result<NewWebhook, Refusal> {
        let Self { url, secret: HeldSecret(secret), events, auth_header, auth_value } = self;
        if !SECRET_CHARS.contains(&secret.expose().chars().count()) {
            return Err(Refusal::field("secret", &"must have 16 to 512 characters"));
        }
        let events = told_of(&events)?;
        let auth = auth(auth_header, auth_value)?;
        let url = plane.resolver.admit(&url, owner).await.map_err(not_admitted)?;
        let seal = |purpose, secret: &SecretString| plane.config.sealer.seal(service, &url, purpose, secret);
        let sealed_secret = seal(SECRET, &secret).map_err(not_sealed)?;
        let auth = match auth {
            None => None,
            Some((header, value)) => Some((header, seal(AUTH_VALUE, &value).map_err(not_sealed)?)),
        };
        Ok(NewWebhook { url, events, sealed_secret, auth })
    }
}

fn told_of(words: &[String]) -> Result<Vec<WebhookEvent>, Refusal> {
    let known = || WebhookEvent::ALL.map(WebhookEvent::word).join(", ");
    let mut events = Vec::new();
    for word in words {
        let event = WebhookEvent::from_word(word).ok_or_else(|| {
            Refusal::field("events", &format!("holds an unknown event; there are {}", known()))
        })?;
        if !events.contains(&event) {
            events.push(event);
        }
    }
    if events.is_empty() {
        return Err(Refusal::field("events", &format!("must name one or more of {}", known())));
    }
    Ok(events)
}

fn auth(
    header: Option<String>,
    value: Option<HeldSecret>,
) -> Result<Option<(String, SecretString)>, Refusal> {
    match (header, value) {
        (None, None) => Ok(None),
        (Some(header), Some(HeldSecret(value))) => {
            let header = auth_header(&header).map_err(|fault| Refusal::field("auth_header", &fault))?;
            let text = value.expose();
            if text.len() > MOST_AUTH_CHARS || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(Refusal::field(
                    "auth_value",
                    &"must be printable ASCII, 4,096 characters at most",
                ));
            }
            Ok(Some((header.as_str().to_owned(), value)))
        }
        (Some(_), None) => Err(Refusal::field("auth_value", &"is needed with auth_header")),
        (None, Some(_)) => Err(Refusal::field("auth_header", &"is needed with auth_value")),
    }
}

fn not_admitted(fault: TargetFault) -> Refusal {
    match fault {
        // Nobody has judged it.
        TargetFault::NoTurn(_) => Refusal::overloaded(format!("{fault}; retry later")),
        _ => Refusal::field("url", &fault),
    }
}

fn not_sealed(fault: SealFault) -> Refusal {
    tracing::error!(%fault, "the secret of a webhook cannot be sealed");
    Refusal::internal()
}

/// A secret as it was sent. White space around it is refused rather than left out: the receiver would sign with it.
struct HeldSecret(SecretString);

impl<'de> Deserialize<'de> for HeldSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
        if text.trim().len() != text.len() {
            return Err(de::Error::custom("must not begin or end with white space"));
        }
        SecretString::new(text.to_string()).map(Self).map_err(de::Error::custom)
    }
}

/// A webhook as it is shown: without its secrets, which never come back.
pub(super) fn view(webhook: &WebhookRecord) -> Value {
    json!({
        "id": webhook.id.as_str(),
        "service_id": webhook.service_id.as_str(),
        "url": webhook.url.as_str(),
        "events": webhook.events.iter().map(|event| event.word()).collect::<Vec<_>>(),
        "auth_header": webhook.auth_header,
        "created_at": webhook.created_at.to_string(),
        "failures": webhook.failures,
        "paused_until": webhook.paused_until.map(|at| at.to_string()),
        "dropped": webhook.dropped,
        "given_up": webhook.given_up,
    })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn host_that_was_not_looked_up_is_refused_for_now_and_a_private_one_for_good() {
        let answer =
            |fault: fn(String) -> TargetFault| not_admitted(fault("a.example".into())).into_response();
        let (unjudged, private) = (answer(TargetFault::NoTurn), answer(TargetFault::LeadsToPrivate));
        assert_eq!(unjudged.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(private.status(), StatusCode::BAD_REQUEST);
    }
}
