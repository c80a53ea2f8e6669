//! The admin service: what every answer has in common.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::access::{Guard, Way};
use super::refusal::Refusal;
use super::routes::{Asker, routes};
use super::{AdminSettings, Bound, Handles};
use crate::clock::Clock;
use crate::connections::SecretUnreadable;
use crate::names::RequestId;

/// The name of the header that carries the request's id both ways.
const REQUEST_ID: &str = "x-request-id";

/// Why the sidecar cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminFault {
    /// A token is configured, and cannot be read.
    #[error("the admin token cannot be read: {0}")]
    Token(#[from] SecretUnreadable),
    /// The address cannot be listened on.
    #[error("the admin listener cannot take {address}: {cause}")]
    Bind {
        /// The address configured.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// The admin sidecar. It serves only once [`Admin::bind`] has given it a listener.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    timeout: Duration,
    clock: Clock,
    routes: TowerToHyperService<Router>,
}

impl Admin {
    /// A sidecar of these settings. The token is read now, and kept as a digest.
    ///
    /// # Errors
    /// When a token is configured and cannot be read.
    pub fn new(settings: &AdminSettings, handles: Handles) -> Result<Self, AdminFault> {
        let token = settings.token.as_ref().map(|source| source.read()).transpose()?;
        let guard = Arc::new(Guard::new(settings, token.as_ref()));
        let clock = handles.clock.clone();
        let routes = TowerToHyperService::new(routes(guard, handles));
        Ok(Self { address: settings.address, timeout: settings.timeout, clock, routes })
    }

    /// Takes the configured address.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub async fn bind(self) -> Result<Bound, AdminFault> {
        let address = self.address;
        Bound::take(self, address).await.map_err(|cause| AdminFault::Bind { address, cause })
    }

    /// For one whole request, its head as well.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Answers one request of `peer`, whose address decides about access. Every answer carries `x-request-id`, and every
    /// refusal is the envelope.
    pub async fn answer(&self, request: Request, peer: IpAddr) -> Response<Body> {
        self.answer_to(request, peer, None).await
    }

    /// Answers one request of the pairing's bridge. Access is the bridge's own affair: it executes nothing but
    /// [`Allowed`](crate::protocol::pairing::Allowed) commands, so that address, token, origin and host do not count.
    /// All else is as in [`Admin::answer`]; audit lines have the way `pairing` and no address.
    pub async fn answer_paired(&self, request: Request) -> Response<Body> {
        self.answer_to(request, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(Way::Pairing)).await
    }

    async fn answer_to(&self, mut request: Request, peer: IpAddr, way: Option<Way>) -> Response<Body> {
        let request_id = request_id(&request);
        request.extensions_mut().insert(Asker { peer, request_id: request_id.clone(), way });
        let routed = self.routes.call(request);
        let answered = within(self.timeout, routed).await.unwrap_or_else(IntoResponse::into_response);
        let mut response = match answered.extensions().get::<Refusal>() {
            Some(refusal) => {
                let mut told = refusal.answer(&request_id, self.clock.now());
                if let Some(methods) = answered.headers().get(header::ALLOW) {
                    told.headers_mut().insert(header::ALLOW, methods.clone());
                }
                told
            }
            None => answered,
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // An id holds only what a header may.
        if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
}

/// The client's own id where it is safe, else a new one.
fn request_id(request: &Request) -> RequestId {
    let sent = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    sent.unwrap_or_else(|| {
        let mut random = [0; 16];
        // Without random bytes the id is one of zeros; it names nothing then, and the answer is still right.
        let _ = getrandom::fill(&mut random);
        RequestId::from_random(random)
    })
}

async fn within(
    timeout: Duration,
    routed: impl Future<Output = Result<Response<Body>, std::convert::Infallible>>,
) -> Result<Response<Body>, Refusal> {
    match tokio::time::timeout(timeout, routed).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(_) => Err(Refusal::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answer_that_takes_too_long_is_given_up() {
        let refused = within(Duration::ZERO, std::future::pending()).await;
        assert_eq!(refused.err(), Some(Refusal::TimedOut));
    }
}
