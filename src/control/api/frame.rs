//! What every answer has in common: a request id, the envelope around a refusal, a line in the metrics, and that a panic
//! stays one answer's affair.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;

use super::refusal::{Kind, Refusal};
use crate::control::ControlPlane;
use crate::names::RequestId;
use crate::protocol::{Contradiction, origin};

/// The name of the header that carries the request's id both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Headers that a proxy adds. A proxy on this machine speaks for callers that need not be on it.
const FORWARDING: [HeaderName; 4] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    header::VIA,
];

/// The address that the connection comes from; the listener sets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who asks, before it is known for whom.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// The request's id.
    pub(super) request_id: RequestId,
    /// Where the connection comes from.
    pub(super) peer: IpAddr,
    /// The client's address, as far as trusted proxies tell of another.
    pub(super) client: IpAddr,
    /// Whether the caller is on this machine, and no proxy speaks for another.
    pub(super) near: bool,
}

/// The frame around every handler.
pub(super) async fn frame(
    State(plane): State<Arc<ControlPlane>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = plane.clock.instant();
    let request_id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let answering = async {
        match asker(&plane, &request, &request_id) {
            Ok(asker) => {
                request.extensions_mut().insert(asker);
                next.run(request).await
            }
            Err(contradiction) => Refusal::from(contradiction).into_response(),
        }
    };
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(%request_id, "a request made the control plane panic");
        Refusal::internal().into_response()
    });
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        if refusal.kind() == Kind::RateLimited {
            plane.metrics.rate_limited();
        }
        refusal.write(&mut response, &request_id, plane.clock.now());
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An id holds only what a header may.
    if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let took = plane.clock.instant().saturating_duration_since(begun);
    plane.metrics.request(route, response.status().as_u16(), took);
    response
}

fn asker(plane: &ControlPlane, request: &Request, id: &RequestId) -> Result<Asker, Contradiction> {
    let headers = request.headers();
    let peer = request
        .extensions()
        .get::<Peer>()
        .map_or(IpAddr::from([0, 0, 0, 0]), |Peer(address)| address.to_canonical());
    let client = origin(headers, peer, |address| plane.trusts(address))?.client;
    let near = peer.is_loopback() && !FORWARDING.iter().any(|name| headers.contains_key(name));
    Ok(Asker { request_id: id.clone(), peer, client, near })
}

/// The client's own id where it is safe, else a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    let sent = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    sent.unwrap_or_else(|| {
        let mut random = [0; 16];
        // Without random bytes the id is one of zeros; it names nothing then, and the answer is still right.
        let _ = getrandom::fill(&mut random);
        RequestId::from_random(random)
    })
}

/// Reads who asks. The frame has always put it there.
pub(super) fn who_asks(parts: &Parts) -> Result<Asker, Refusal> {
    parts.extensions.get::<Asker>().cloned().ok_or_else(Refusal::internal)
}

/// A caller of a public route that asks the database, counted by its address.
pub(super) struct Anyone(pub(super) Asker);

impl FromRequestParts<Arc<ControlPlane>> for Anyone {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let asker = who_asks(parts)?;
        plane.rates.count_address(asker.client)?;
        Ok(Self(asker))
    }
}

/// The credentials of `Authorization: Bearer`, where there are any; the scheme's case does not matter (RFC 9110 §11.1).
///
/// # Errors
/// When the header stands there twice, or is of another scheme.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let wrong = || Refusal::new(Kind::RequestInvalid, "send one Authorization header, of the scheme Bearer");
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (sent.next(), sent.next());
    let Some(first) = first else { return Ok(None) };
    let text = first.to_str().map_err(|_| wrong())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(wrong)?;
    if second.is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return Err(wrong());
    }
    Ok(Some(token.trim()))
}
