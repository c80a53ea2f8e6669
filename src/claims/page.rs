//! Claims, pages of them, and cursors, as the control plane writes them. What is not known is ignored.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::clock::UnixTime;
use crate::names::{ClaimId, ConnectionId};
use crate::policy::{Claim, Scope, Scopes};

#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) claims: Vec<Entry>,
    pub(super) pagination: Pagination,
    /// Names the state of the claims; older control planes have none.
    #[serde(default)]
    cursor: Option<serde_json::Value>,
}

/// `has_more` must be there: without it a list could end early unseen.
#[derive(Deserialize)]
pub(super) struct Pagination {
    pub(super) offset: Option<usize>,
    total: Option<u64>,
    pub(super) has_more: bool,
    /// After which claim the next page begins; older control planes go by offset.
    pub(super) next: Option<String>,
}

/// The scopes of one claim at the most, in bytes: what the stream's longest line could hold.
const SCOPES_BYTES: usize = 64 * 1024;

/// Where a reader stands in the feed: 1 to 128 visible ASCII characters that mean something to the control plane alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Cursor(String);

impl Cursor {
    pub(super) fn of(text: &str) -> Option<Self> {
        let right = (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        right.then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({})", self.0)
    }
}

/// What stands in the list of claims. One that cannot be read does not spoil the page.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Claim(Box<Fields>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
pub(super) struct Fields {
    claim_id: String,
    namespace: String,
    public_key: String,
    service: String,
    status: Option<String>,
    expires_at: Option<String>,
    scopes: Option<Vec<String>>,
}

/// Why a claim is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryFault {
    #[error("it has not the fields of a claim, or one of another type")]
    Fields,
    #[error("its {field} cannot be read (claim {claim})")]
    Field { field: &'static str, claim: String },
}

impl Page {
    /// Differs between two pages when the claims changed between them.
    pub(super) fn state(&self) -> (Option<serde_json::Value>, Option<u64>) {
        (self.cursor.clone(), self.pagination.total)
    }

    /// Where the feed stood when the page was read.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        Cursor::of(self.cursor.as_ref()?.as_str()?)
    }

    /// The id of the first claim: two pages that begin with the same one are one and the same.
    pub(super) fn beginning(&self) -> Option<String> {
        match self.claims.first() {
            Some(Entry::Claim(fields)) => Some(fields.claim_id.clone()),
            _ => None,
        }
    }
}

impl Entry {
    /// The claim's id and its service's, as far as they can be read.
    pub(super) fn names(&self) -> (Option<ClaimId>, Option<ConnectionId>) {
        match self {
            Self::Claim(fields) => (fields.claim_id.parse().ok(), fields.service.parse().ok()),
            Self::Other(_) => (None, None),
        }
    }

    /// The claim; `None` where it is another service's or not approved.
    pub(super) fn into_claim(self, service: &ConnectionId) -> Result<Option<Claim>, EntryFault> {
        let Self::Claim(fields) = self else { return Err(EntryFault::Fields) };
        if fields.service != service.as_str()
            || fields.status.as_deref().is_some_and(|status| status != "approved")
        {
            return Ok(None);
        }
        let id: Option<ClaimId> = fields.claim_id.parse().ok();
        let claim = id.as_ref().map_or_else(|| "without a readable id".to_owned(), ToString::to_string);
        let fault = |field| EntryFault::Field { field, claim: claim.clone() };
        let texts = fields.scopes.unwrap_or_default();
        if texts.iter().map(String::len).sum::<usize>() > SCOPES_BYTES {
            return Err(fault("scopes"));
        }
        // A scope that is not understood must not become no scope, which would open everything.
        let scopes: Result<Vec<Scope>, _> = texts.iter().map(|scope| scope.parse()).collect();
        Ok(Some(Claim {
            id: id.ok_or_else(|| fault("claim_id"))?,
            namespace: fields.namespace.parse().map_err(|_| fault("namespace"))?,
            public_key: fields.public_key.parse().map_err(|_| fault("public_key"))?,
            service: service.clone(),
            expires_at: expiry(fields.expires_at.as_deref()).map_err(|()| fault("expires_at"))?,
            scopes: Scopes::new(scopes.map_err(|_| fault("scopes"))?),
        }))
    }
}

