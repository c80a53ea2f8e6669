//! `/api/admin/credential-variables`: secrets that several connections share, by name.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::{Key, Sent};
use super::connections::warn_of_plain;
use super::refusal::Refusal;
use crate::connections::{Drain, NewVariable, VariableView};

/// All variables, in order of name.
#[derive(Debug, Serialize)]
pub(super) struct List {
    credential_variables: Vec<VariableView>,
}

pub(super) async fn list(State(handles): State<Handles>) -> Result<Json<List>, Refusal> {
    let credential_variables = handles.ask(|book| book.variables()).await?;
    Ok(Json(List { credential_variables }))
}

/// 201 for a new one, 200 for a new value of one that is there.
pub(super) async fn set(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
    Sent(new): Sent<NewVariable>,
) -> Result<Response, Refusal> {
    warn_of_plain(&caller, [&new.value]);
    let set = handles.change(caller, "credential_variable.set", move |book, line| {
        *line = Line::of(&new.key);
        line.secrets([new.key.clone()]);
        let before = book.variables().into_iter().find(|variable| variable.key == new.key);
        let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
        line.before(&before);
        let changed = book.set_variable(new)?;
        line.after(&changed.now);
        Ok(((status, changed.now), changed.replaced))
    });
    let (status, view) = set.await?;
    Ok((status, Json(view)).into_response())
}

pub(super) async fn delete(
    State(handles): State<Handles>,
    Key(key): Key,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, Refusal> {
    let gone = handles.change(caller, "credential_variable.delete", move |book, line| {
        *line = Line::of(&key);
        line.before(&book.variables().into_iter().find(|variable| variable.key == key));
        book.delete_variable(&key)?;
        Ok(((), Drain::default()))
    });
    gone.await?;
    Ok(StatusCode::NO_CONTENT)
}
