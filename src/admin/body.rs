//! What a request sends: its body, bounded and declared as JSON, and the names in its path.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::json;
use super::refusal::Refusal;
use crate::names::ConnectionId;

/// The largest body taken.
const MOST_BYTES: usize = 1024 * 1024;

/// A body of JSON.
pub(super) struct Sent<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = bytes(request, false).await?;
        json::read(&body).map(Self)
    }
}

/// A body of JSON, or none, which is as good as `{}`.
pub(super) struct Perhaps<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Perhaps<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = bytes(request, true).await?;
        json::read(if body.is_empty() { b"{}" } else { &body }).map(Self)
    }
}

/// A body that is declared as JSON, as it is.
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        bytes(request, false).await.map(Self)
    }
}

/// A page of another origin can send a body only as a form or as plain text without asking first, so that nothing but
/// declared JSON is taken.
async fn bytes(request: Request, may_be_empty: bool) -> Result<Bytes, Refusal> {
    let declared = is_json(request.headers());
    if !declared && !may_be_empty {
        return Err(Refusal::NotDeclaredJson);
    }
    let body = collect(request.into_body()).await?;
    if declared || body.is_empty() { Ok(body) } else { Err(Refusal::NotDeclaredJson) }
}

async fn collect(body: Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(fault) if fault.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge(MOST_BYTES)),
        Err(_) => Err(Refusal::BodyIncomplete),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut declared = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (declared.next(), declared.next()) else { return false };
    let essence = first.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// The connection that the path names.
pub(super) struct Id(pub(super) ConnectionId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Key(text) = Key::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|fault| Refusal::name("id", &fault))
    }
}

/// A name in the path.
pub(super) struct Key(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Refusal::NotFound),
        }
    }
}
