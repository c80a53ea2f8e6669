//! The one place where a refusal becomes a status and an envelope.

use std::net::IpAddr;

use bytes::Bytes;
use http::StatusCode;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::proxy::Gateway;
use super::refusal::Refusal;
use super::{body, record};
use crate::claims::Registration;
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

/// Answers a request that Pingora has read, unless an answer has already begun.
pub(super) async fn send(
    session: &mut Session,
    refusal: Refusal,
    exchange: &mut Exchange,
) -> pingora_core::Result<()> {
    let verdict = verdict(&refusal);
    let (content_type, content) =
        content(&refusal, verdict, exchange.request_id(), exchange, accepts_markdown(session));
    exchange.refused(refusal, verdict);
    if session.response_written().is_some_and(|written| !written.status.is_informational()) {
        return Ok(());
    }
    let mut head = ResponseHeader::build(verdict.status, Some(6))?;
    head.insert_header("content-type", content_type)?;
    head.insert_header("content-length", content.len())?;
    head.insert_header("cache-control", "no-store")?;
    head.insert_header("x-request-id", exchange.request_id().as_str())?;
    if let Some(seconds) = verdict.retry_after_secs {
        head.insert_header("retry-after", seconds)?;
    }
    let keep = verdict.keep_connection && session.is_body_done();
    if !keep {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(Bytes::from(content)), true).await?;
    if !keep {
        body::linger(session).await;
    }
    Ok(())
}

fn accepts_markdown(session: &Session) -> bool {
    session.req_header().headers.get_all("accept").iter().any(|accept| {
        accept.to_str().is_ok_and(|accept| accept.to_ascii_lowercase().contains("text/markdown"))
    })
}

fn content(
    refusal: &Refusal,
    verdict: Verdict,
    request_id: &RequestId,
    exchange: &Exchange,
    markdown: bool,
) -> (&'static str, Vec<u8>) {
    let sentence = refusal.to_string();
    let claim = match refusal {
        Refusal::ClaimRequired(registration) if markdown => {
            let page = claim_page(registration, exchange.connection_id().unwrap_or_default(), request_id);
            return ("text/markdown; charset=utf-8", page.into_bytes());
        }
        Refusal::ClaimRequired(registration) => serde_json::to_value(registration).ok(),
        _ => None,
    };
    let envelope = Envelope {
        error: &sentence,
        code: verdict.code,
        reason: verdict.reason,
        claim,
        request_id,
        timestamp: exchange.received(),
    };
    ("application/json", envelope.to_json())
}

/// What a language model should do next.
fn claim_page(registration: &Registration, connection: &str, request_id: &RequestId) -> String {
    let link = registration.approve_url.as_deref().map_or_else(
        || "in the Sigilum dashboard or with `sigilum claim approve`".to_owned(),
        |url| format!("at {url}"),
    );
    let claim = registration.claim_id.as_deref().map_or_else(String::new, |id| format!(" (claim `{id}`)"));
    format!(
        "# Approval needed: AUTH_CLAIM_REQUIRED\n\n\
         This agent's key may not use `{connection}` yet. Claim status: `{status}`{claim}.\n\n\
         This is no fault, and nothing is to be reported as one. What to do:\n\n\
         1. Ask your user to approve this agent for `{connection}` {link}.\n\
         2. Wait until the user says that it is done.\n\
         3. Send the same request again, signed anew.\n\n\
         Do not look for another way to reach the service. Request id: `{request_id}`.\n",
        status = registration.status,
    )
}

/// The whole answer to a head that Pingora never saw, as bytes; the connection closes after it.
pub(super) fn raw(refusal: &Refusal, gateway: &Gateway, client: Option<IpAddr>) -> Vec<u8> {
    let verdict = verdict(refusal);
    let exchange = Exchange::begin(gateway.clock(), client);
    let (content_type, content) = content(refusal, verdict, exchange.request_id(), &exchange, false);
    let retry_after =
        verdict.retry_after_secs.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-request-id: {}\r\n{retry_after}connection: close\r\n\r\n",
        verdict.status.as_u16(),
        verdict.status.canonical_reason().unwrap_or_default(),
        content.len(),
        exchange.request_id(),
    )
    .into_bytes();
    answer.extend_from_slice(&content);
    record::refused_head(gateway, &exchange, verdict);
    answer
}
