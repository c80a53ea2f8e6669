//! The only place where a refusal of the control plane becomes a status and an envelope.

use std::borrow::Cow;
use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use crate::clock::UnixTime;
use crate::envelope::Envelope;
use crate::names::RequestId;

/// Why a request is not served: what is told, and nothing of what was sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    kind: Kind,
    sentence: Cow<'static, str>,
    reason: Option<&'static str>,
    details: Option<Box<Value>>,
    retry_after_secs: Option<u64>,
}

/// What a refusal is about; it decides status and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No such route.
    NotFound,
    /// The route has not this method.
    MethodNotAllowed,
    /// The request's head cannot be understood.
    RequestInvalid,
    /// The body did not come in time.
    RequestTimeout,
    /// The answer took too long.
    TimedOut,
    /// The body is too large.
    BodyTooLarge,
    /// The body did not come whole.
    BodyIncomplete,
    /// The body is no JSON.
    BodyInvalid,
    /// The body is not declared as JSON.
    NotDeclaredJson,
    /// A field of the body, the path or the query cannot be what it is.
    FieldInvalid,
    /// The caller sends too many requests.
    RateLimited,
    /// As much as may be is at work.
    Overloaded,
    /// The database cannot be reached.
    DatabaseUnavailable,
    /// It cannot serve at present.
    NotReady,
    /// A fault of the control plane itself.
    Internal,
    /// No owner token.
    TokenRequired,
    /// An owner token that does not hold.
    TokenInvalid,
    /// An owner token whose time is over.
    TokenExpired,
    /// A cookie sent by a page that is not allowed.
    OriginForbidden,
    /// The signature does not hold; the code is the protocol's.
    Signature(&'static str),
    /// The signature's nonce was seen before.
    Replay,
    /// No service API key.
    KeyRequired,
    /// A service API key that does not hold.
    KeyInvalid,
    /// The service API key does not open this service.
    KeyForbidden,
    /// The caller does not act for this namespace.
    NamespaceForbidden,
    /// No such namespace.
    NamespaceNotFound,
    /// No such service.
    ServiceNotFound,
    /// The slug is taken.
    ServiceExists,
    /// No such service API key.
    KeyNotFound,
    /// No such webhook.
    WebhookNotFound,
    /// No such claim.
    ClaimNotFound,
    /// The decision does not follow from where the claim is.
    ClaimTransition,
    /// Two owners must approve.
    SecondApprover,
    /// The signature does not bind to what is claimed.
    ClaimBinding,
    /// The submission's nonce was used before.
    NonceReplay,
    /// There may be no more of these.
    LimitReached,
    /// The text is no DID of ours.
    DidInvalid,
    /// The DID names nobody.
    DidNotFound,
    /// The DID's namespace is gone.
    DidDeactivated,
    /// The route is a WebSocket.
    UpgradeRequired,
    /// No such pairing session.
    PairingNotFound,
    /// The session's time is over.
    PairingExpired,
    /// The session was revoked.
    PairingRevoked,
    /// The pair code is wrong.
    PairingCodeInvalid,
    /// The pair code was wrong too often.
    PairingTooManyTries,
    /// The session is another gateway's.
    PairingOtherGateway,
    /// The command may not pass; status and code are the protocol's.
    Command(u16, &'static str),
    /// As many commands of the session are under way as may be.
    CommandsLimit,
    /// No socket of the gateway is open.
    GatewayNotConnected,
    /// The gateway did not answer in time.
    GatewayTimeout,
}

impl Kind {
    fn verdict(self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::NotFound => (S::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::RequestInvalid => (S::BAD_REQUEST, "REQUEST_INVALID"),
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
            Self::TimedOut => (S::SERVICE_UNAVAILABLE, "CONTROL_TIMEOUT"),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "REQUEST_BODY_TOO_LARGE"),
            Self::BodyIncomplete => (S::BAD_REQUEST, "REQUEST_BODY_INCOMPLETE"),
            Self::BodyInvalid => (S::BAD_REQUEST, "REQUEST_BODY_INVALID"),
            Self::NotDeclaredJson => (S::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE_UNSUPPORTED"),
            Self::FieldInvalid => (S::BAD_REQUEST, "FIELD_INVALID"),
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            Self::Overloaded => (S::SERVICE_UNAVAILABLE, "OVERLOADED"),
            Self::DatabaseUnavailable => (S::SERVICE_UNAVAILABLE, "DATABASE_UNAVAILABLE"),
            Self::NotReady => (S::SERVICE_UNAVAILABLE, "NOT_READY"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "INTERNAL"),
            Self::TokenRequired => (S::UNAUTHORIZED, "AUTH_TOKEN_REQUIRED"),
            Self::TokenInvalid => (S::UNAUTHORIZED, "AUTH_TOKEN_INVALID"),
            Self::TokenExpired => (S::UNAUTHORIZED, "AUTH_TOKEN_EXPIRED"),
            Self::OriginForbidden => (S::FORBIDDEN, "ORIGIN_FORBIDDEN"),
            Self::Signature(code) => (S::FORBIDDEN, code),
            Self::Replay => (S::FORBIDDEN, "AUTH_REPLAY_DETECTED"),
            Self::KeyRequired => (S::UNAUTHORIZED, "SERVICE_KEY_REQUIRED"),
            Self::KeyInvalid => (S::UNAUTHORIZED, "SERVICE_KEY_INVALID"),
            Self::KeyForbidden => (S::FORBIDDEN, "SERVICE_KEY_FORBIDDEN"),
            Self::NamespaceForbidden => (S::FORBIDDEN, "NAMESPACE_FORBIDDEN"),
            Self::NamespaceNotFound => (S::NOT_FOUND, "NAMESPACE_NOT_FOUND"),
            Self::ServiceNotFound => (S::NOT_FOUND, "SERVICE_NOT_FOUND"),
            Self::ServiceExists => (S::CONFLICT, "SERVICE_EXISTS"),
            Self::KeyNotFound => (S::NOT_FOUND, "SERVICE_KEY_NOT_FOUND"),
            Self::WebhookNotFound => (S::NOT_FOUND, "WEBHOOK_NOT_FOUND"),
            Self::ClaimNotFound => (S::NOT_FOUND, "CLAIM_NOT_FOUND"),
            Self::ClaimTransition => (S::CONFLICT, "CLAIM_TRANSITION_INVALID"),
            Self::SecondApprover => (S::CONFLICT, "SECOND_APPROVER_REQUIRED"),
            Self::ClaimBinding => (S::FORBIDDEN, "CLAIM_BINDING_INVALID"),
            Self::NonceReplay => (S::CONFLICT, "NONCE_REPLAY"),
            Self::LimitReached => (S::CONFLICT, "LIMIT_REACHED"),
            Self::DidInvalid => (S::BAD_REQUEST, "DID_INVALID"),
            Self::DidNotFound => (S::NOT_FOUND, "DID_NOT_FOUND"),
            Self::DidDeactivated => (S::GONE, "DID_DEACTIVATED"),
            Self::UpgradeRequired => (S::UPGRADE_REQUIRED, "UPGRADE_REQUIRED"),
            Self::PairingNotFound => (S::NOT_FOUND, "PAIRING_NOT_FOUND"),
            Self::PairingExpired => (S::GONE, "PAIRING_EXPIRED"),
            Self::PairingRevoked => (S::GONE, "PAIRING_REVOKED"),
            Self::PairingCodeInvalid => (S::FORBIDDEN, "PAIRING_CODE_INVALID"),
            Self::PairingTooManyTries => (S::FORBIDDEN, "PAIRING_TOO_MANY_TRIES"),
            Self::PairingOtherGateway => (S::FORBIDDEN, "PAIRING_OTHER_GATEWAY"),
            Self::Command(status, code) => (S::from_u16(status).unwrap_or(S::FORBIDDEN), code),
            Self::CommandsLimit => (S::TOO_MANY_REQUESTS, "PAIRING_COMMANDS_LIMIT"),
            Self::GatewayNotConnected => (S::SERVICE_UNAVAILABLE, "GATEWAY_NOT_CONNECTED"),
            Self::GatewayTimeout => (S::GATEWAY_TIMEOUT, "GATEWAY_TIMEOUT"),
        }
    }
}

impl Refusal {
    /// A refusal of this kind, with its sentence.
    pub(super) fn new(kind: Kind, sentence: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, sentence: sentence.into(), reason: None, details: None, retry_after_secs: None }
    }

    /// Of a field of the body, the path or the query; the sentence begins with its name.
    pub(super) fn field(name: &str, fault: &impl Display) -> Self {
        Self::new(Kind::FieldInvalid, format!("{name}: {fault}"))
    }

    /// Of a control plane at its limit.
    pub(super) fn overloaded(sentence: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Overloaded, sentence).retry(5)
    }

    /// Of a fault of the control plane itself, which the log tells of.
    pub(super) fn internal() -> Self {
        Self::new(Kind::Internal, "the control plane failed at this request; its log may say more")
    }

    /// Of a field inside this one; other refusals stay what they are.
    pub(super) fn under(mut self, name: &str) -> Self {
        if self.kind == Kind::FieldInvalid {
            self.sentence = format!("{name}.{}", self.sentence).into();
        }
        self
    }

    /// With the reason that the protocol gives for its code, where it gives one.
    pub(super) fn because(mut self, reason: Option<&'static str>) -> Self {
        self.reason = reason;
        self
    }

    /// With what programs may want to know beside the code.
    pub(super) fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// With the seconds after which a retry makes sense.
    pub(super) fn retry(mut self, after_secs: u64) -> Self {
        self.retry_after_secs = Some(after_secs);
        self
    }

    /// What it is about.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Writes status, envelope and what HTTP asks for beside them into the answer, whose other headers stay.
    pub(super) fn write(&self, response: &mut Response<Body>, request_id: &RequestId, now: UnixTime) {
        let (status, code) = self.kind.verdict();
        let envelope = Envelope {
            error: &self.sentence,
            code,
            reason: self.reason,
            claim: None,
            request_id,
            timestamp: now,
        };
        *response.body_mut() = Body::from(self.detailed(envelope.to_json()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.remove(header::CONTENT_LENGTH);
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self.kind, Kind::BodyTooLarge | Kind::RequestTimeout | Kind::BodyIncomplete) {
            // What is left of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn detailed(&self, envelope: Vec<u8>) -> Vec<u8> {
        let Some(details) = &self.details else { return envelope };
        let Ok(mut whole) = serde_json::from_slice::<Map<String, Value>>(&envelope) else { return envelope };
        whole.insert("details".to_owned(), details.as_ref().clone());
        serde_json::to_vec(&whole).unwrap_or(envelope)
    }
}

/// A refusal travels as an extension up to the frame, which knows the request's id and writes the answer.
impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.kind.verdict().0;
        response.extensions_mut().insert(self);
        response
    }
}
