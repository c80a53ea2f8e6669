//! Agents' public keys and their ids.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
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

    /// The text of `key`, which is valid because it belongs to a private key.
    pub(super) fn of(key: &ed25519_dalek::SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }
}

/// A public key's text, with the point made ready for verification beside it.
pub(super) fn read(text: &str) -> Result<(PublicKey, VerifyingKey), KeyFault> {
    let base64 = text.strip_prefix(PREFIX).ok_or(KeyFault::Prefix)?;
    let bytes = STANDARD.decode(base64).map_err(|_| KeyFault::Base64)?;
    let found = bytes.len();
    prepared(bytes.try_into().map_err(|_| KeyFault::Length { found })?)
}

fn prepared(bytes: [u8; 32]) -> Result<(PublicKey, VerifyingKey), KeyFault> {
    let point = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyFault::NotAPoint)?;
    if point.is_weak() {
        return Err(KeyFault::SmallOrder);
    }
    if point.to_edwards().compress().to_bytes() != bytes {
        return Err(KeyFault::NotCanonical);
    }
    Ok((PublicKey(bytes), point))
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
}
