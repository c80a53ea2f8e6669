//! Signing.
use crate::clock::UnixTime;
use super::{ContentDigest, Identity};
/// What is to be signed.
#[derive(Debug, Clone)]
pub struct Unsigned<'a> {
    /// The method, in any case; the `@method` value is signed in lower case, the SDKs' form.
    pub method: &'a str,
    /// Absolute URI; a fragment is left out, a default port too.
    pub uri: &'a str,
    /// Digest of the body, where there is one.
    pub content_digest: Option<ContentDigest>,
    /// `sigilum-subject`; the namespace where `None`.
    pub subject: Option<&'a str>,
    /// `sigilum-agent-id`.
    pub agent_id: Option<&'a str>,
    /// Unique for each request, 8 to 256 printable characters.
    pub nonce: &'a str,
    /// Becomes `created`.
    pub now: UnixTime,
}
/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignFault {
    /// stub
    #[error("stub")]
    Stub,
}
/// The headers to send, in order: `sigilum-*`, `content-digest` with a body, `signature-input`, `signature`.
pub type SignedHeaders = Vec<(http::HeaderName, http::HeaderValue)>;
/// Signs a request.
///
/// # Errors
/// When a part cannot stand in a signed request.
pub fn sign(_identity: &Identity, _request: &Unsigned<'_>) -> Result<SignedHeaders, SignFault> { unimplemented!() }
