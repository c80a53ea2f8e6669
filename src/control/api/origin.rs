//! Which pages of a browser may call: the origins that the configuration allows, and our own.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use crate::control::ControlConfig;

/// How long a browser may remember what is allowed.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(600);

/// Whether a page of the request's `Origin` may act with its visitor's cookie. A request without one is none of a page of
/// ours: browsers send it with every request that could change something.
pub(super) fn may_act(config: &ControlConfig, headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (named.next(), named.next()) else { return false };
    let origin = origin.as_bytes();
    let own = config.public_url.as_ref().map(own_origin);
    config.allowed_origins.iter().chain(own.as_ref()).any(|allowed| allowed.as_bytes() == origin)
}

/// Tells browsers that pages of the allowed origins, and of no other, may call with their visitor's cookie.
pub(super) fn cors(config: &ControlConfig) -> CorsLayer {
    let origins = config.allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let signature = [
        "content-digest",
        "signature",
        "signature-input",
        "sigilum-agent-cert",
        "sigilum-agent-id",
        "sigilum-agent-key",
        "sigilum-namespace",
        "sigilum-subject",
        "x-sigilum-claim-binding",
        "x-request-id",
        "last-event-id",
    ];
    let headers = signature.map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(
            [header::AUTHORIZATION, header::CONTENT_TYPE].into_iter().chain(headers).collect::<Vec<_>>(),
        )
        .expose_headers([HeaderName::from_static("x-request-id"), header::RETRY_AFTER])
        .max_age(REMEMBERED)
}

fn own_origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}
