//! Agent certificates: what proves that an agent holds the key it names.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::did::Did;
use super::key::{self, PreparedKey};
use super::message::CERTIFICATE_CHARACTERS;
use super::{KeyId, PublicKey};
use crate::clock::UnixTime;
use crate::names::Namespace;

/// A parsed certificate whose parts agree with each other. Its proof is not yet checked.
#[derive(Debug, Clone)]
pub struct Certificate {
    namespace: Namespace,
    public_key: PublicKey,
    prepared_key: PreparedKey,
    key_id: KeyId,
    expires_at: Option<UnixTime>,
    proof_text: String,
    proof: [u8; 64],
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// The header is not base64url of a certificate's JSON.
    #[error("the certificate must be JSON with all its fields, in a header as base64url without padding")]
    Unreadable,
    /// A field does not have its form, or does not follow from the namespace and the public key.
    #[error("the certificate's {field} must be {right}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// The proof is wrong.
    #[error("the certificate's proof is not a signature of its own key over its fields")]
    Invalid,
    /// It is past its `expiresAt`.
    #[error("the certificate is past its expiresAt; issue a new one")]
    Expired,
}

impl Certificate {
    /// Reads the value of `sigilum-agent-cert`: base64url without padding of the certificate's JSON.
    ///
    /// # Errors
    /// When it is not that, or when its parts do not agree with each other.
    pub fn from_header(header: &str) -> Result<Self, CertificateFault> {
        if header.len() > CERTIFICATE_CHARACTERS {
            return Err(CertificateFault::Unreadable);
        }
        let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| CertificateFault::Unreadable)?;
        serde_json::from_slice::<Fields<'_>>(&json).map_err(|_| CertificateFault::Unreadable)?.agree()
    }

    /// Reads the certificate of an identity record.
    pub(super) fn from_value(value: &serde_json::Value) -> Result<Self, CertificateFault> {
        Fields::deserialize(value).map_err(|_| CertificateFault::Unreadable)?.agree()
    }

    /// The namespace that it names.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The public key that it names, and that its proof must be made with.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Checks expiry and proof (Ed25519, strictly).
    ///
    /// # Errors
    /// [`CertificateFault::Expired`] or [`CertificateFault::Invalid`].
    pub fn prove(self, now: UnixTime) -> Result<Agent, CertificateFault> {
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(CertificateFault::Expired);
        }
        self.check_proof()?;
        Ok(Agent {
            method_as_sent: AtomicBool::new(false),
            key_text: self.public_key.to_string().into(),
            namespace: self.namespace,
            public_key: self.public_key,
            key_id: self.key_id,
            expires_at: self.expires_at,
            prepared_key: self.prepared_key,
        })
    }

    /// Checks the proof alone: whether it was made with the key that the certificate names.
    pub(super) fn check_proof(&self) -> Result<(), CertificateFault> {
        let proven = self.prepared_key.signed(self.proof_text.as_bytes(), &self.proof);
        proven.then_some(()).ok_or(CertificateFault::Invalid)
    }
}

/// The text that a certificate's proof signs, line by line.
pub(super) fn proof_text(
    namespace: &Namespace,
    public_key: &PublicKey,
    issued_at: &str,
    expires_at: Option<&str>,
) -> String {
    format!(
        "sigilum-certificate-v1\nnamespace:{namespace}\ndid:{}\nkey-id:{}\npublic-key:{public_key}\n\
         issued-at:{issued_at}\nexpires-at:{}",
        Did::of(namespace),
        public_key.key_id(namespace),
        expires_at.unwrap_or_default(),
    )
}

/// The JSON as it stands. Timestamps enter the proof's text verbatim.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    version: u64,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    did: Cow<'a, str>,
    #[serde(borrow)]
    key_id: Cow<'a, str>,
    #[serde(borrow)]
    public_key: Cow<'a, str>,
    #[serde(borrow)]
    issued_at: Cow<'a, str>,
    #[serde(borrow)]
    expires_at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    proof: Proof<'a>,
}

#[derive(Deserialize)]
struct Proof<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    sig: Cow<'a, str>,
}

