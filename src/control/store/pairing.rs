//! Pairing sessions. Each step of a session's life is one transaction, so that replicas and gateways that come at once
//! see one order.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::record::{count, natural, optional, optional_time, parsed, text, time};
use super::{Signal, Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::control::domain::pairing::{
    MOST_PAIRINGS, NotAdmitted, PairedGateway, PairingFault, PairingRecord, TooManyPairings,
};
use crate::names::{Namespace, SessionId};

/// How long a session that is over is still known, to say why it is over.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// Begins a session; of the code only `code_sha256`
    /// ([`code_digest`](crate::protocol::pairing::code_digest)) is kept.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: when too many sessions of this namespace stand.
    pub async fn start_pairing(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        code_sha256: &str,
        ttl: Duration,
        now: UnixTime,
    ) -> Result<Result<PairingRecord, TooManyPairings>, StoreFault> {
        retrying(|| self.try_start_pairing(namespace, id, code_sha256, ttl, now)).await
    }

    async fn try_start_pairing(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        code_sha256: &str,
        ttl: Duration,
        now: UnixTime,
    ) -> Result<Result<PairingRecord, TooManyPairings>, StoreFault> {
        let mut change = self.change().await?;
        // Whoever else starts one waits for the commit, so that the limit holds.
        if change.lock_namespace(namespace).await?.is_none() {
            return Err(StoreFault::NamespaceGone(namespace.clone()));
        }
        let standing: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pairings WHERE namespace = $1 AND revoked_at IS NULL \
             AND (gateway_key IS NOT NULL OR code_expires_at > $2)",
        )
        .bind(namespace.as_str())
        .bind(now.millis())
        .fetch_one(&mut *change.transaction)
        .await?;
        if count(standing) >= MOST_PAIRINGS {
            return Ok(Err(TooManyPairings { most: MOST_PAIRINGS }));
        }
        let row = sqlx::query(
            "INSERT INTO pairings \
             (id, namespace, created_at, code_expires_at, code_sha256, tries, mark, connected_until) \
             VALUES ($1, $2, $3, $4, $5, 0, '', 0) RETURNING *",
        )
        .bind(id.as_str())
        .bind(namespace.as_str())
        .bind(now.millis())
        .bind(now.plus(ttl).millis())
        .bind(code_sha256)
        .fetch_one(&mut *change.transaction)
        .await?;
        change.commit().await?;
        Ok(Ok(Stored::read(&row)?.record(now)))
    }

    /// One of the namespace's sessions.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pairing(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        now: UnixTime,
    ) -> Result<Option<PairingRecord>, StoreFault> {
        let row = sqlx::query("SELECT * FROM pairings WHERE id = $1 AND namespace = $2")
            .bind(id.as_str())
            .bind(namespace.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| Ok(Stored::read(&row)?.record(now))).transpose()
    }

    /// The namespace's sessions that are not forgotten, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pairings(
        &self,
        namespace: &Namespace,
        now: UnixTime,
    ) -> Result<Vec<PairingRecord>, StoreFault> {
        let rows = sqlx::query(
            "SELECT * FROM pairings WHERE namespace = $1 ORDER BY created_at DESC, id LIMIT 1000",
        )
        .bind(namespace.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Ok(Stored::read(row)?.record(now))).collect()
    }

    /// Decides about a gateway that comes, whose signature was proven. The first one is let in by the code, and the
    /// session is its from then on; after that its key opens it, and a code counts nothing. A wrong code is counted in
    /// the same transaction.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: why it is not let in.
    pub async fn admit_gateway(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        code: Option<&str>,
        gateway: &PairedGateway,
        now: UnixTime,
    ) -> Result<Result<(), PairingFault>, StoreFault> {
        retrying(|| self.try_admit_gateway(namespace, id, code, gateway, now)).await
    }

    async fn try_admit_gateway(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        code: Option<&str>,
        gateway: &PairedGateway,
        now: UnixTime,
    ) -> Result<Result<(), PairingFault>, StoreFault> {
        let mut transaction = self.begin().await?;
        // A change that changes nothing: it holds the row until the commit, so that tries at once are counted all.
        let row = sqlx::query(
            "UPDATE pairings SET tries = tries WHERE id = $1 AND namespace = $2 AND EXISTS \
             (SELECT 1 FROM namespaces n WHERE n.namespace = pairings.namespace AND n.deleted_at IS NULL) \
             RETURNING *",
        )
        .bind(id.as_str())
        .bind(namespace.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(Err(PairingFault::NotFound)) };
        let Stored { record, code_sha256, .. } = Stored::read(&row)?;
        let verdict = record.admits(code_sha256.as_deref(), code, gateway, now);
        if let Err(NotAdmitted { tries: Some(tries), .. }) = verdict {
            sqlx::query("UPDATE pairings SET tries = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(i64::from(tries))
                .execute(&mut *transaction)
                .await?;
        }
        if verdict.is_ok() {
            sqlx::query(
                "UPDATE pairings SET code_sha256 = NULL, gateway_id = $2, gateway_namespace = $3, gateway_key = $4, \
                 sealing_key = $5 WHERE id = $1",
            )
            .bind(id.as_str())
            .bind(gateway.gateway_id.as_str())
            .bind(gateway.namespace.as_str())
            .bind(gateway.public_key.to_string())
            .bind(gateway.sealing_key.map(|key| key.to_string()))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(verdict.map_err(|not_admitted| not_admitted.fault))
    }

    /// Notes that the session's socket is open here, under `mark`, and tells whoever holds an older one. `false` where
    /// the session was revoked meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attach_socket(
        &self,
        id: &SessionId,
        mark: &str,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        retrying(|| async move {
            let mut change = self.change().await?;
            let attached = sqlx::query(
                "UPDATE pairings SET mark = $2, connected_until = $3, last_connected_at = $4 \
                 WHERE id = $1 AND revoked_at IS NULL",
            )
            .bind(id.as_str())
            .bind(mark)
            .bind(until.millis())
            .bind(now.millis())
            .execute(&mut *change.transaction)
            .await?;
            if attached.rows_affected() == 0 {
                return Ok(false);
            }
            change.tell(Signal::Session { session: id.to_string(), mark: mark.to_owned() });
            change.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Prolongs the lease of the socket with this mark; `false` where another one took its place, or the session was
    /// revoked, or its namespace is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prolong_lease(
        &self,
        id: &SessionId,
        mark: &str,
        until: UnixTime,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        retrying(|| async move {
            let prolonged = sqlx::query(
                "UPDATE pairings SET connected_until = $3, last_connected_at = $4 \
                 WHERE id = $1 AND mark = $2 AND revoked_at IS NULL AND EXISTS \
                 (SELECT 1 FROM namespaces n WHERE n.namespace = pairings.namespace AND n.deleted_at IS NULL)",
            )
            .bind(id.as_str())
            .bind(mark)
            .bind(until.millis())
            .bind(now.millis())
            .execute(self.writers())
            .await?;
            Ok(prolonged.rows_affected() == 1)
        })
        .await
    }

    /// Notes that the socket with this mark is closed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn detach_socket(&self, id: &SessionId, mark: &str, now: UnixTime) -> Result<(), StoreFault> {
        retrying(|| async move {
            sqlx::query(
                "UPDATE pairings SET mark = '', connected_until = 0, last_connected_at = $3 \
                 WHERE id = $1 AND mark = $2",
            )
            .bind(id.as_str())
            .bind(mark)
            .bind(now.millis())
            .execute(self.writers())
            .await?;
            Ok(())
        })
        .await
    }

    /// The mark of the session's socket, empty where none is open; `None` where the session does not stand.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn socket_of(&self, id: &SessionId) -> Result<Option<String>, StoreFault> {
        Ok(sqlx::query_scalar("SELECT mark FROM pairings WHERE id = $1 AND revoked_at IS NULL")
            .bind(id.as_str())
            .fetch_optional(self.readers())
            .await?)
    }

    /// Revokes a session, and has its socket cut wherever it is. `false` where there is no such session that stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_pairing(
        &self,
        namespace: &Namespace,
        id: &SessionId,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        retrying(|| async move {
            let mut change = self.change().await?;
            let revoked = sqlx::query(
                "UPDATE pairings SET revoked_at = $3, code_sha256 = NULL, mark = '', connected_until = 0 \
                 WHERE id = $1 AND namespace = $2 AND revoked_at IS NULL",
            )
            .bind(id.as_str())
            .bind(namespace.as_str())
            .bind(now.millis())
            .execute(&mut *change.transaction)
            .await?;
            if revoked.rows_affected() == 0 {
                return Ok(false);
            }
            change.tell(Signal::Session { session: id.to_string(), mark: String::new() });
            change.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Forgets sessions that have been over for a day: revoked, or never used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_pairings(&self, now: UnixTime) -> Result<(), StoreFault> {
        let before = now.millis().saturating_sub(i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX));
        retrying(|| async move {
            sqlx::query(
                "DELETE FROM pairings WHERE revoked_at < $1 OR (gateway_key IS NULL AND code_expires_at < $1)",
            )
            .bind(before)
            .execute(self.writers())
            .await?;
            Ok(())
        })
        .await
    }
}

/// A row, with what only this file looks at.
struct Stored {
    record: PairingRecord,
    code_sha256: Option<String>,
    connected_until: UnixTime,
}

impl Stored {
    fn read(row: &AnyRow) -> Result<Self, StoreFault> {
        Ok(Self {
            record: PairingRecord {
                id: parsed(row, "id")?,
                namespace: parsed(row, "namespace")?,
                expires_at: time(row, "code_expires_at")?,
                created_at: time(row, "created_at")?,
                tries: natural("tries", row.try_get("tries")?)?,
                gateway: gateway(row)?,
                last_connected_at: optional_time(row, "last_connected_at")?,
                connected: false,
                revoked_at: optional_time(row, "revoked_at")?,
            },
            code_sha256: optional(row, "code_sha256")?,
            connected_until: time(row, "connected_until")?,
        })
    }

    fn record(self, now: UnixTime) -> PairingRecord {
        let connected = self.record.revoked_at.is_none() && self.connected_until > now;
        let expires_at = if connected { self.connected_until } else { self.record.expires_at };
        PairingRecord { connected, expires_at, ..self.record }
    }
}

fn gateway(row: &AnyRow) -> Result<Option<PairedGateway>, StoreFault> {
    let column = |column| optional::<String>(row, column);
    let (Some(gateway_id), Some(namespace), Some(key)) =
        (column("gateway_id")?, column("gateway_namespace")?, column("gateway_key")?)
    else {
        return Ok(None);
    };
    Ok(Some(PairedGateway {
        gateway_id,
        namespace: text("gateway_namespace", &namespace)?,
        public_key: text("gateway_key", &key)?,
        sealing_key: column("sealing_key")?.map(|key| text("sealing_key", &key)).transpose()?,
    }))
}
