//! What the address of a request asks for: the names in its path, and its query.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use serde_json::{Value, json};

use super::refusal::{Kind, Refusal};
use crate::json::nearest;
use crate::names::{ApiKeyId, ClaimId, Namespace, ServiceId, SessionId, WebhookId};

/// A name that stands in a path, and what it is called there.
pub(super) trait InPath: FromStr<Err: Display> {
    /// The name of the place.
    const NAME: &'static str;
}

macro_rules! in_path {
    ($($name:ident: $text:literal),+ $(,)?) => {
        $(impl InPath for $name { const NAME: &'static str = $text; })+
    };
}

in_path!(
    ServiceId: "id",
    ApiKeyId: "keyId",
    WebhookId: "webhookId",
    ClaimId: "id",
    SessionId: "session_id",
    Namespace: "ns",
);

/// The one name in the path.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: InPath> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(unreadable)?;
        parse(&text).map(Self)
    }
}

/// The two names in the path.
pub(super) struct NamedTwo<A, B>(pub(super) A, pub(super) B);

impl<S: Send + Sync, A: InPath, B: InPath> FromRequestParts<S> for NamedTwo<A, B> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path((first, second)) =
            Path::<(String, String)>::from_request_parts(parts, state).await.map_err(unreadable)?;
        Ok(Self(parse(&first)?, parse(&second)?))
    }
}

fn parse<T: InPath>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|fault| Refusal::field(T::NAME, &fault))
}

fn unreadable(_: axum::extract::rejection::PathRejection) -> Refusal {
    Refusal::new(Kind::FieldInvalid, "the path holds percent-encoded bytes that are no text in UTF-8")
}

/// Entries of a page at most.
const LARGEST_PAGE: usize = 1_000;
/// The greatest offset.
const GREATEST_OFFSET: usize = 1_000_000_000;

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// Entries at most.
    pub(super) limit: usize,
    /// Entries before the first.
    pub(super) offset: usize,
}

impl Page {
    /// `pagination` of an answer with so many of `total` entries.
    pub(super) fn told(self, entries: usize, total: u64) -> Value {
        let end = u64::try_from(self.offset.saturating_add(entries)).unwrap_or(u64::MAX);
        json!({
            "limit": self.limit,
            "offset": self.offset,
            "total": total,
            "has_more": end < total && entries > 0,
        })
    }
}

/// The parameters of a query. Before a handler has them they are held to those that its route takes.
#[derive(Debug)]
pub(super) struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri))
    }
}

impl Asked {
    fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Holds a query to what its route takes.
    ///
    /// # Errors
    /// When it holds a parameter that is not in `known`.
    pub(super) fn only(known: &[&'static str], uri: &Uri) -> Result<(), Refusal> {
        let Self(pairs) = Self::of(uri);
        let Some((name, _)) = pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "this route takes none".to_owned(),
            None => format!("the parameters are {}", known.join(", ")),
        };
        Err(Refusal::new(Kind::FieldInvalid, format!("the query holds an unknown parameter; {hint}")))
    }

    /// All values of a parameter, parsed.
    ///
    /// # Errors
    /// When one cannot be parsed.
    pub(super) fn all<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<T>, Refusal> {
        self.0
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.parse().map_err(|fault| Refusal::field(name, &fault)))
            .collect()
    }

    /// A parameter that may stand there once.
    ///
    /// # Errors
    /// When it cannot be parsed, or stands there twice.
    pub(super) fn one<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let mut found = self.all(name)?;
        if found.len() > 1 {
            return Err(Refusal::field(name, &"it stands in the query twice"));
        }
        Ok(found.pop())
    }

    /// A parameter that must stand there.
    ///
    /// # Errors
    /// When it is missing, cannot be parsed, or stands there twice.
    pub(super) fn needed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Refusal> {
        self.one(name)?.ok_or_else(|| Refusal::field(name, &"is needed in the query"))
    }

    /// A page: `limit`, 1 to 1,000 and `usual` where it is not said, and `offset`.
    ///
    /// # Errors
    /// When one of them is no such number.
    pub(super) fn page(&self, usual: usize) -> Result<Page, Refusal> {
        let limit = self.number("limit", usual, 1, LARGEST_PAGE)?;
        Ok(Page { limit, offset: self.number("offset", 0, 0, GREATEST_OFFSET)? })
    }

    /// A whole number between `least` and `most`; `default` where it is not there.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn number(
        &self,
        name: &str,
        default: usize,
        least: usize,
        most: usize,
    ) -> Result<usize, Refusal> {
        let wrong = || Refusal::field(name, &format_args!("takes a whole number from {least} to {most}"));
        match self.one::<String>(name)? {
            None => Ok(default),
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, Refusal> {
        let uri: Uri = format!("/v1/x?{query}").parse().unwrap();
        Asked::only(&["service", "limit"], &uri).map(|()| Asked::of(&uri))
    }

    #[test]
    fn unknown_and_doubled_parameters_are_refused() {
        assert!(format!("{:?}", asked("serivce=a").unwrap_err()).contains("did you mean `service`?"));
        assert!(asked("service=a&service=b").unwrap().one::<String>("service").is_err());
        assert_eq!(asked("service=a&service=b").unwrap().all::<String>("service").unwrap(), ["a", "b"]);
        assert!(asked("").unwrap().needed::<String>("service").is_err());
    }

    #[test]
    fn numbers_keep_to_their_range() {
        let limit = |query: &str| asked(query).unwrap().number("limit", 500, 1, 1000).ok();
        assert_eq!(limit(""), Some(500));
        assert_eq!(limit("limit=1000"), Some(1000));
        for wrong in
            ["limit=0", "limit=1001", "limit=", "limit=%2B5", "limit=-1", "limit=99999999999999999999"]
        {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }
}
