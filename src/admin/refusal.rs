//! The only place where an admin refusal becomes a status and an envelope.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use super::ConfigFault;
use crate::clock::UnixTime;
use crate::connections::BookFault;
use crate::envelope::Envelope;
use crate::names::{NameError, RequestId};
use crate::vault::VaultFault;

/// Why an admin request is not served. No variant holds a secret or the bytes of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A body that is not declared as JSON.
    NotDeclaredJson,
    /// A body of more than this many bytes.
    BodyTooLarge(usize),
    /// The body did not come whole.
    BodyIncomplete,
    /// The reload found these faults in the configuration.
    ConfigInvalid(Vec<ConfigFault>),
    /// A refusal whose sentence depends on what was asked.
    Told(Kind, String),
    /// A fault of the gateway itself.
    Internal,
}

/// What a [`Refusal::Told`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The body is no JSON.
    BodyInvalid,
    /// A field that cannot be what it is.
    FieldInvalid,
    /// A secret that cannot be one.
    SecretInvalid,
    /// A sealed secret that does not open.
    SealedSecretInvalid,
    /// Over a pairing, a secret that is not sealed.
    SecretNotSealed,
    /// Over a pairing, a secret that refers to a variable.
    SecretReference,
    /// Over a pairing, a sealed secret for the second time.
    SealedSecretReplayed,
    /// Over a pairing, another way for a secret that is kept.
    SecretRequiredAnew,
    /// The id is taken.
    ConnectionExists,
    /// No such connection.
    ConnectionNotFound,
    /// The configuration's connections cannot be changed here.
    ConnectionReadOnly,
    /// It is no connection of that sort.
    NotMcp,
    /// No such variable.
    VariableNotFound,
    /// Connections refer to the variable.
    VariableReferenced,
    /// The book is full.
    LimitReached,
    /// There is no vault.
    NoVault,
    /// The gateway has no id to seal to.
    NoGatewayId,
    /// The vault takes no writes at present.
    VaultUnavailable,
    /// There is no space left for the vault.
    VaultFull,
    /// A master key that cannot be used.
    MasterKeyInvalid,
    /// The gateway was started without a file.
    NoConfigFile,
    /// The change is stored, and the data plane has not taken it over.
    NotInService,
    /// What is still to come.
    NotImplemented,
    /// There is no bridge.
    NoPairing,
    /// The gateway has no identity to sign with.
    NoIdentity,
    /// It is paired already.
    Paired,
    /// The pairing cannot be kept on disk.
    PairingNotKept,
}

impl Kind {
    fn verdict(self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BodyInvalid => (S::BAD_REQUEST, "REQUEST_BODY_INVALID"),
            Self::FieldInvalid => (S::BAD_REQUEST, "FIELD_INVALID"),
            Self::SecretInvalid => (S::BAD_REQUEST, "SECRET_INVALID"),
            Self::SealedSecretInvalid => (S::BAD_REQUEST, "SEALED_SECRET_INVALID"),
            Self::SecretNotSealed => (S::UNPROCESSABLE_ENTITY, "SECRET_NOT_SEALED"),
            Self::SecretReference => (S::FORBIDDEN, "SECRET_REFERENCE_NOT_ALLOWED"),
            Self::SealedSecretReplayed => (S::CONFLICT, "SEALED_SECRET_REPLAYED"),
            Self::SecretRequiredAnew => (S::CONFLICT, "SECRET_REQUIRED_ANEW"),
            Self::ConnectionExists => (S::CONFLICT, "CONNECTION_EXISTS"),
            Self::ConnectionNotFound => (S::NOT_FOUND, "CONNECTION_NOT_FOUND"),
            Self::ConnectionReadOnly => (S::CONFLICT, "CONNECTION_READ_ONLY"),
            Self::NotMcp => (S::CONFLICT, "CONNECTION_NOT_MCP"),
            Self::VariableNotFound => (S::NOT_FOUND, "CREDENTIAL_VARIABLE_NOT_FOUND"),
            Self::VariableReferenced => (S::CONFLICT, "CREDENTIAL_VARIABLE_REFERENCED"),
            Self::LimitReached => (S::CONFLICT, "LIMIT_REACHED"),
            Self::NoVault => (S::CONFLICT, "VAULT_NOT_CONFIGURED"),
            Self::NoGatewayId => (S::CONFLICT, "GATEWAY_ID_MISSING"),
            Self::VaultUnavailable => (S::SERVICE_UNAVAILABLE, "VAULT_UNAVAILABLE"),
            Self::VaultFull => (S::INSUFFICIENT_STORAGE, "VAULT_FULL"),
            Self::MasterKeyInvalid => (S::BAD_REQUEST, "MASTER_KEY_INVALID"),
            Self::NoConfigFile => (S::CONFLICT, "CONFIG_FILE_MISSING"),
            Self::NotInService => (S::INTERNAL_SERVER_ERROR, "CHANGE_NOT_IN_SERVICE"),
            Self::NotImplemented => (S::NOT_IMPLEMENTED, "NOT_IMPLEMENTED"),
            Self::NoPairing => (S::CONFLICT, "PAIRING_NOT_AVAILABLE"),
            Self::NoIdentity => (S::CONFLICT, "GATEWAY_IDENTITY_MISSING"),
            Self::Paired => (S::CONFLICT, "PAIRING_EXISTS"),
            Self::PairingNotKept => (S::INTERNAL_SERVER_ERROR, "PAIRING_NOT_KEPT"),
        }
    }
}

