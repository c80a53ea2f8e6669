//! Secrets of webhooks at rest: XChaCha20-Poly1305 under the control plane's own key.

use std::fmt;

use crate::names::WebhookId;
use crate::secret::{SecretBytes, SecretString};

/// Seals and opens. The key is 32 bytes, the same at every replica.
pub struct Sealer(#[allow(dead_code)] SecretBytes);

/// Why something sealed does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// The key has not 32 bytes.
    #[error("the sealing key must have 32 bytes")]
    Key,
    /// It was changed, or sealed under another key or for another purpose.
    #[error("it does not open with this control plane's sealing key")]
    DoesNotOpen,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Sealer {
    /// From the key's 32 bytes.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub fn new(key: SecretBytes) -> Result<Self, SealFault> {
        if key.expose().len() == 32 { Ok(Self(key)) } else { Err(SealFault::Key) }
    }

    /// Seals `secret`, the webhook's `purpose` (`secret` or `auth`), as base64 text.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn seal(&self, url: &url::Url, purpose: &str, secret: &SecretString) -> Result<String, SealFault> {
        let _ = (url, purpose, secret);
        unimplemented!()
    }

    /// Opens what [`Sealer::seal`] made for the same address and purpose: a sealed secret that was moved to another
    /// webhook's address does not open.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open(&self, url: &url::Url, purpose: &str, sealed: &str) -> Result<SecretString, SealFault> {
        let _ = (url, purpose, sealed, WebhookId::from_random);
        unimplemented!()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}
