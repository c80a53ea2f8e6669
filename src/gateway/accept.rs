//! First stage: is this a request that the gateway serves, and where would it go?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use ipnet::IpNet;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::doorstep::Doorstep;
use super::exchange::{Exchange, Route};
use super::head;
use super::line::Line;
use super::path;
use super::plane::Gateway;
use super::refusal::Refusal;
use crate::protocol::{Contradiction, Origin, origin, received_uri};

/// What the request asks for.
#[derive(Debug)]
pub(super) enum Accepted {
    /// The gateway's own answer.
    Local(Local),
    /// The admin sidecar's.
    Admin,
    /// A connection, by the target that its client signed.
    Proxy(Message),
}

/// What the gateway answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    Health,
    Live,
    Ready,
}

/// What is verified, besides the headers.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) target_uri: String,
    pub(super) has_body: bool,
}

/// The alias of the contract: `/slack/…` is connection `slack-proxy`.
const SLACK: (&str, &str) = ("/slack", "slack-proxy");

pub(super) fn accept(
    gateway: &Gateway,
    session: &mut Session,
    exchange: &mut Exchange,
) -> Result<Accepted, Refusal> {
    let peer = peer_address(session);
    exchange.client = peer;
    session.set_write_timeout(Some(UNREAD_AT_MOST));
    exchange.identify_request(session.req_header().headers.get("x-request-id"));
    let has_body = body_follows(session);
    let request = session.req_header();
    let said = peer.map(|peer| said(&request.headers, peer, gateway.trusted_proxies())).transpose();
    if let Ok(Some(origin)) = said {
        exchange.client = Some(origin.client);
    }
    well_formed(request)?;
    if matches!(request.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodNotAllowed);
    }
    let target = std::str::from_utf8(request.raw_path()).map_err(|_| Refusal::Malformed(TARGET_FORM))?;
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if let Some(local) = local(path) {
        exchange.local = true;
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        return if reads { Ok(Accepted::Local(local)) } else { Err(Refusal::MethodNotAllowed) };
    }
    if gateway.admin().is_some() && (path == "/metrics" || path.starts_with("/api/admin/")) {
        exchange.local = true;
        return Ok(Accepted::Admin);
    }
    let said = said.map_err(|Contradiction| Refusal::Malformed(Contradiction::SENTENCE))?;
    // Only now: a full gateway still tells that it lives, and shows its operator why it is full.
    exchange.slots.in_flight = Some(gateway.enter()?);
    let (id, rest) = split_route(target).ok_or(Refusal::NotFound)?;
    let provider = gateway.provider(id).ok_or(Refusal::ConnectionNotFound)?;
    let config = provider.config();
    let target = path::upstream(provider.upstream.base_path(), &config.path_prefix, rest)?;
    let active = config.status == crate::connections::Status::Active;
    let rest_at = provider.upstream.base_path().len() + config.path_prefix.len();
    exchange.route = Some(Arc::new(Route { provider, target, rest_at }));
    exchange.method = request.method.clone();
    exchange.line = line(session);
    if !active {
        return Err(Refusal::ConnectionDisabled);
    }
    let target_uri = target_uri(session, said)?;
    Ok(Accepted::Proxy(Message { target_uri, has_body }))
}

/// The line that this exchange runs on: the HTTP/1 connection's, or the HTTP/2 stream's.
fn line(session: &Session) -> Option<Arc<Line>> {
    match session.stream() {
        Some(stream) => (**stream).as_any().downcast_ref::<Doorstep>()?.line().cloned(),
        None => session.req_header().extensions.get::<Arc<Line>>().cloned(),
    }
}

/// How long a client may leave what it is sent unread.
const UNREAD_AT_MOST: Duration = Duration::from_secs(60);

const TARGET_FORM: &str = "the request target must be a path of visible ASCII characters without fragment";

/// A client that comes by IPv4 to a listener of both families has its IPv4 address, as the networks of trusted proxies
/// are written.
pub(super) fn peer_address(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip().to_canonical())
}

