//! Nonces of signed requests, known to all replicas.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::names::Namespace;

impl Store {
    /// Notes the nonce until `expires_at`; `false` where it was noted before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_nonce(
        &self,
        namespace: &Namespace,
        nonce: &str,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        let _ = (namespace, nonce, expires_at, now);
        unimplemented!()
    }

    /// Forgets the nonces, of requests and of submissions, whose time is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_nonces(&self, now: UnixTime) -> Result<(), StoreFault> {
        let _ = now;
        unimplemented!()
    }
}
