//! Owner tokens: JWT (RFC 7519) with HS256, and no other algorithm.

use std::fmt;
use std::time::Duration;

use crate::clock::UnixTime;
use crate::control::domain::owner::Owner;
use crate::names::Namespace;
use crate::secret::{SecretBytes, SecretString};

/// `iss` of our tokens.
const ISSUER: &str = "sigilum";
/// `aud` of our tokens.
const AUDIENCE: &str = "sigilum-api";

/// What a token says, once it was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerToken {
    /// `sub`: the owner's id.
    pub subject: String,
    /// The owner's e-mail address.
    pub email: String,
    /// The namespace.
    pub namespace: Namespace,
    /// When it was issued.
    pub issued_at: UnixTime,
    /// When it ends.
    pub expires_at: UnixTime,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// It has not the form of a JWT with HS256.
    #[error("the owner token is no JWT with HS256")]
    Form,
    /// The signature is another key's.
    #[error("the owner token was not signed by this control plane")]
    Signature,
    /// Its time is over.
    #[error("the owner token has expired; run `sigilum auth refresh`")]
    Expired,
    /// It is for another audience or from another issuer, or lacks a claim.
    #[error("the owner token is not one for this control plane")]
    Claims,
}

/// The key that signs and proves tokens (`JWT_SECRET`), at least 32 bytes.
pub struct TokenKey(#[allow(dead_code)] SecretBytes);

impl TokenKey {
    /// From the secret's bytes.
    ///
    /// # Errors
    /// When there are fewer than 32 bytes.
    pub fn new(secret: SecretBytes) -> Result<Self, TokenFault> {
        if secret.expose().len() >= 32 { Ok(Self(secret)) } else { Err(TokenFault::Form) }
    }

    /// A token for `owner` that ends after `ttl`.
    #[must_use]
    pub fn issue(&self, owner: &Owner, ttl: Duration, now: UnixTime) -> SecretString {
        let _ = (owner, ttl, now);
        unimplemented!()
    }

    /// Proves a token.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn prove(&self, token: &str, now: UnixTime) -> Result<OwnerToken, TokenFault> {
        let _ = (token, now);
        unimplemented!()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}
