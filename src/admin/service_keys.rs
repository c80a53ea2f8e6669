//! `/api/admin/service-api-keys/{id}`: a service's own key at the control plane.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::{Id, Sent};
use super::connections::warn_of_plain;
use super::refusal::Refusal;
use crate::connections::{Book, BookFault, Drain, SecretInput, ServiceKeyView};
use crate::names::{ConnectionId, SecretName};
use crate::secret::SecretString;

/// The name that a sealed key is sealed under.
pub(super) const NAME: &str = "service_api_key";

/// Whether a service has a key, and what the gateway got with it.
#[derive(Debug, Serialize)]
pub(super) struct View {
    #[serde(flatten)]
    key: ServiceKeyView,
    /// Null where the gateway asks no control plane.
    claims: Option<Claims>,
}

#[derive(Debug, Serialize)]
struct Claims {
    /// Until then the service's callers get `AUTH_CLAIMS_UNAVAILABLE`.
    received: bool,
    /// Whether the control plane is heard for this service.
    connected: bool,
    /// What stands in the way now.
    problem: Option<String>,
}

impl View {
    fn of(handles: &Handles, id: &ConnectionId, key: ServiceKeyView) -> Self {
        let claims = handles.claims.service_state(id).map(|known| Claims {
            received: known.received,
            connected: known.connected,
            problem: known.problem,
        });
        Self { key, claims }
    }
}

/// A key to be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    key: SecretInput,
}

pub(super) async fn get(State(handles): State<Handles>, Id(id): Id) -> Result<Json<View>, Refusal> {
    let service = id.clone();
    let key = handles.ask(move |book| book.service_key_view(&service)).await??;
    Ok(Json(View::of(&handles, &id, key)))
}

pub(super) async fn put(
    State(handles): State<Handles>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    Sent(NewKey { key }): Sent<NewKey>,
) -> Result<Json<View>, Refusal> {
    warn_of_plain(&caller, [&key]);
    let (gateway_id, service) = (handles.gateway_id.clone(), id.clone());
    let put = handles.change(caller, "service_api_key.put", move |book, line| {
        *line = Line::of(&service);
        line.secrets([NAME.to_owned()]);
        let view = book.set_service_key(&service, opened(book, &gateway_id, &service, NAME, key)?)?;
        Ok((view, Drain::default()))
    });
    let key = put.await?;
    Ok(Json(View::of(&handles, &id, key)))
}

/// The secret itself, unsealed where it came sealed.
pub(super) fn opened(
    book: &Book,
    gateway_id: &str,
    connection: &ConnectionId,
    name: &str,
    secret: SecretInput,
) -> Result<SecretString, BookFault> {
    let invalid = |problem: String| BookFault::Invalid { field: name.to_owned(), problem };
    let name: SecretName =
        name.parse().map_err(|fault: crate::names::NameError| invalid(fault.to_string()))?;
    match secret {
        SecretInput::Plain(mut text) => {
            SecretString::new(std::mem::take(&mut *text)).map_err(|fault| BookFault::Secret { name, fault })
        }
        SecretInput::Sealed(sealed) => book.open_sealed(&sealed, gateway_id, connection, &name),
    }
}
