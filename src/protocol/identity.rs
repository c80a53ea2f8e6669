//! Identity records: a namespace, its private key and its certificate.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::certificate::proof_text;
use super::did::Did;
use super::{Certificate, CertificateFault, KeyId, PublicKey};
use crate::clock::UnixTime;
use crate::names::{NameError, Namespace};

/// An agent's or a gateway's identity: its private key and its certificate. `Debug` is redacted; the seed is zeroized.
pub struct Identity {
    namespace: Namespace,
    public_key: PublicKey,
    key_id: KeyId,
    signing_key: SigningKey,
    certificate_header: String,
    /// The record as it was read, in its order and with the fields that are not known here. The place of
    /// `privateKey` is kept, its value is not.
    record: Map<String, Value>,
}

/// What is wrong with an identity record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFault {
    /// It is not a JSON object.
    #[error("the identity record is not JSON: line {line}, column {column}")]
    NotJson {
        /// Where reading ended, from 1.
        line: usize,
        /// The column there.
        column: usize,
    },
    /// It is JSON, but not an object.
    #[error("the identity record must be a JSON object")]
    NotAnObject,
    /// It is of a version that is not known here.
    #[error("the identity record's version must be 1")]
    Version,
    /// A field is missing or not a text.
    #[error("the identity record's {field} must be there and be a text")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// The namespace is not one.
    #[error("the identity record's namespace: {0}")]
    Namespace(#[from] NameError),
    /// `privateKey` is not a seed.
    #[error("the identity record's privateKey must be the standard base64, with padding, of a 32-byte seed")]
    PrivateKey,
    /// A field does not follow from the namespace and the private key.
    #[error("the identity record's {field} must be {right}, which follows from its namespace and privateKey")]
    Disagrees {
        /// The field's name.
        field: &'static str,
        /// What would be right.
        right: String,
    },
    /// A moment is not one of RFC 3339.
    #[error(
        "the identity record's {field} must be a date and time of RFC 3339, such as 2027-01-01T00:00:00Z"
    )]
    Moment {
        /// The field's name.
        field: &'static str,
    },
    /// The certificate does not hold.
    #[error("the identity record's certificate: {0}")]
    Certificate(#[from] CertificateFault),
    /// The certificate is another identity's.
    #[error("the identity record's certificate names another {field} than the record")]
    OtherCertificate {
        /// The field's name.
        field: &'static str,
    },
    /// The certificate is too large to be sent.
    #[error("the identity record's certificate has {found} characters as a header; at most {most} are taken")]
    CertificateTooLong {
        /// The length found.
        found: usize,
        /// The greatest length.
        most: usize,
    },
}

impl Identity {
    /// A new identity from 32 random bytes, its certificate issued at `now` (whole seconds) without an end.
    #[must_use]
    pub fn create(namespace: &Namespace, mut seed: [u8; 32], now: UnixTime) -> Self {
        let signing_key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        let public_key = PublicKey::of(&signing_key);
        let key_id = public_key.key_id(namespace);
        let did = Did::of(namespace).to_string();
        let at = UnixTime::from_secs(now.secs()).to_string();
        let proof = signing_key.sign(proof_text(namespace, &public_key, &at, None).as_bytes());
        let certificate = json!({
            "version": 1,
            "namespace": namespace.as_str(),
            "did": did,
            "keyId": key_id.as_str(),
            "publicKey": public_key.to_string(),
            "issuedAt": at,
            "expiresAt": null,
            "proof": {"alg": "ed25519", "sig": URL_SAFE_NO_PAD.encode(proof.to_bytes())},
        });
        let certificate_header = header_of(&certificate);
        let mut record = Map::new();
        for (field, value) in [
            ("version", json!(1)),
            ("namespace", json!(namespace.as_str())),
            ("did", json!(did)),
            ("keyId", json!(key_id.as_str())),
            ("publicKey", json!(public_key.to_string())),
            ("privateKey", Value::Null),
            ("certificate", certificate),
            ("createdAt", json!(at)),
            ("updatedAt", json!(at)),
        ] {
            record.insert(field.to_owned(), value);
        }
        Self { namespace: namespace.clone(), public_key, key_id, signing_key, certificate_header, record }
    }

