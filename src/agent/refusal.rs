//! The only place where a refusal of the agent becomes a status and an envelope.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::{SignerFault, TargetFault};
use crate::clock::UnixTime;
use crate::envelope::Envelope;
use crate::names::RequestId;

/// Why the agent answers by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the agent passes neither CONNECT nor TRACE")]
    Method,
    #[error("the agent answers only to this machine's own names; call it as http://127.0.0.1 and its port")]
    Host,
    #[error("the agent does not sign for web pages of other origins")]
    Origin,
    #[error(transparent)]
    Path(#[from] TargetFault),
    #[error("the body is larger than the {0} bytes that the agent takes; start it with a larger --max-body")]
    BodyTooLarge(usize),
    #[error("the body broke off before its end")]
    BodyBroken,
    #[error("the body stood still for too long")]
    BodyStalled,
    #[error("the request cannot be signed: {0}")]
    Unsigned(#[from] SignerFault),
    #[error("the agent has as many requests under way as it takes; try again")]
    Overloaded,
    #[error("the gateway at {gateway} cannot be reached: {cause}")]
    Unreachable { gateway: String, cause: String },
}

impl Refusal {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::Host => (StatusCode::FORBIDDEN, "AGENT_HOST_FORBIDDEN"),
            Self::Origin => (StatusCode::FORBIDDEN, "AGENT_ORIGIN_FORBIDDEN"),
            Self::Path(_) => (StatusCode::BAD_REQUEST, "PATH_INVALID"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_BODY_TOO_LARGE"),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "REQUEST_BODY_INCOMPLETE"),
            Self::BodyStalled => (StatusCode::REQUEST_TIMEOUT, "REQUEST_BODY_TIMEOUT"),
            Self::Unsigned(_) => (StatusCode::BAD_REQUEST, "REQUEST_UNSIGNABLE"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED"),
            Self::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "UPSTREAM_ERROR"),
        }
    }

    /// The answer to a request that came with `headers`: its `x-request-id` is kept where it is a safe one.
    pub(super) fn answer(&self, headers: &HeaderMap, now: UnixTime) -> Response<Bytes> {
        let (status, code) = self.status_and_code();
        let request_id = request_id(headers);
        let error = self.to_string();
        let envelope = Envelope {
            error: &error,
            code,
            reason: None,
            claim: None,
            request_id: &request_id,
            timestamp: now,
        };
        let mut response = Response::new(Bytes::from(envelope.to_json()));
        *response.status_mut() = status;
        let answer = response.headers_mut();
        answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id.as_str()) {
            answer.insert("x-request-id", id);
        }
        if matches!(self, Self::Overloaded) {
            answer.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let mut bytes = [0; 16];
        // Without randomness the id is zero: it names a refusal in a log, and guards nothing.
        let _ = getrandom::fill(&mut bytes);
        RequestId::from_random(bytes)
    })
}
