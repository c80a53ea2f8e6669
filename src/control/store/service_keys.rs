//! Services' API keys.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::record::{count, optional_time, parsed, time};
use super::services::{Answer, select_services, service};
use super::{Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::service::{ApiKeyRecord, ServiceCaller, ServiceFault};
use crate::names::{ApiKeyId, Namespace, ServiceId};

/// How old the note of a key's last use may be, in milliseconds.
const USE_NOTED_MILLIS: i64 = 60_000;

impl Store {
    /// Keeps the SHA-256 (lower-case hex) of a key.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service, or `most` active keys.
    #[allow(clippy::too_many_arguments)]
    pub async fn add_key(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        name: &str,
        prefix: &str,
        sha256: &str,
        all_services: bool,
        most: u64,
        now: UnixTime,
    ) -> Result<Result<ApiKeyRecord, ServiceFault>, StoreFault> {
        let made = &ApiKeyRecord {
            id: ApiKeyId::from_random(random()?),
            service_id: service.clone(),
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            all_services,
            created_at: now,
            last_used_at: None,
        };
        retrying(|| self.try_add_key(owner, made, sha256, most)).await
    }

    async fn try_add_key(
        &self,
        owner: &Namespace,
        made: &ApiKeyRecord,
        sha256: &str,
        most: u64,
    ) -> Answer<ApiKeyRecord> {
        let mut change = self.change().await?;
        // Two at once must not both find room.
        let there =
            sqlx::query(self.backend().for_update("SELECT id FROM services WHERE id = $1 AND owner = $2"))
                .bind(made.service_id.as_str())
                .bind(owner.as_str())
                .fetch_optional(&mut *change.transaction)
                .await?;
        if there.is_none() {
            return Ok(Err(ServiceFault::NotFound));
        }
        let active: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM service_keys WHERE service_id = $1")
            .bind(made.service_id.as_str())
            .fetch_one(&mut *change.transaction)
            .await?;
        if count(active) >= most {
            return Ok(Err(ServiceFault::Limit { what: "the number of active keys of a service", most }));
        }
        sqlx::query(
            "INSERT INTO service_keys (id, service_id, name, prefix, sha256, all_services, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(made.id.as_str())
        .bind(made.service_id.as_str())
        .bind(&*made.name)
        .bind(&*made.prefix)
        .bind(sha256)
        .bind(i64::from(made.all_services))
        .bind(made.created_at.millis())
        .execute(&mut *change.transaction)
        .await?;
        change.commit().await?;
        Ok(Ok(made.clone()))
    }

    /// The active keys of a service, oldest first.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service.
    pub async fn keys(
        &self,
        owner: &Namespace,
        service: &ServiceId,
    ) -> Result<Result<Vec<ApiKeyRecord>, ServiceFault>, StoreFault> {
        if self.service(owner, service).await?.is_none() {
            return Ok(Err(ServiceFault::NotFound));
        }
        let rows = sqlx::query(
            "SELECT id, service_id, name, prefix, all_services, created_at, last_used_at FROM service_keys \
             WHERE service_id = $1 ORDER BY created_at, id",
        )
        .bind(service.as_str())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(key).collect::<Result<_, _>>().map(Ok)
    }

    /// Ends a key and forgets it: nothing asks for a key that ended.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service or key.
    pub async fn revoke_key(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        key: &ApiKeyId,
        _now: UnixTime,
    ) -> Result<Result<(), ServiceFault>, StoreFault> {
        if self.service(owner, service).await?.is_none() {
            return Ok(Err(ServiceFault::NotFound));
        }
        retrying(|| async move {
            let ended = sqlx::query("DELETE FROM service_keys WHERE id = $1 AND service_id = $2")
                .bind(key.as_str())
                .bind(service.as_str())
                .execute(self.writers())
                .await?;
            Ok(if ended.rows_affected() == 1 { Ok(()) } else { Err(ServiceFault::NoSuch("key")) })
        })
        .await
    }

    /// Who holds the key with this SHA-256 (lower-case hex); notes at most once a minute that it was used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn caller_of_key(
        &self,
        sha256: &str,
        now: UnixTime,
    ) -> Result<Option<ServiceCaller>, StoreFault> {
        let row = sqlx::query(
            "SELECT id, service_id, all_services, last_used_at FROM service_keys \
             WHERE sha256 = $1",
        )
        .bind(sha256)
        .fetch_optional(self.readers())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let of_service = sqlx::query(select_services!("WHERE id = $1"))
            .bind(row.try_get::<String, _>("service_id")?)
            .fetch_optional(self.readers())
            .await?;
        let Some(of_service) = of_service else { return Ok(None) };
        let caller = ServiceCaller {
            key: parsed(&row, "id")?,
            service: service(&of_service)?,
            all_services: row.try_get::<i64, _>("all_services")? != 0,
        };
        let noted = optional_time(&row, "last_used_at")?;
        if noted.is_none_or(|noted| noted.millis().saturating_add(USE_NOTED_MILLIS) <= now.millis()) {
            self.note_use(&caller.key, now).await;
        }
        Ok(Some(caller))
    }

    /// A note that fails does not keep the caller out.
    async fn note_use(&self, key: &ApiKeyId, now: UnixTime) {
        let noted = sqlx::query(
            "UPDATE service_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
        )
        .bind(key.as_str())
        .bind(now.millis())
        .execute(self.writers())
        .await;
        if let Err(fault) = noted {
            tracing::debug!(error = %StoreFault::from(fault), "a service key's use could not be noted");
        }
    }
}

fn key(row: &AnyRow) -> Result<ApiKeyRecord, StoreFault> {
    Ok(ApiKeyRecord {
        id: parsed(row, "id")?,
        service_id: parsed(row, "service_id")?,
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        all_services: row.try_get::<i64, _>("all_services")? != 0,
        created_at: time(row, "created_at")?,
        last_used_at: optional_time(row, "last_used_at")?,
    })
}