    /// Reads `identity.json` (version 1) and proves that all of it agrees. Unknown fields are kept.
    /// Whether the certificate has ended is not looked at, for that wants a clock.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    pub fn from_json(json: &str) -> Result<Self, IdentityFault> {
        let value: Value = serde_json::from_str(json)
            .map_err(|e| IdentityFault::NotJson { line: e.line(), column: e.column() })?;
        let Value::Object(mut record) = value else { return Err(IdentityFault::NotAnObject) };
        let seed = take_seed(&mut record)?;
        if record.get("version").and_then(Value::as_u64) != Some(1) {
            return Err(IdentityFault::Version);
        }
        let namespace: Namespace = text(&record, "namespace")?.parse()?;
        let signing_key = SigningKey::from_bytes(&seed);
        let public_key = PublicKey::of(&signing_key);
        let key_id = public_key.key_id(&namespace);
        for (field, right) in [
            ("namespace", namespace.to_string()),
            ("did", Did::of(&namespace).to_string()),
            ("publicKey", public_key.to_string()),
            ("keyId", key_id.to_string()),
        ] {
            if text(&record, field)? != right {
                return Err(IdentityFault::Disagrees { field, right });
            }
        }
        for field in ["createdAt", "updatedAt"] {
            text(&record, field)?.parse::<UnixTime>().map_err(|_| IdentityFault::Moment { field })?;
        }
        let certificate = record.get("certificate").ok_or(CertificateFault::Unreadable)?;
        let certificate_header = prove(certificate, &namespace, &public_key)?;
        Ok(Self { namespace, public_key, key_id, signing_key, certificate_header, record })
    }

    /// The record as pretty JSON with one newline at the end. It holds the private key.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut record = self.record.clone();
        if let Some(place) = record.get_mut("privateKey") {
            *place = Value::String(STANDARD.encode(self.signing_key.as_bytes()));
        }
        let mut json = serde_json::to_string_pretty(&record).unwrap_or_default();
        if let Some(Value::String(text)) = record.get_mut("privateKey") {
            text.zeroize();
        }
        json.push('\n');
        json
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    /// The value of `sigilum-agent-cert`: base64url without padding of the certificate's JSON.
    #[must_use]
    pub fn certificate_header(&self) -> &str {
        &self.certificate_header
    }

    /// Signs with the private key (Ed25519).
    pub(super) fn signature(&self, message: &[u8]) -> [u8; 64] {
        self.signing_key.sign(message).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, [redacted])", self.key_id)
    }
}

fn text<'r>(record: &'r Map<String, Value>, field: &'static str) -> Result<&'r str, IdentityFault> {
    record.get(field).and_then(Value::as_str).ok_or(IdentityFault::Missing { field })
}

/// Takes the private key out of the record, so that no copy of it stays behind.
fn take_seed(record: &mut Map<String, Value>) -> Result<Zeroizing<[u8; 32]>, IdentityFault> {
    let taken = record.get_mut("privateKey").map(Value::take);
    let Some(Value::String(text)) = taken else { return Err(IdentityFault::Missing { field: "privateKey" }) };
    let text = Zeroizing::new(text);
    let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| IdentityFault::PrivateKey)?);
    let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| IdentityFault::PrivateKey)?;
    Ok(Zeroizing::new(*seed))
}

/// Proves the record's certificate and makes its header.
fn prove(value: &Value, namespace: &Namespace, public_key: &PublicKey) -> Result<String, IdentityFault> {
    let certificate = Certificate::from_value(value)?;
    if certificate.namespace() != namespace {
        return Err(IdentityFault::OtherCertificate { field: "namespace" });
    }
    if certificate.public_key() != public_key {
        return Err(IdentityFault::OtherCertificate { field: "publicKey" });
    }
    certificate.check_proof()?;
    let header = header_of(value);
    let most = super::message::CERTIFICATE_CHARACTERS;
    if header.len() > most {
        return Err(IdentityFault::CertificateTooLong { found: header.len(), most });
    }
    Ok(header)
}

fn header_of(certificate: &Value) -> String {
    URL_SAFE_NO_PAD.encode(certificate.to_string())
}
