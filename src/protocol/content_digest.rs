//! RFC 9530 Content-Digest.

/// The SHA-256 that a verified `content-digest` claims for the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest { _private: () }
impl ContentDigest {
    /// The digest of `body`.
    #[must_use]
    pub fn of(_body: &[u8]) -> Self { unimplemented!() }
    /// Whether the body hashed so far is the one claimed (constant time). A header without a readable sha-256 never matches.
    #[must_use]
    pub fn matches(&self, _hash: &BodyHash) -> bool { unimplemented!() }
}
/// The running SHA-256 of a body. `Default` is the hash of nothing; it may be reset by making a new one.
#[derive(Clone, Default)]
pub struct BodyHash { _private: () }
impl BodyHash {
    /// Takes the next part of the body in.
    pub fn update(&mut self, _part: &[u8]) { unimplemented!() }
}