impl From<BookFault> for Refusal {
    fn from(fault: BookFault) -> Self {
        let kind = match &fault {
            BookFault::NoVault => Kind::NoVault,
            BookFault::Exists(_) => Kind::ConnectionExists,
            BookFault::NotFound(_) => Kind::ConnectionNotFound,
            BookFault::ReadOnly(_) => Kind::ConnectionReadOnly,
            BookFault::Invalid { .. } | BookFault::Catalog(_) => Kind::FieldInvalid,
            BookFault::Secret { .. } => Kind::SecretInvalid,
            BookFault::Sealed { .. } => Kind::SealedSecretInvalid,
            BookFault::NotSealed(_) => Kind::SecretNotSealed,
            BookFault::Reference(_) => Kind::SecretReference,
            BookFault::SealedAgain(_) => Kind::SealedSecretReplayed,
            BookFault::NeededAnew(_) => Kind::SecretRequiredAnew,
            BookFault::NoGatewayId => Kind::NoGatewayId,
            BookFault::NoVariable(_) => Kind::VariableNotFound,
            BookFault::VariableReferenced { .. } => Kind::VariableReferenced,
            BookFault::TooMany { .. } => Kind::LimitReached,
            BookFault::Vault(fault) => vault_kind(fault),
            BookFault::NoRandom => return Self::Internal,
        };
        Self::Told(kind, fault.to_string())
    }
}

impl From<VaultFault> for Refusal {
    fn from(fault: VaultFault) -> Self {
        Self::Told(vault_kind(&fault), fault.to_string())
    }
}

fn vault_kind(fault: &VaultFault) -> Kind {
    match fault {
        VaultFault::MasterKey(_) => Kind::MasterKeyInvalid,
        VaultFault::NoSpace => Kind::VaultFull,
        VaultFault::TooMuch { .. } => Kind::LimitReached,
        VaultFault::Key(_) | VaultFault::ValueTooLarge { .. } => Kind::FieldInvalid,
        _ => Kind::VaultUnavailable,
    }
}