fn expiry(text: Option<&str>) -> Result<Option<UnixTime>, ()> {
    text.map(|text| text.parse().map_err(|_| ())).transpose()
}

/// The `code` of an error envelope, where there is one that can be shown.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        code: String,
    }
    let Envelope { code } = serde_json::from_slice(body).ok()?;
    let shown = (1..=64).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    shown.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Identity;

    fn entry(changes: &[(&str, &str)]) -> Entry {
        let identity = Identity::create(&"alice".parse().unwrap(), [1; 32], UnixTime::from_secs(1_000));
        let mut entry = serde_json::json!({
            "claim_id": "cl_1", "namespace": "alice", "public_key": identity.public_key().to_string(),
            "service": "openai", "subject": "alice", "expires_at": null, "unknown": [1],
        });
        for (field, value) in changes {
            entry[*field] = serde_json::from_str(value).unwrap();
        }
        serde_json::from_str(&entry.to_string()).unwrap()
    }

    fn claim(changes: &[(&str, &str)]) -> Result<Option<Claim>, EntryFault> {
        entry(changes).into_claim(&"openai".parse().unwrap())
    }

    #[test]
    fn claim_without_expiry_and_scopes_opens_the_service_without_end() {
        let claim = claim(&[]).unwrap().unwrap();
        assert_eq!((claim.expires_at, claim.scopes), (None, Scopes::default()));
    }

    #[test]
    fn expiry_and_scopes_are_taken_over() {
        let claim = claim(&[
            ("expires_at", "\"2026-02-20T18:04:26Z\""),
            ("scopes", "[\"GET /v1/models\"]"),
            ("status", "\"approved\""),
        ]);
        let claim = claim.unwrap().unwrap();
        assert_eq!(claim.expires_at, Some(UnixTime::from_secs(1_771_610_666)));
        assert!(claim.scopes.cover("GET", "/v1/models") && !claim.scopes.cover("POST", "/v1/models"));
    }

    #[test]
    fn what_is_not_understood_leaves_the_claim_out() {
        for (field, value) in [
            ("claim_id", "\"\""),
            ("namespace", "\"a\""),
            ("public_key", "\"ed25519:AAAA\""),
            ("expires_at", "\"tomorrow\""),
            ("expires_at", "\"\""),
            ("scopes", "[\"*\", \"read everything\"]"),
            ("scopes", "[\"\"]"),
        ] {
            assert!(
                matches!(claim(&[(field, value)]), Err(EntryFault::Field { field: named, .. }) if named == field),
                "{field} {value}"
            );
        }
        for (field, value) in
            [("expires_at", "1"), ("scopes", "\"*\""), ("scopes", "[1]"), ("namespace", "null")]
        {
            assert_eq!(claim(&[(field, value)]), Err(EntryFault::Fields), "{field} {value}");
        }
    }

    #[test]
    fn claim_with_more_scopes_than_are_held_is_left_out() {
        let scopes = |count: usize| serde_json::json!(vec!["GET /v1/models/0123456789"; count]).to_string();
        assert!(claim(&[("scopes", &scopes(64))]).is_ok());
        let fault = claim(&[("scopes", &scopes(4_000))]);
        assert!(matches!(fault, Err(EntryFault::Field { field: "scopes", .. })), "{fault:?}");
    }

    #[test]
    fn claim_of_another_service_or_status_is_not_taken() {
        assert_eq!(claim(&[("service", "\"openai2\"")]), Ok(None));
        assert_eq!(claim(&[("status", "\"revoked\"")]), Ok(None));
        assert_eq!(claim(&[("status", "\"Approved\"")]), Ok(None));
    }

    #[test]
    fn only_a_code_that_looks_like_one_is_shown() {
        assert_eq!(error_code(br#"{"code":"KEY_REVOKED"}"#), Some("KEY_REVOKED".to_owned()));
        for body in [&b"{}"[..], b"no", br#"{"code":"sk_live_1"}"#, br#"{"code":""}"#] {
            assert_eq!(error_code(body), None);
        }
    }
}
