//! Agents' public keys and their ids.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::did::Did;
use crate::names::Namespace;

const PREFIX: &str = "ed25519:";

/// An agent's Ed25519 public key, strict: a canonical point, not of small order.
/// Text form `ed25519:<standard base64 with padding of the 32 bytes>`. Eq/Hash by the 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// It does not begin with `ed25519:`.
    #[error("a public key begins with ed25519:, followed by the standard base64 of its 32 bytes")]
    Prefix,
    /// What follows is not standard base64 with padding.
    #[error("ed25519: is not followed by standard base64 with padding")]
    Base64,
    /// The bytes are not 32.
    #[error("a public key has 32 bytes, this one has {found}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// The bytes are no point of the curve.
    #[error("the 32 bytes are not a point of the curve")]
    NotAPoint,
    /// The bytes are another encoding of a point than RFC 8032 allows.
    #[error("the 32 bytes are not the canonical encoding of their point (RFC 8032 section 5.1.2)")]
    NotCanonical,
    /// The point is of small order: almost any signature would fit it.
    #[error("the point is of small order, so it proves nothing")]
    SmallOrder,
}

impl PublicKey {
    /// From the 32 bytes of RFC 8032 §5.1.2.
    ///
    /// # Errors
    /// When they are not the canonical encoding of a point, or it is of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyFault> {
        prepared(bytes).map(|(key, _)| key)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id of this key in `namespace`.
    #[must_use]
    pub fn key_id(&self, namespace: &Namespace) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let first = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        KeyId(format!("{}#ed25519-{first:016x}", Did::of(namespace)))
    }

    /// Verifies an Ed25519 signature strictly (RFC 8032). The key is made ready anew each time, at the cost of about
    /// a tenth of the verification; an [`Agent`](super::Agent) keeps it ready.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        prepared(self.0).is_ok_and(|(_, key)| key.signed(message, signature))
    }

    /// The public key of `key`, which is valid because it belongs to a private key.
    pub(super) fn of(key: &ed25519_dalek::SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }
}

/// A public key whose point is ready for verification.
#[derive(Debug, Clone)]
pub(super) struct PreparedKey(VerifyingKey);

impl PreparedKey {
    /// Verifies strictly: no R of small order, no other encoding of R or S than the canonical one.
    ///
    /// This is dalek's `verify_strict` without its decompression of R, a fifth of its cost. The key was refused
    /// as weak when it was read; and since the R that is recomputed is canonical and compared by its bytes, R is
    /// of small order exactly when it is one of eight encodings.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let fits = self.0.verify(message, &Signature::from_bytes(signature)).is_ok();
        fits && !SMALL_ORDER.iter().any(|point| signature.starts_with(point))
    }
}

/// The canonical encodings of the eight points of small order.
const SMALL_ORDER: [[u8; 32]; 8] = [
    {
        let mut identity = [0; 32];
        identity[0] = 1;
        identity
    },
    {
        let mut order_2 = [0xff; 32];
        order_2[0] = 0xec;
        order_2[31] = 0x7f;
        order_2
    },
    [0; 32],
    signed_x([0; 32]),
    ORDER_8_A,
    signed_x(ORDER_8_A),
    ORDER_8_B,
    signed_x(ORDER_8_B),
];

const ORDER_8_A: [u8; 32] = [
    0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
    0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
];
const ORDER_8_B: [u8; 32] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
    0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

/// The point with the other x.
const fn signed_x(mut point: [u8; 32]) -> [u8; 32] {
    point[31] |= 0x80;
    point
}

/// A public key's text, with the key made ready for verification beside it.
pub(super) fn read(text: &str) -> Result<(PublicKey, PreparedKey), KeyFault> {
    let base64 = text.strip_prefix(PREFIX).ok_or(KeyFault::Prefix)?;
    let bytes = STANDARD.decode(base64).map_err(|_| KeyFault::Base64)?;
    let found = bytes.len();
    prepared(bytes.try_into().map_err(|_| KeyFault::Length { found })?)
}

fn prepared(bytes: [u8; 32]) -> Result<(PublicKey, PreparedKey), KeyFault> {
    let point = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyFault::NotAPoint)?;
    if point.is_weak() {
        return Err(KeyFault::SmallOrder);
    }
    if point.to_edwards().compress().to_bytes() != bytes {
        return Err(KeyFault::NotCanonical);
    }
    Ok((PublicKey(bytes), PreparedKey(point)))
}

impl FromStr for PublicKey {
    type Err = KeyFault;
    fn from_str(text: &str) -> Result<Self, KeyFault> {
        read(text).map(|(key, _)| key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

/// A key's id: `<did>#ed25519-<16 hex digits>`, the digits being the first 8 bytes of the key's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_8032_KEY_1: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn key_is_read_written_and_named() {
        let key: PublicKey = RFC_8032_KEY_1.parse().unwrap();
        assert_eq!(key.to_string(), RFC_8032_KEY_1);
        assert_eq!(PublicKey::from_bytes(*key.as_bytes()), Ok(key));
        assert_eq!(
            key.key_id(&"alice".parse().unwrap()).as_str(),
            "did:sigilum:alice#ed25519-21fe31dfa154a261"
        );
    }

    #[test]
    fn other_spellings_of_the_same_bytes_are_refused() {
        let fault = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(fault("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), KeyFault::Prefix);
        assert_eq!(fault(RFC_8032_KEY_1.trim_end_matches('=')), KeyFault::Base64);
        assert_eq!(fault(&RFC_8032_KEY_1.replace("Ro=", "Rp=")), KeyFault::Base64);
        assert_eq!(fault(&RFC_8032_KEY_1.replace('/', "_")), KeyFault::Base64);
        assert_eq!(fault("ed25519:AAAA"), KeyFault::Length { found: 3 });
        assert_eq!(fault("ed25519:"), KeyFault::Length { found: 0 });
    }

    #[test]
    fn points_of_small_order_are_those_eight() {
        for (index, point) in SMALL_ORDER.iter().enumerate() {
            let key = VerifyingKey::from_bytes(point).unwrap();
            assert!(key.is_weak() && key.to_edwards().compress().to_bytes() == *point, "{index}");
            assert!(!SMALL_ORDER[..index].contains(point), "{index}");
        }
    }
}
