//! The error envelope: the one JSON form of every refusal and fault that a client reads. Pure.

use serde::Serialize;

use crate::clock::UnixTime;
use crate::names::RequestId;

/// Where every code is explained; the code itself is the fragment.
const ERRORS_PAGE: &str = "https://sigilum.id/docs/errors";

/// What a client is told of a refusal or a fault, as `application/json`.
///
/// Nothing in it may come from a secret, a signature or the bytes of a request: it is read by whoever asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<'a> {
    /// One sentence for people.
    pub error: &'a str,
    /// The stable code for programs, such as `AUTH_CLAIM_REQUIRED`.
    pub code: &'a str,
    /// The `SIG_*` reason, where the code has several.
    pub reason: Option<&'a str>,
    /// The claim that is missing, with `AUTH_CLAIM_REQUIRED`: `{status, claim_id?, approve_url?}`.
    pub claim: Option<serde_json::Value>,
    /// The request's id, also in the header `x-request-id`.
    pub request_id: &'a RequestId,
    /// When it was decided.
    pub timestamp: UnixTime,
}

/// The address of `code` in this project's documentation.
#[must_use]
pub fn docs_url(code: &str) -> String {
    format!("{ERRORS_PAGE}#{code}")
}

impl Envelope<'_> {
    /// The envelope as JSON, members in the order of the contract: `error`, `code`, `reason`, `claim` (these two only
    /// where they are given), `request_id`, `timestamp` (RFC 3339, UTC), `docs_url`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            error: self.error,
            code: self.code,
            reason: self.reason,
            claim: self.claim.as_ref(),
            request_id: self.request_id.as_str(),
            timestamp: self.timestamp.to_string(),
            docs_url: docs_url(self.code),
        };
        // Text and a JSON value always serialize; an empty body would still go with the right status.
        serde_json::to_vec(&wire).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a serde_json::Value>,
    request_id: &'a str,
    timestamp: String,
    docs_url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelope_is_the_contract_s_json() {
        let request_id: RequestId = "abcd-1234".parse().unwrap();
        let mut envelope = Envelope {
            error: "the \"nonce\" was seen before",
            code: "AUTH_REPLAY_DETECTED",
            reason: None,
            claim: None,
            request_id: &request_id,
            timestamp: UnixTime::from_secs(1_771_610_666),
        };
        assert_eq!(
            String::from_utf8(envelope.to_json()).unwrap(),
            r##"{"error":"the \"nonce\" was seen before","code":"AUTH_REPLAY_DETECTED","request_id":"abcd-1234","timestamp":"2026-02-20T18:04:26Z","docs_url":"https://sigilum.id/docs/errors#AUTH_REPLAY_DETECTED"}"##
        );
        envelope.reason = Some("SIG_CERT_EXPIRED");
        envelope.claim = Some(serde_json::json!({"status": "pending"}));
        let json: serde_json::Value = serde_json::from_slice(&envelope.to_json()).unwrap();
        assert_eq!(json["reason"], "SIG_CERT_EXPIRED");
        assert_eq!(json["claim"]["status"], "pending");
    }
}
