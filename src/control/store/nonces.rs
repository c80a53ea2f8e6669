//! Nonces of signed requests, known to all replicas.

use super::{Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::names::Namespace;

impl Store {
    /// Notes the nonce until `expires_at`; `false` where it was noted before and its time is not over.
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
        retrying(|| async move {
            let noted = sqlx::query(
                "INSERT INTO request_nonces (namespace, nonce, expires_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (namespace, nonce) DO UPDATE SET expires_at = excluded.expires_at \
                 WHERE request_nonces.expires_at <= $4",
            )
            .bind(namespace.as_str())
            .bind(nonce)
            .bind(expires_at.millis())
            .bind(now.millis())
            .execute(self.writers())
            .await?;
            Ok(noted.rows_affected() == 1)
        })
        .await
    }

    /// Forgets the nonces, of requests and of submissions, whose time is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_nonces(&self, now: UnixTime) -> Result<(), StoreFault> {
        for delete in [
            "DELETE FROM request_nonces WHERE expires_at <= $1",
            "DELETE FROM claim_nonces WHERE expires_at <= $1",
        ] {
            retrying(|| async move {
                sqlx::query(delete).bind(now.millis()).execute(self.writers()).await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}
