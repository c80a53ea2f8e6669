//! Bodies: bounded in size and time, and JSON read strictly.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::refusal::{Kind, Refusal};
use crate::control::ControlPlane;
use crate::json;
use crate::policy::Scope;

/// A body of JSON, declared as JSON.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ControlPlane>> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let body = declared(request, plane, false).await?;
        Ok(Self(json::read(&body)?))
    }
}

/// A body of JSON, or none, which is as good as `{}`.
pub(super) struct Perhaps<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ControlPlane>> for Perhaps<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let body = declared(request, plane, true).await?;
        Ok(Self(json::read(if body.is_empty() { b"{}" } else { &body })?))
    }
}

/// A page of another origin can send a body only as a form or as plain text without asking first, so that nothing but
/// declared JSON is taken of owners.
async fn declared(request: Request, plane: &ControlPlane, may_be_empty: bool) -> Result<Bytes, Refusal> {
    let not_json =
        || Refusal::new(Kind::NotDeclaredJson, "send the body as JSON, with content-type: application/json");
    let declared = is_json(request.headers());
    if !declared && !may_be_empty {
        return Err(not_json());
    }
    let body = whole(request.into_body(), plane).await?;
    if declared || body.is_empty() { Ok(body) } else { Err(not_json()) }
}

/// Reads a body to its end.
///
/// # Errors
/// When it is too large, too slow, or breaks off.
pub(super) async fn whole(body: Body, plane: &ControlPlane) -> Result<Bytes, Refusal> {
    let limits = &plane.config.limits;
    collected(body, limits.body_bytes, limits.body_time).await
}

async fn collected(body: Body, most: usize, within: Duration) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(within, Limited::new(body, most).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => {
            Err(Refusal::new(Kind::BodyTooLarge, format!("the body is larger than {most} bytes")))
        }
        Ok(Err(_)) => Err(Refusal::new(Kind::BodyIncomplete, "the body broke off before its end")),
        Err(_) => Err(Refusal::new(Kind::RequestTimeout, "the body did not come in time")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut declared = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (declared.next(), declared.next()) else { return false };
    let essence = first.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A field of a change: one that is not sent stays as it is. `null` counts as sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Change<T> {
    /// It was not sent.
    #[default]
    Keep,
    /// It becomes this.
    Set(T),
}

impl<T> Change<T> {
    /// What was sent, if anything was.
    pub(super) fn sent(self) -> Option<T> {
        match self {
            Self::Keep => None,
            Self::Set(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::Set)
    }
}

/// A body that says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A text of so many characters, none of them a control character.
///
/// # Errors
/// When it is not that.
pub(super) fn text(name: &str, text: String, least: usize, most: usize) -> Result<String, Refusal> {
    let found = text.chars().count();
    if !(least..=most).contains(&found) {
        let fault = format!("takes {least} to {most} characters; it holds {found}");
        return Err(Refusal::field(name, &fault));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::field(name, &"holds a control character"));
    }
    Ok(text)
}

/// A text with a form of its own.
///
/// # Errors
/// When it has not that form.
pub(super) fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|fault| Refusal::field(name, &fault))
}

/// A list of texts with a form of their own, at most so many; a fault names the place in the list.
///
/// # Errors
/// When there are more, or one has not that form.
pub(super) fn list<T: FromStr<Err: Display>>(
    name: &str,
    texts: &[String],
    most: usize,
) -> Result<Vec<T>, Refusal> {
    if texts.len() > most {
        let fault = format!("takes at most {most} entries; it holds {}", texts.len());
        return Err(Refusal::field(name, &fault));
    }
    texts.iter().enumerate().map(|(at, text)| parsed(&format!("{name}[{at}]"), text)).collect()
}

/// Scopes at most, in one claim or in the owner's defaults.
const SCOPES: usize = 64;
/// The longest scope, in bytes.
const SCOPE_BYTES: usize = 512;

/// A list of scopes.
///
/// # Errors
/// When there are too many, or one is none.
pub(super) fn scopes(name: &str, texts: &[String]) -> Result<Vec<Scope>, Refusal> {
    if let Some(at) = texts.iter().position(|text| text.len() > SCOPE_BYTES) {
        let fault = format!("a scope has at most {SCOPE_BYTES} bytes");
        return Err(Refusal::field(&format!("{name}[{at}]"), &fault));
    }
    list(name, texts, SCOPES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn body_that_does_not_come_is_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let refusal = collected(never, 10, Duration::ZERO).await.unwrap_err();
        assert_eq!(refusal.kind(), Kind::RequestTimeout);
        let whole = collected(Body::from("0123456789"), 10, Duration::MAX).await.unwrap();
        assert_eq!(&whole[..], b"0123456789");
        let refusal = collected(Body::from("0123456789a"), 10, Duration::MAX).await.unwrap_err();
        assert_eq!(refusal.kind(), Kind::BodyTooLarge);
    }

    #[test]
    fn scopes_are_bounded_in_number_and_length() {
        let many = vec!["GET /a".to_owned(); SCOPES + 1];
        assert!(scopes("scopes", &many).is_err());
        assert_eq!(scopes("scopes", &many[1..]).unwrap().len(), SCOPES);
        let long = format!("GET /{}", "a".repeat(SCOPE_BYTES));
        assert!(format!("{:?}", scopes("scopes", &[long])).contains("scopes[0]: "));
    }
}