impl Fields<'_> {
    /// Recomputes what follows from namespace and key, and compares.
    fn agree(self) -> Result<Certificate, CertificateFault> {
        let wrong = |field, right| CertificateFault::Field { field, right };
        if self.version != 1 {
            return Err(wrong("version", "1"));
        }
        let namespace: Namespace = self
            .namespace
            .parse()
            .ok()
            .filter(|name: &Namespace| name.as_str() == self.namespace)
            .ok_or(wrong("namespace", "a namespace in its lower-case form"))?;
        let (public_key, prepared_key) = key::read(&self.public_key)
            .map_err(|_| wrong("publicKey", "ed25519:<base64 of the 32 bytes of a strong key>"))?;
        let key_id = public_key.key_id(&namespace);
        if self.did.strip_prefix(super::did::PREFIX) != Some(namespace.as_str()) {
            return Err(wrong("did", "did:sigilum:<its namespace>"));
        }
        if self.key_id != key_id.as_str() {
            return Err(wrong("keyId", "the id of its publicKey in its namespace"));
        }
        if self.issued_at.parse::<UnixTime>().is_err() {
            return Err(wrong("issuedAt", "a date and time of RFC 3339"));
        }
        let expires_at = match self.expires_at.as_deref().map(str::parse).transpose() {
            Ok(end) => end,
            Err(_) => return Err(wrong("expiresAt", "a date and time of RFC 3339, or null")),
        };
        if self.proof.alg != "ed25519" {
            return Err(wrong("proof.alg", "ed25519"));
        }
        let proof =
            URL_SAFE_NO_PAD.decode(self.proof.sig.as_bytes()).ok().and_then(|sig| sig.try_into().ok());
        Ok(Certificate {
            proof_text: proof_text(&namespace, &public_key, &self.issued_at, self.expires_at.as_deref()),
            proof: proof.ok_or(wrong("proof.sig", "base64url without padding of 64 bytes"))?,
            namespace,
            public_key,
            prepared_key,
            key_id,
            expires_at,
        })
    }
}

/// An agent whose certificate has been proven: it holds the private key of `public_key` and names itself
/// `namespace`. That is possession, not authority.
pub struct Agent {
    /// The namespace that it names itself.
    pub namespace: Namespace,
    /// The key that it holds.
    pub public_key: PublicKey,
    /// That key's id in the namespace.
    pub key_id: KeyId,
    /// When its certificate ends, where it does.
    pub expires_at: Option<UnixTime>,
    prepared_key: PreparedKey,
    key_text: Box<str>,
    /// Whether its last good signature had the method as it was sent: the form that is tried first.
    method_as_sent: AtomicBool,
}

impl Agent {
    /// Verifies an Ed25519 signature of this agent, strictly (RFC 8032; no small-order R, no other encoding of R
    /// or S than the canonical one).
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.prepared_key.signed(message, signature)
    }

    /// Whether the method is likely signed as it is sent, and not in lower case.
    pub(super) fn signs_method_as_sent(&self) -> bool {
        self.method_as_sent.load(Ordering::Relaxed)
    }

    /// Remembers the form of `@method` that held.
    pub(super) fn signed_method_as_sent(&self, as_sent: bool) {
        self.method_as_sent.store(as_sent, Ordering::Relaxed);
    }

    /// The public key's text, ready made.
    pub(super) fn key_text(&self) -> &str {
        &self.key_text
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut agent = f.debug_struct("Agent");
        agent.field("key_id", &self.key_id.as_str()).field("public_key", &self.key_text());
        agent.field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Where proven certificates come from: made anew each time, or a cache.
pub trait Certificates: Send + Sync {
    /// Parses and proves the value of `sigilum-agent-cert`; refuses an expired one at `now`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn prove(&self, header: &str, now: UnixTime) -> Result<Arc<Agent>, CertificateFault>;
}

/// Proves every certificate anew.
#[derive(Debug, Default, Clone, Copy)]
pub struct Uncached;

impl Certificates for Uncached {
    fn prove(&self, header: &str, now: UnixTime) -> Result<Arc<Agent>, CertificateFault> {
        Certificate::from_header(header)?.prove(now).map(Arc::new)
    }
}
