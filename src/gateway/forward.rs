//! Fourth stage: what goes to the upstream, and to which endpoint; and what of its answer ends here.

use std::time::Instant;

use http::{HeaderName, HeaderValue, StatusCode};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::exchange::{Exchange, Route};
use super::refusal::Refusal;
use crate::connections::Credential;

/// Chooses the endpoint of the next attempt.
pub(super) async fn choose(
    session: &Session,
    exchange: &mut Exchange,
    now: Instant,
) -> Result<Box<HttpPeer>, Refusal> {
    let route = exchange.route.as_ref().ok_or(Refusal::Internal)?;
    let key = exchange
        .verified
        .as_ref()
        .map(|verified| verified.agent().public_key.as_bytes().as_slice())
        .unwrap_or_default();
    let upstream = &route.provider.upstream;
    let tried = exchange.endpoint.take();
    let choice = upstream
        .choose(key, tried.as_deref(), session.is_upgrade_req(), now)
        .await
        .ok_or(Refusal::UpstreamUnavailable)?;
    exchange.attempts += 1;
    if exchange.attempts == 1 {
        upstream.retries().count_request();
    }
    exchange.endpoint = Some(choice.facts);
    Ok(choice.peer)
}

/// Takes out what the upstream must not see, and sets host, path and query. The secret comes after.
pub(super) fn rewrite(
    route: &Route,
    authority: &HeaderValue,
    credential: Option<&Credential>,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let names: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in names {
        request.remove_header(&name);
    }
    // The gateway has asked for the body itself by now.
    request.remove_header("expect");
    let target = super::inject::target(route, credential);
    request.set_raw_path(target.as_bytes())?;
    request.insert_header("host", authority.clone())
}

/// What belongs to the exchange between agent and gateway alone. Hop-by-hop fields are Pingora's to remove.
fn is_ours(name: &str) -> bool {
    matches!(name, "signature" | "signature-input" | "content-digest") || name.starts_with("sigilum-")
}

/// Takes out of an answer what was said to this gateway alone: the fields that its `Connection` names (RFC 9110 §7.6.1).
/// Pingora removes them from requests only; it writes `Connection` itself.
pub(super) fn end_hop(head: &mut ResponseHeader) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let named: Vec<HeaderName> = head
        .headers
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_framing(name.as_str()))
        .collect();
    for name in &named {
        head.remove_header(name);
    }
    for name in ["connection", "keep-alive", "proxy-connection"] {
        head.remove_header(name);
    }
}

/// Where the answer ends is not for `Connection` to take away.
fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding")
}
