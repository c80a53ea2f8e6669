//! The exchange with the upstream, step by step, once a request is admitted.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::body::Body;
use super::exchange::Exchange;
use super::forward;
use super::inject;
use super::plane::Gateway;
use super::reflect::{self, BodyGuard, Reflected};
use super::refusal::{Refusal, UpstreamFault};
use crate::connections::Reflection;

/// A new attempt begins.
pub(super) async fn peer(
    gateway: &Gateway,
    session: &Session,
    exchange: &mut Exchange,
) -> Result<Box<HttpPeer>> {
    let now = gateway.clock().instant();
    let began = *exchange.times.upstream_began.get_or_insert(now);
    if let Body::Held(held) = &mut exchange.body {
        held.restart();
    }
    let peer = match left_of_total(exchange, now.saturating_duration_since(began)) {
        Some(Duration::ZERO) => Err(Refusal::UpstreamTimeout),
        left => forward::choose(session, exchange, now).await.map(|mut peer| {
            left.into_iter().for_each(|left| bound(&mut peer.options, left));
            peer
        }),
    };
    peer.map_err(|refusal| broken_off(exchange, refusal))
}

/// What `spent` leaves of the time for the whole exchange; `None`: there is no limit.
fn left_of_total(exchange: &Exchange, spent: Duration) -> Option<Duration> {
    let total = exchange.route.as_ref()?.provider.config().timeouts.total?;
    Some(total.saturating_sub(spent))
}

/// No single wait of the attempt is longer than `left`.
fn bound(options: &mut PeerOptions, left: Duration) {
    for wait in [
        &mut options.connection_timeout,
        &mut options.total_connection_timeout,
        &mut options.read_timeout,
        &mut options.write_timeout,
    ] {
        *wait = Some(wait.map_or(left, |wait| wait.min(left)));
    }
}

/// The head leaves: rewritten, and with the secret, which only a permit opens.
pub(super) fn request(exchange: &mut Exchange, request: &mut RequestHeader) -> Result<()> {
    let prepared = prepare(exchange, request);
    match prepared {
        Ok(()) => Ok(()),
        Err(Some(refusal)) => Err(broken_off(exchange, refusal)),
        Err(None) => Err(broken_off(exchange, Refusal::Internal)),
    }
}

fn prepare(exchange: &mut Exchange, request: &mut RequestHeader) -> std::result::Result<(), Option<Refusal>> {
    let (Some(route), Some(permit), Some(endpoint)) = (&exchange.route, &exchange.permit, &exchange.endpoint)
    else {
        return Err(None);
    };
    let lent = route.provider.lend().map_err(|_| Some(Refusal::SecretUnreadable))?;
    let (credential, sending) = lent.unzip();
    forward::rewrite(route, &endpoint.authority, credential.as_deref(), request).map_err(|_| None)?;
    if let Some(credential) = &credential {
        inject::inject(permit, credential, request).map_err(|_| None)?;
    }
    exchange.injected = credential;
    exchange.sending = sending;
    Ok(())
}

/// A part of the request's body leaves, as far as it may.
pub(super) fn request_body(
    gateway: &Gateway,
    session: &Session,
    exchange: &mut Exchange,
    part: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    // The head has left by now: Pingora writes it before it looks for a body.
    exchange.sending = None;
    // After an upgrade there are no bodies any more, only bytes of another protocol.
    if session.was_upgraded() {
        return Ok(());
    }
    let Body::Held(held) = &mut exchange.body else { return Ok(()) };
    held.pass(part, end, gateway.clock().instant()).map_err(|refusal| broken_off(exchange, refusal))
}

/// The head of the upstream's answer is there.
pub(super) fn response(
    gateway: &Gateway,
    session: &Session,
    exchange: &mut Exchange,
    head: &mut ResponseHeader,
) -> Result<()> {
    // Pingora would hand it on as an interim answer, and the client leave HTTP while we stay in it.
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req() {
        return Err(broken_off(exchange, Refusal::Upstream(UpstreamFault::Protocol)));
    }
    exchange.sending = None;
    let now = gateway.clock().instant();
    if !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        exchange.times.upstream_head = Some(now);
        exchange.status = Some(head.status);
        if is_bodiless(session, head) {
            exchange.slots.leave();
        }
    }
    forward::end_hop(head);
    if let Some(credential) = &exchange.injected {
        let reflection = reflection(exchange);
        if reflection.mask_headers {
            reflect::scrub(credential, head);
        }
        exchange.reflected = BodyGuard::new(credential, reflection.body, head);
    }
    if let Some(since) = exchange.rotation_due {
        head.insert_header(
            "x-sigilum-rotation-warning",
            format!("the provider's secret is due to be replaced since {since}"),
        )?;
    }
    head.insert_header("x-request-id", exchange.request_id().as_str())
}

fn reflection(exchange: &Exchange) -> Reflection {
    exchange.route.as_ref().map(|route| route.provider.config().reflection).unwrap_or_default()
}

/// Whether the answer ends with its head (RFC 9110 §6.4.1).
fn is_bodiless(session: &Session, head: &ResponseHeader) -> bool {
    session.req_header().method == http::Method::HEAD
        || matches!(head.status, http::StatusCode::NO_CONTENT | http::StatusCode::NOT_MODIFIED)
        || head.headers.get("content-length").is_some_and(|length| length == "0")
}

/// A part of the upstream's answer is there.
pub(super) fn response_body(
    gateway: &Gateway,
    exchange: &mut Exchange,
    part: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    let now = gateway.clock().instant();
    exchange.times.upstream_last = Some(now);
    exchange.response_bytes += part.as_ref().map_or(0, Bytes::len) as u64;
    if end {
        exchange.slots.leave();
    }
    let spent = exchange.times.upstream_began.map(|began| now.saturating_duration_since(began));
    if spent.and_then(|spent| left_of_total(exchange, spent)) == Some(Duration::ZERO) {
        return Err(broken_off(exchange, Refusal::UpstreamTimeout));
    }
    match exchange.reflected.as_mut().map(|guard| guard.pass(part, end)) {
        Some(Err(Reflected)) => Err(broken_off(exchange, Refusal::SecretReflected)),
        _ => Ok(()),
    }
}

/// The answer ends with trailers: what is held back of its body cannot be sent before them, so it may not be lost unsaid.
pub(super) fn response_trailers(exchange: &mut Exchange, trailers: &mut http::HeaderMap) -> Result<()> {
    if let Some(credential) = &exchange.injected
        && reflection(exchange).mask_headers
    {
        reflect::scrub_trailers(credential, trailers);
    }
    match &exchange.reflected {
        Some(guard) if guard.holds_back() => {
            Err(broken_off(exchange, Refusal::Upstream(UpstreamFault::Protocol)))
        }
        _ => Ok(()),
    }
}

/// Ends a running exchange; `fail::answer` says why, where the answer has not begun.
///
/// The error counts as the client's: towards an HTTP/2 upstream Pingora would otherwise go on without a body.
fn broken_off(exchange: &mut Exchange, refusal: Refusal) -> Box<Error> {
    exchange.fault = Some(refusal);
    let mut error = Error::explain(ErrorType::InternalError, "ended by the gateway").into_down();
    error.set_retry(false);
    error
}
