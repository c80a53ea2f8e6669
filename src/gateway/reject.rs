//! The one place where a refusal becomes a status and an envelope.

use http::StatusCode;

use super::refusal::Refusal;
use crate::claims::Registration;
use crate::clock::UnixTime;
use crate::envelope::Envelope;
use crate::names::RequestId;
use crate::replay::ReplayFault;

/// What a client is told, besides the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) retry_after_secs: Option<u64>,
    /// Whether the client's connection may go on: not where what it sends next has no sure meaning.
    pub(super) keep_connection: bool,
}

/// The status and the codes of a refusal.
pub(super) fn verdict(refusal: &Refusal) -> Verdict {
    use StatusCode as S;
    let (status, code) = match refusal {
        Refusal::Head(super::head::HeadFault::Connect) | Refusal::MethodNotAllowed => {
            (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED")
        }
        Refusal::Head(_) | Refusal::HeadTooLarge | Refusal::Malformed(_) => {
            (S::BAD_REQUEST, "REQUEST_INVALID")
        }
        Refusal::HeaderTimeout | Refusal::BodyTimeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
        Refusal::NotFound => (S::NOT_FOUND, "NOT_FOUND"),
        Refusal::Path(_) => (S::BAD_REQUEST, "PATH_INVALID"),
        Refusal::ConnectionNotFound => (S::NOT_FOUND, "CONNECTION_NOT_FOUND"),
        Refusal::ConnectionDisabled => (S::FORBIDDEN, "CONNECTION_DISABLED"),
        Refusal::Signature(refusal) => (S::FORBIDDEN, refusal.code()),
        Refusal::ClaimRequired(_) => (S::FORBIDDEN, "AUTH_CLAIM_REQUIRED"),
        Refusal::ScopeDenied => (S::FORBIDDEN, "AUTH_SCOPE_DENIED"),
        Refusal::ClaimSubmitRateLimited { .. } => (S::TOO_MANY_REQUESTS, "AUTH_CLAIM_SUBMIT_RATE_LIMITED"),
        Refusal::ClaimsUnavailable => (S::SERVICE_UNAVAILABLE, "AUTH_CLAIMS_UNAVAILABLE"),
        Refusal::ClaimsLookupFailed => (S::FORBIDDEN, "AUTH_CLAIMS_LOOKUP_FAILED"),
        Refusal::Replay(ReplayFault::Full) | Refusal::Overloaded => (S::SERVICE_UNAVAILABLE, "OVERLOADED"),
        Refusal::Replay(_) => (S::FORBIDDEN, "AUTH_REPLAY_DETECTED"),
        Refusal::DigestMismatch => (S::FORBIDDEN, "AUTH_SIGNATURE_INVALID"),
        Refusal::BodyTooLarge { .. } | Refusal::BodyUnverifiable { .. } => {
            (S::PAYLOAD_TOO_LARGE, "REQUEST_BODY_TOO_LARGE")
        }
        Refusal::RateLimited { .. } => (S::TOO_MANY_REQUESTS, "RATE_LIMITED"),
        Refusal::NotReady(_) => (S::SERVICE_UNAVAILABLE, "NOT_READY"),
        Refusal::SecretUnreadable => (S::BAD_GATEWAY, "SECRET_UNREADABLE"),
        Refusal::RotationRequired { .. } => (S::FORBIDDEN, "ROTATION_REQUIRED"),
        Refusal::SecretReflected => (S::BAD_GATEWAY, "SECRET_REFLECTED"),
        Refusal::Upstream(_) => (S::BAD_GATEWAY, "UPSTREAM_ERROR"),
        Refusal::UpstreamTimeout => (S::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT"),
        Refusal::UpstreamUnavailable => (S::SERVICE_UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        Refusal::Internal => (S::INTERNAL_SERVER_ERROR, "INTERNAL"),
    };
    Verdict {
        status,
        code,
        reason: reason(refusal),
        retry_after_secs: retry_after(refusal),
        keep_connection: !matches!(
            status,
            S::BAD_REQUEST | S::REQUEST_TIMEOUT | S::PAYLOAD_TOO_LARGE | S::INTERNAL_SERVER_ERROR
        ),
    }
}

fn reason(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Signature(refusal) => refusal.reason(),
        Refusal::DigestMismatch => Some("SIG_CONTENT_DIGEST_MISMATCH"),
        _ => None,
    }
}

fn retry_after(refusal: &Refusal) -> Option<u64> {
    match refusal {
        Refusal::RateLimited { retry_after_secs } | Refusal::ClaimSubmitRateLimited { retry_after_secs } => {
            Some(*retry_after_secs)
        }
        Refusal::Overloaded | Refusal::Replay(ReplayFault::Full) => Some(1),
        Refusal::ClaimsUnavailable | Refusal::NotReady(_) | Refusal::UpstreamUnavailable => Some(5),
        _ => None,
    }
}

/// The request that is refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) request_id: &'a RequestId,
    pub(super) received: UnixTime,
    /// The connection asked for; empty where it is none.
    pub(super) connection: &'a str,
}

/// The content type and the content of a refusal: the envelope, or for a missing claim a page where `markdown` is
/// wanted.
pub(super) fn content(
    refusal: &Refusal,
    verdict: Verdict,
    about: About<'_>,
    markdown: bool,
) -> (&'static str, Vec<u8>) {
    let sentence = refusal.to_string();
    let claim = match refusal {
        Refusal::ClaimRequired(registration) if markdown => {
            let page = claim_page(registration, about);
            return ("text/markdown; charset=utf-8", page.into_bytes());
        }
        Refusal::ClaimRequired(registration) => claim_fields(registration),
        _ => None,
    };
    let envelope = Envelope {
        error: &sentence,
        code: verdict.code,
        reason: verdict.reason,
        claim,
        request_id: about.request_id,
        timestamp: about.received,
    };
    ("application/json", envelope.to_json())
}

/// The registration, and the command that approves it where that can be named.
fn claim_fields(registration: &Registration) -> Option<serde_json::Value> {
    let mut fields = serde_json::to_value(registration).ok()?;
    if let (Some(command), Some(object)) = (approve_command(registration), fields.as_object_mut()) {
        object.insert("approve_command".to_owned(), command.into());
    }
    Some(fields)
}

/// What the owner runs; `None` where no claim waits to be approved.
fn approve_command(registration: &Registration) -> Option<String> {
    let id = registration.claim_id.as_deref().filter(|_| registration.status == "pending")?;
    Some(format!("sigilum claim approve {id}"))
}

/// What a language model should do next.
fn claim_page(registration: &Registration, about: About<'_>) -> String {
    let About { connection, request_id, .. } = about;
    let link = registration.approve_url.as_deref().map_or_else(
        || "where the owner of your namespace approves agents, or with the gateway's operator".to_owned(),
        |url| format!("at {url}"),
    );
    let claim = registration.claim_id.as_deref().map_or_else(String::new, |id| format!(" (claim `{id}`)"));
    let command = approve_command(registration).map_or_else(String::new, |command| {
        format!(" On a command line the owner does it with `{command}`.")
    });
    format!(
        "# Approval needed: AUTH_CLAIM_REQUIRED\n\n\
         This agent's key may not use `{connection}` yet. Claim status: `{status}`{claim}.\n\n\
         This is no fault, and nothing is to be reported as one. What to do:\n\n\
         1. Ask your user to approve this agent for `{connection}` {link}.{command}\n\
         2. Wait until the user says that it is done.\n\
         3. Send the same request again, signed anew.\n\n\
         Do not look for another way to reach the service. Request id: `{request_id}`.\n",
        status = registration.status,
    )
}
