//! `/api/admin/service-api-keys/{id}`: a service's own key at the control plane.

use axum::Extension;
use axum::extract::State;
use serde::Deserialize;

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

/// A key to be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    key: SecretInput,
}

pub(super) async fn get(State(handles): State<Handles>, Id(id): Id) -> Result<Json<ServiceKeyView>, Refusal> {
    Ok(Json(handles.ask(move |book| book.service_key_view(&id)).await??))
}

pub(super) async fn put(
    State(handles): State<Handles>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    Sent(NewKey { key }): Sent<NewKey>,
) -> Result<Json<ServiceKeyView>, Refusal> {
    warn_of_plain(&caller, [&key]);
    let gateway_id = handles.gateway_id.clone();
    let put = handles.change(caller, "service_api_key.put", move |book, line| {
        *line = Line::of(&id);
        line.secrets([NAME.to_owned()]);
        let view = book.set_service_key(&id, opened(book, &gateway_id, &id, NAME, key)?)?;
        Ok((view, Drain::default()))
    });
    Ok(Json(put.await?))
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