impl Refusal {
    /// A field that cannot be what it is: its name, and what is wrong.
    pub(super) fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::Told(Kind::FieldInvalid, format!("{field}: {problem}"))
    }

    /// A name in the path that cannot be one.
    pub(super) fn name(field: &str, fault: &NameError) -> Self {
        Self::field(field, fault)
    }

    /// The code that programs read.
    pub(super) fn code(&self) -> &'static str {
        self.verdict().1
    }

    fn verdict(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::TokenNotConfigured => (S::SERVICE_UNAVAILABLE, "ADMIN_TOKEN_NOT_CONFIGURED"),
            Self::TokenRequired => (S::UNAUTHORIZED, "ADMIN_TOKEN_REQUIRED"),
            Self::LoopbackRequired => (S::FORBIDDEN, "ADMIN_LOOPBACK_REQUIRED"),
            Self::TokenOrLoopbackRequired => (S::UNAUTHORIZED, "ADMIN_TOKEN_OR_LOOPBACK_REQUIRED"),
            Self::OriginForbidden => (S::FORBIDDEN, "ADMIN_ORIGIN_FORBIDDEN"),
            Self::NotFound => (S::NOT_FOUND, "NOT_FOUND"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::NotReady(_) => (S::SERVICE_UNAVAILABLE, "NOT_READY"),
            Self::TimedOut => (S::SERVICE_UNAVAILABLE, "ADMIN_TIMEOUT"),
            Self::NotDeclaredJson => (S::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE_UNSUPPORTED"),
            Self::BodyTooLarge(_) => (S::PAYLOAD_TOO_LARGE, "REQUEST_BODY_TOO_LARGE"),
            Self::BodyIncomplete => (S::BAD_REQUEST, "REQUEST_BODY_INCOMPLETE"),
            Self::ConfigInvalid(_) => (S::UNPROCESSABLE_ENTITY, "CONFIG_INVALID"),
            Self::Told(kind, _) => kind.verdict(),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }

    fn sentence(&self) -> String {
        let text = match self {
            Self::TokenNotConfigured => {
                "admin access needs a token and none is configured; set GATEWAY_ADMIN_TOKEN"
            }
            Self::TokenRequired => "the admin token is missing or wrong; send it as X-Sigilum-Admin-Token",
            Self::LoopbackRequired => "admin access is for callers on this machine only",
            Self::TokenOrLoopbackRequired => {
                "admin access is for callers on this machine, or with the admin token as X-Sigilum-Admin-Token"
            }
            Self::OriginForbidden => {
                "the request's Origin or Host is not one that admin.allowed_origins and admin.allowed_hosts name"
            }
            Self::NotFound => "there is no such route on the admin listener",
            Self::MethodNotAllowed => "this route does not take this method",
            Self::NotReady(awaited) => return format!("the gateway is not ready: it waits for {awaited}"),
            Self::TimedOut => {
                "the admin request took too long and was given up; a change may have been made all the same"
            }
            Self::NotDeclaredJson => "send the body as JSON, with content-type: application/json",
            Self::BodyTooLarge(most) => return format!("the body is larger than {most} bytes"),
            Self::BodyIncomplete => "the body broke off before its end",
            Self::ConfigInvalid(faults) => {
                let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
                return format!(
                    "the configuration has {count} fault{s} and was refused whole; the running one stays"
                );
            }
            Self::Told(_, sentence) => return sentence.clone(),
            Self::Internal => "the gateway failed at this request; its log may say more",
        };
        text.to_owned()
    }

    /// The answer, with the status, the envelope and what HTTP asks for beside them.
    pub(super) fn answer(&self, request_id: &RequestId, now: UnixTime) -> Response<Body> {
        let ((status, code), sentence) = (self.verdict(), self.sentence());
        let envelope =
            Envelope { error: &sentence, code, reason: None, claim: None, request_id, timestamp: now };
        let mut response = Response::new(Body::from(self.with_faults(envelope.to_json())));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The envelope, and every fault of a configuration in it.
    fn with_faults(&self, envelope: Vec<u8>) -> Vec<u8> {
        let Self::ConfigInvalid(faults) = self else { return envelope };
        let Ok(mut whole) = serde_json::from_slice::<Map<String, Value>>(&envelope) else { return envelope };
        whole.insert("faults".to_owned(), serde_json::to_value(faults).unwrap_or_default());
        serde_json::to_vec(&whole).unwrap_or(envelope)
    }
}

/// A handler's refusal travels as an extension up to the service, which knows the request's id and writes the answer.
impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.verdict().0;
        response.extensions_mut().insert(self);
        response
    }
}
