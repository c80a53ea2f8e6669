//! Nonces of signed requests, known to all replicas.

use super::{Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::names::Namespace;

/// Nonces that one statement forgets, so that writers wait no longer than for that.
const BATCH: u64 = 10_000;

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
            "DELETE FROM request_nonces WHERE (namespace, nonce) IN \
             (SELECT namespace, nonce FROM request_nonces WHERE expires_at <= $1 LIMIT $2)",
            "DELETE FROM claim_nonces WHERE (namespace, nonce) IN \
             (SELECT namespace, nonce FROM claim_nonces WHERE expires_at <= $1 LIMIT $2)",
        ] {
            while retrying(|| self.forget_some(delete, now)).await? >= BATCH {}
        }
        Ok(())
    }

    async fn forget_some(&self, delete: &'static str, now: UnixTime) -> Result<u64, StoreFault> {
        let most = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let gone = sqlx::query(delete).bind(now.millis()).bind(most).execute(self.writers()).await?;
        Ok(gone.rows_affected())
    }
}
