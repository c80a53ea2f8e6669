//! Keys and identity records.
use std::str::FromStr;
use crate::clock::UnixTime;
use crate::names::Namespace;

/// An agent's Ed25519 public key, strict: a canonical point, not of small order.
/// Text form `ed25519:<standard base64 with padding of the 32 bytes>`. Eq/Hash by the 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// Why a text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// stub
    #[error("stub")]
    Stub,
}

/// `<did>#ed25519-<16 hex digits>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

impl PublicKey {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] { &self.0 }
    /// The id of this key in `namespace`.
    #[must_use]
    pub fn key_id(&self, _namespace: &Namespace) -> KeyId { unimplemented!() }
}
impl FromStr for PublicKey {
    type Err = KeyFault;
    fn from_str(_text: &str) -> Result<Self, KeyFault> { unimplemented!() }
}
impl std::fmt::Display for PublicKey {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { unimplemented!() }
}

/// What is wrong with an identity record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFault {
    /// stub
    #[error("stub")]
    Stub,
}

/// An agent's or a gateway's identity: its private key and its certificate. `Debug` is redacted; the seed is zeroized.
pub struct Identity { _private: () }

impl Identity {
    /// A new identity from 32 random bytes, its certificate issued at `now` without an end.
    #[must_use]
    pub fn create(_namespace: &Namespace, _seed: [u8; 32], _now: UnixTime) -> Self { unimplemented!() }
    /// Reads `identity.json` (version 1) and proves that all of it agrees. Unknown fields are kept.
    ///
    /// # Errors
    /// Says which field is wrong and what would be right.
    pub fn from_json(_json: &str) -> Result<Self, IdentityFault> { unimplemented!() }
    /// The record as pretty JSON with one newline at the end. It holds the private key.
    #[must_use]
    pub fn to_json(&self) -> String { unimplemented!() }
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace { unimplemented!() }
    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey { unimplemented!() }
    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> &KeyId { unimplemented!() }
}
