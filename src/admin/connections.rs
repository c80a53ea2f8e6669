//! `/api/admin/connections`: what there is, and every change of it.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Handles;
use super::answer::Json;
use super::audit::{self, Caller, Line};
use super::body::{Id, Sent};
use super::refusal::{Kind, Refusal};
use crate::connections::{
    BookFault, Changed, ConnectionPatch, ConnectionView, Drain, NewConnection, Rotation, SecretInput,
};

/// All connections, in order of id.
#[derive(Debug, Serialize)]
pub(super) struct List {
    connections: Vec<ConnectionView>,
}

pub(super) async fn list(State(handles): State<Handles>) -> Result<Json<List>, Refusal> {
    let connections = handles.ask(|book| book.connections()).await?;
    Ok(Json(List { connections }))
}

pub(super) async fn get(State(handles): State<Handles>, Id(id): Id) -> Result<Json<ConnectionView>, Refusal> {
    Ok(Json(handles.ask(move |book| book.connection(&id)).await??))
}

pub(super) async fn create(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
    Sent(new): Sent<NewConnection>,
) -> Result<Response, Refusal> {
    warn_of_plain(&caller, new.secrets.values());
    let view = handles.change(caller, "connection.create", move |book, line| {
        *line = Line::of(&new.id);
        line.secrets(new.secrets.keys().cloned());
        let view = book.create(new)?;
        line.after(&view);
        Ok((view, Drain::default()))
    });
    let view = view.await?;
    let location: [(HeaderName, String); 1] =
        [(header::LOCATION, format!("/api/admin/connections/{}", view.id))];
    Ok((StatusCode::CREATED, location, Json(view)).into_response())
}

pub(super) async fn update(
    State(handles): State<Handles>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    Sent(patch): Sent<ConnectionPatch>,
) -> Result<Json<ConnectionView>, Refusal> {
    warn_of_plain(&caller, patch.secrets.values().flatten());
    let view = handles.change(caller, "connection.update", move |book, line| {
        *line = Line::of(&id);
        line.secrets(patch.secrets.keys().cloned());
        line.before(&book.connection(&id)?);
        shown(line, book.update(&id, patch)?)
    });
    Ok(Json(view.await?))
}

pub(super) async fn delete(
    State(handles): State<Handles>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, Refusal> {
    let gone = handles.change(caller, "connection.delete", move |book, line| {
        *line = Line::of(&id);
        line.before(&book.connection(&id)?);
        Ok(((), book.delete(&id)?))
    });
    gone.await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rotate(
    State(handles): State<Handles>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    Sent(rotation): Sent<Rotation>,
) -> Result<Json<ConnectionView>, Refusal> {
    warn_of_plain(&caller, rotation.secrets.values());
    let view = handles.change(caller, "connection.rotate", move |book, line| {
        *line = Line::of(&id);
        line.secrets(rotation.secrets.keys().cloned());
        line.before(&book.connection(&id)?);
        shown(line, book.rotate(&id, rotation)?)
    });
    Ok(Json(view.await?))
}

fn shown(line: &mut Line, changed: Changed<ConnectionView>) -> Result<(ConnectionView, Drain), BookFault> {
    line.after(&changed.now);
    Ok((changed.now, changed.replaced))
}

/// Of an MCP server's tools; still to come.
pub(super) async fn discover(
    State(handles): State<Handles>,
    Id(id): Id,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Refusal> {
    let query = query.unwrap_or_default();
    let unknown = |value: &str| !matches!(value, "auto" | "force");
    let mut parts = url::form_urlencoded::parse(query.as_bytes());
    if parts.any(|(name, value)| name == "refresh" && unknown(&value)) {
        return Err(Refusal::field("refresh", "takes auto or force"));
    }
    let view = handles.ask(move |book| book.connection(&id)).await??;
    if view.protocol != "mcp" {
        let sentence =
            format!("the connection {} speaks {}; only MCP servers have tools", view.id, view.protocol);
        return Err(Refusal::Told(Kind::NotMcp, sentence));
    }
    Err(Refusal::Told(Kind::NotImplemented, "the discovery of MCP tools is not there yet".to_owned()))
}

/// A plain secret from another machine is taken, since the way may be safe by other means, and is told of.
pub(super) fn warn_of_plain<'a>(caller: &Caller, secrets: impl IntoIterator<Item = &'a SecretInput>) {
    let plain = |secret: &SecretInput| match secret {
        SecretInput::Plain(text) => !(text.starts_with("{{") && text.ends_with("}}")),
        SecretInput::Sealed(_) => false,
    };
    if !caller.peer.to_canonical().is_loopback() && secrets.into_iter().any(plain) {
        audit::unsealed(caller);
    }
}
