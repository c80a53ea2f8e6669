//! Services' API keys.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::change::{Answer, placeholders};
use super::record::{count, optional_time, parsed, time};
use super::services::{select_services, service};
use super::{Signal, Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::service::{ApiKeyRecord, ServiceCaller, ServiceFault};
use crate::names::{ApiKeyId, Namespace, ServiceId};

/// How old the note of a key's last use may be, in milliseconds.
const USE_NOTED_MILLIS: i64 = 60_000;
/// Keys that one statement asks for.
const CHUNK: usize = 500;

/// A key to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// A name for people.
    pub name: String,
    /// Its beginning, for recognizing it.
    pub prefix: String,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Whether it opens all services of the owner.
    pub all_services: bool,
}

impl Store {
    /// Keeps a key of a service.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service, or `most` active keys.
    pub async fn add_key(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        new: NewKey,
        most: u64,
        now: UnixTime,
    ) -> Result<Result<ApiKeyRecord, ServiceFault>, StoreFault> {
        let made = ApiKeyRecord {
            id: ApiKeyId::from_random(random()?),
            service_id: service.clone(),
            name: new.name,
            prefix: new.prefix,
            all_services: new.all_services,
            created_at: now,
            last_used_at: None,
        };
        let added = retrying(|| self.try_add_key(owner, &made, &new.sha256, most)).await?;
        Ok(added.map(|()| made))
    }

    async fn try_add_key(
        &self,
        owner: &Namespace,
        made: &ApiKeyRecord,
        sha256: &str,
        most: u64,
    ) -> Answer<()> {
        let mut change = self.change().await?;
        // Two at once must not both find room.
        if !change.lock_service(owner, &made.service_id).await? {
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
        Ok(Ok(()))
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

    /// Ends a key and forgets it: nothing asks for a key that ended. Every replica hears [`Signal::Access`].
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service or key.
    pub async fn revoke_key(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        key: &ApiKeyId,
    ) -> Result<Result<(), ServiceFault>, StoreFault> {
        retrying(|| self.try_revoke_key(owner, service, key)).await
    }

    async fn try_revoke_key(&self, owner: &Namespace, service: &ServiceId, key: &ApiKeyId) -> Answer<()> {
        let mut change = self.change().await?;
        if !change.lock_service(owner, service).await? {
            return Ok(Err(ServiceFault::NotFound));
        }
        let ended = sqlx::query("DELETE FROM service_keys WHERE id = $1 AND service_id = $2")
            .bind(key.as_str())
            .bind(service.as_str())
            .execute(&mut *change.transaction)
            .await?;
        if ended.rows_affected() == 0 {
            return Ok(Err(ServiceFault::NoSuch("key")));
        }
        change.tell(Signal::Access { owner: owner.to_string() });
        change.commit().await?;
        Ok(Ok(()))
    }

    /// Which of the keys with these SHA-256 are in force; notes at most once a minute that they were used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keys_in_force<'a>(
        &self,
        sha256: impl IntoIterator<Item = &'a str>,
        now: UnixTime,
    ) -> Result<BTreeSet<String>, StoreFault> {
        let asked: Vec<&str> = sha256.into_iter().collect();
        let mut found = BTreeSet::new();
        for some in asked.chunks(CHUNK) {
            let text = format!(
                "SELECT id, sha256, last_used_at FROM service_keys WHERE sha256 IN ({}) ORDER BY id",
                placeholders(1, some.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(some.len() == CHUNK);
            for key in some {
                query = query.bind(*key);
            }
            let mut to_note = Vec::new();
            for row in query.fetch_all(self.readers()).await? {
                found.insert(row.try_get("sha256")?);
                if is_to_be_noted(optional_time(&row, "last_used_at")?, now) {
                    to_note.push(parsed(&row, "id")?);
                }
            }
            self.note_use(&to_note, now).await;
        }
        Ok(found)
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
            "SELECT id, service_id, all_services, last_used_at FROM service_keys WHERE sha256 = $1",
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
        if is_to_be_noted(optional_time(&row, "last_used_at")?, now) {
            self.note_use(std::slice::from_ref(&caller.key), now).await;
        }
        Ok(Some(caller))
    }

    /// Notes that keys were used. A note that fails does not keep the caller out.
    async fn note_use(&self, keys: &[ApiKeyId], now: UnixTime) {
        if keys.is_empty() {
            return;
        }
        let text = format!(
            "UPDATE service_keys SET last_used_at = $1 \
             WHERE (last_used_at IS NULL OR last_used_at < $1) AND id IN ({})",
            placeholders(2, keys.len())
        );
        let mut note = sqlx::query(AssertSqlSafe(text)).persistent(keys.len() == 1).bind(now.millis());
        for key in keys {
            note = note.bind(key.as_str());
        }
        if let Err(fault) = note.execute(self.writers()).await {
            tracing::debug!(error = %StoreFault::from(fault), "the use of service keys could not be noted");
        }
    }
}

fn is_to_be_noted(noted: Option<UnixTime>, now: UnixTime) -> bool {
    noted.is_none_or(|noted| noted.millis().saturating_add(USE_NOTED_MILLIS) <= now.millis())
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
