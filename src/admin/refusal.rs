//! The only place where an admin refusal becomes a status and an envelope.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;

use crate::clock::UnixTime;
use crate::envelope::Envelope;
use crate::names::RequestId;

/// Why an admin request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The access mode needs a token, and none is configured.
    TokenNotConfigured,
    /// The token is missing or wrong.
    TokenRequired,
    /// The caller is not on this machine.
    LoopbackRequired,
    /// The caller is neither on this machine nor has the token.
    TokenOrLoopbackRequired,
    /// A browser's page of a foreign origin, or a host name that is not ours.
    OriginForbidden,
    /// No such route.
    NotFound,
    /// The route has not this method.
    MethodNotAllowed,
    /// The gateway waits for this.
    NotReady(&'static str),
    /// The answer took longer than an admin request may.
    TimedOut,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::TokenRequired | Self::TokenOrLoopbackRequired => StatusCode::UNAUTHORIZED,
            Self::LoopbackRequired | Self::OriginForbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TokenNotConfigured | Self::NotReady(_) | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::TokenNotConfigured => "ADMIN_TOKEN_NOT_CONFIGURED",
            Self::TokenRequired => "ADMIN_TOKEN_REQUIRED",
            Self::LoopbackRequired => "ADMIN_LOOPBACK_REQUIRED",
            Self::TokenOrLoopbackRequired => "ADMIN_TOKEN_OR_LOOPBACK_REQUIRED",
            Self::OriginForbidden => "ADMIN_ORIGIN_FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::NotReady(_) => "NOT_READY",
            Self::TimedOut => "ADMIN_TIMEOUT",
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::TokenNotConfigured => {
                "admin access needs a token and none is configured; set GATEWAY_ADMIN_TOKEN".into()
            }
            Self::TokenRequired => {
                "the admin token is missing or wrong; send it as X-Sigilum-Admin-Token".into()
            }
            Self::LoopbackRequired => "admin access is for callers on this machine only".into(),
            Self::TokenOrLoopbackRequired => {
                "admin access is for callers on this machine, or with the admin token as X-Sigilum-Admin-Token"
                    .into()
            }
            Self::OriginForbidden => {
                "the request's Origin or Host is not one that admin.allowed_origins and admin.allowed_hosts name"
                    .into()
            }
            Self::NotFound => "there is no such route on the admin listener".into(),
            Self::MethodNotAllowed => "this route does not take this method".into(),
            Self::NotReady(awaited) => format!("the gateway is not ready: it waits for {awaited}"),
            Self::TimedOut => "the admin request took too long and was given up".into(),
        }
    }

    /// The answer, with the status, the envelope and what HTTP asks for beside them.
    pub(super) fn answer(self, request_id: &RequestId, now: UnixTime) -> Response<Body> {
        let sentence = self.sentence();
        let envelope = Envelope {
            error: &sentence,
            code: self.code(),
            reason: None,
            claim: None,
            request_id,
            timestamp: now,
        };
        let mut response = Response::new(Body::from(envelope.to_json()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::TokenRequired | Self::TokenOrLoopbackRequired => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            _ => {}
        }
        response
    }
}

/// A handler's refusal travels as an extension up to the service, which knows the request's id and writes the answer.
impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}