fn said<'a>(headers: &'a HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Result<Origin<'a>, Contradiction> {
    origin(headers, peer, |address| trusted.iter().any(|net| net.contains(&address)))
}

/// HTTP/2 ends a stream with its head where there is no body; a declared length of 0 says the same.
fn body_follows(session: &mut Session) -> bool {
    if session.is_http2() && session.req_header().headers.get("content-length").is_none() {
        !session.is_body_done()
    } else {
        !session.is_body_empty()
    }
}

/// What the door checks of an HTTP/1 head, for heads that came by HTTP/2.
fn well_formed(request: &RequestHeader) -> Result<(), Refusal> {
    if !head::is_method(request.method.as_str().as_bytes()) {
        return Err(Refusal::Head(head::HeadFault::Method));
    }
    if !head::is_target(request.raw_path()) {
        return Err(Refusal::Malformed(TARGET_FORM));
    }
    if request.headers.get_all("expect").iter().any(|value| !head::is_expectation(value.as_bytes())) {
        return Err(Refusal::Head(head::HeadFault::Expect));
    }
    if request
        .headers
        .keys()
        .any(|name| name.as_str().contains('_') && head::shadows(name.as_str().as_bytes()))
    {
        return Err(Refusal::Head(head::HeadFault::Shadow));
    }
    let lengths = request.headers.get_all("content-length").iter().count();
    if lengths > 1 {
        return Err(Refusal::Head(head::HeadFault::ContentLength));
    }
    if request.headers.contains_key("trailer") {
        return Err(Refusal::Head(head::HeadFault::Trailer));
    }
    if let (Some(authority), Some(host)) = (request.uri.authority(), request.headers.get("host"))
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(Refusal::Malformed("Host and :authority must be the same"));
    }
    Ok(())
}

fn local(path: &str) -> Option<Local> {
    match path {
        "/health" => Some(Local::Health),
        "/health/live" => Some(Local::Live),
        "/health/ready" => Some(Local::Ready),
        _ => None,
    }
}

/// The connection's id and what follows it: empty, or from its `/` or `?` on.
fn split_route(target: &str) -> Option<(&str, &str)> {
    if let Some(rest) = target.strip_prefix(SLACK.0)
        && (rest.is_empty() || rest.starts_with(['/', '?']))
    {
        return Some((SLACK.1, rest));
    }
    let rest = target.strip_prefix("/proxy/")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (id, rest) = rest.split_at(end);
    (!id.is_empty()).then_some((id, rest))
}

/// The absolute URI that the client requested (RFC 9421 §2.2.2).
fn target_uri(session: &Session, said: Option<Origin<'_>>) -> Result<String, Refusal> {
    let request = session.req_header();
    let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let own_host = match (request.uri.authority(), request.headers.get("host")) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| Refusal::Head(head::HeadFault::Host))?,
        (None, None) => return Err(Refusal::Head(head::HeadFault::Host)),
    };
    let https = said.and_then(|said| said.https).unwrap_or(tls);
    let host = said.and_then(|said| said.host).unwrap_or(own_host);
    let path = std::str::from_utf8(request.raw_path()).map_err(|_| Refusal::Malformed(TARGET_FORM))?;
    received_uri(https, host, path).ok_or(Refusal::Head(head::HeadFault::Host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_is_split_behind_the_id() {
        assert_eq!(split_route("/proxy/openai/v1?a"), Some(("openai", "/v1?a")));
        assert_eq!(split_route("/proxy/openai?a=/b"), Some(("openai", "?a=/b")));
        assert_eq!(split_route("/proxy/openai"), Some(("openai", "")));
        assert_eq!(split_route("/slack/api/x"), Some(("slack-proxy", "/api/x")));
        assert_eq!(split_route("/slack"), Some(("slack-proxy", "")));
        for none in ["/", "/proxy", "/proxy/", "/proxy//x", "/slackx", "/health"] {
            assert_eq!(split_route(none), None, "{none}");
        }
    }
}
