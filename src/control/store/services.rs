//! Services.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::change::{Answer, placeholders};
use super::record::{count, optional, parsed, time};
use super::webhooks::{self, Wanted};
use super::{Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::service::{ServiceChange, ServiceFault, ServiceMode, ServiceRecord};
use crate::control::domain::webhook::{NewWebhook, WebhookRecord};
use crate::names::{Namespace, ServiceId, ServiceSlug};

/// A SELECT of services: all columns in front of what is given.
macro_rules! select_services {
    ($rest:literal) => {
        concat!(
            "SELECT id, owner, slug, name, domain, description, mode, upstream_url, created_at, updated_at \
             FROM services ",
            $rest
        )
    };
}
pub(super) use select_services;

/// Owners that one statement asks for.
const CHUNK: usize = 100;

/// A service to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewService {
    /// Its slug.
    pub slug: ServiceSlug,
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// What it is.
    pub description: String,
    /// How agents reach it.
    pub mode: ServiceMode,
    /// Where its gateway sends requests.
    pub upstream_url: Option<String>,
}

impl Store {
    /// Makes a service.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: when the slug is taken, or the owner has `most` services, or is gone.
    pub async fn add_service(
        &self,
        owner: &Namespace,
        new: NewService,
        most: u64,
        now: UnixTime,
    ) -> Result<Result<ServiceRecord, ServiceFault>, StoreFault> {
        let made = record(owner, &new, now)?;
        let added = retrying(|| self.try_add_service(&made, most, None)).await?;
        Ok(added.map(|()| made))
    }

    /// Makes a service of this id and its first webhook, or neither: what the webhook's secrets are sealed for is known before.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: as [`Store::add_service`], or where a service may have no webhook
    /// (`most_webhooks`).
    pub async fn add_service_with_webhook(
        &self,
        owner: &Namespace,
        id: ServiceId,
        new: NewService,
        webhook: NewWebhook,
        (most, most_webhooks): (u64, u64),
        now: UnixTime,
    ) -> Result<Result<(ServiceRecord, WebhookRecord), ServiceFault>, StoreFault> {
        let made = ServiceRecord { id, ..record(owner, &new, now)? };
        let hook = webhooks::to_be_made(&made.id, &webhook, now)?;
        let wanted = Wanted { made: &hook, new: &webhook, most: most_webhooks };
        let added = retrying(|| self.try_add_service(&made, most, Some(wanted))).await?;
        Ok(added.map(|()| (made, hook)))
    }

    async fn try_add_service(
        &self,
        made: &ServiceRecord,
        most: u64,
        webhook: Option<Wanted<'_>>,
    ) -> Answer<()> {
        let mut change = self.change().await?;
        if change.lock_namespace(&made.owner).await?.is_none() {
            return Ok(Err(ServiceFault::NotFound));
        }
        if let Err(fault) = room(&mut change.transaction, &made.owner, &made.slug, most).await? {
            return Ok(Err(fault));
        }
        change.insert_service(made).await?;
        if let Some(wanted) = webhook
            && let Err(fault) = change.insert_webhook(wanted).await?
        {
            return Ok(Err(fault));
        }
        change.commit().await?;
        Ok(Ok(()))
    }

    /// The owner's services, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn services(&self, owner: &Namespace) -> Result<Vec<ServiceRecord>, StoreFault> {
        let rows = sqlx::query(select_services!("WHERE owner = $1 ORDER BY created_at, id"))
            .bind(owner.as_str())
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(service).collect()
    }

    /// The slugs of the services of each of these owners, as they stand: none is read as more than a text, so none that
    /// cannot be read fails the others.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn slugs_of<'a>(
        &self,
        owners: impl IntoIterator<Item = &'a Namespace>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, StoreFault> {
        let owners: Vec<&Namespace> = owners.into_iter().collect();
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for some in owners.chunks(CHUNK) {
            let text =
                format!("SELECT owner, slug FROM services WHERE owner IN ({})", placeholders(1, some.len()));
            let mut query = sqlx::query(AssertSqlSafe(text)).persistent(some.len() == CHUNK);
            for owner in some {
                query = query.bind(owner.as_str());
            }
            for row in query.fetch_all(self.readers()).await? {
                found.entry(row.try_get("owner")?).or_default().insert(row.try_get("slug")?);
            }
        }
        Ok(found)
    }

    /// Whether the owner may have one more service, of this slug, now.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: as [`Store::add_service`], but that the owner may be gone.
    pub async fn room_for_service(&self, owner: &Namespace, slug: &ServiceSlug, most: u64) -> Answer<()> {
        let mut snapshot = self.snapshot().await?;
        let room = room(&mut snapshot, owner, slug, most).await?;
        snapshot.commit().await?;
        Ok(room)
    }

    /// One of the owner's services.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn service(
        &self,
        owner: &Namespace,
        id: &ServiceId,
    ) -> Result<Option<ServiceRecord>, StoreFault> {
        let row = sqlx::query(select_services!("WHERE id = $1 AND owner = $2"))
            .bind(id.as_str())
            .bind(owner.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.as_ref().map(service).transpose()
    }

    /// One of the owner's services, by its slug.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn service_of_slug(
        &self,
        owner: &Namespace,
        slug: &ServiceSlug,
    ) -> Result<Option<ServiceRecord>, StoreFault> {
        let row = sqlx::query(select_services!("WHERE owner = $1 AND slug = $2"))
            .bind(owner.as_str())
            .bind(slug.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.as_ref().map(service).transpose()
    }

    /// Changes a service.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: when there is no such service.
    pub async fn change_service(
        &self,
        owner: &Namespace,
        id: &ServiceId,
        change: ServiceChange,
        now: UnixTime,
    ) -> Result<Result<ServiceRecord, ServiceFault>, StoreFault> {
        let what = &change;
        retrying(|| async move {
            let (upstream_changes, upstream) = match &what.upstream_url {
                Some(upstream) => (1, upstream.as_deref()),
                None => (0, None),
            };
            let row = sqlx::query(
                "UPDATE services SET name = COALESCE($3, name), domain = COALESCE($4, domain), \
                 description = COALESCE($5, description), mode = COALESCE($6, mode), \
                 upstream_url = CASE WHEN $7 = 1 THEN $8 ELSE upstream_url END, updated_at = $9 \
                 WHERE id = $1 AND owner = $2 \
                 RETURNING id, owner, slug, name, domain, description, mode, upstream_url, created_at, updated_at",
            )
            .bind(id.as_str())
            .bind(owner.as_str())
            .bind(what.name.as_deref())
            .bind(what.domain.as_deref())
            .bind(what.description.as_deref())
            .bind(what.mode.map(ServiceMode::word))
            .bind(upstream_changes)
            .bind(upstream)
            .bind(now.millis())
            .fetch_optional(self.writers())
            .await?;
            Ok(row.as_ref().map(service).transpose()?.ok_or(ServiceFault::NotFound))
        })
        .await
    }
}

impl super::change::Change {
    pub(super) async fn insert_service(&mut self, made: &ServiceRecord) -> Result<(), StoreFault> {
        sqlx::query(
            "INSERT INTO services (id, owner, slug, name, domain, description, mode, upstream_url, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(made.id.as_str())
        .bind(made.owner.as_str())
        .bind(made.slug.as_str())
        .bind(&*made.name)
        .bind(&*made.domain)
        .bind(&*made.description)
        .bind(made.mode.word())
        .bind(made.upstream_url.as_deref())
        .bind(made.created_at.millis())
        .bind(made.updated_at.millis())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

/// Whether the owner may have one more service, of this slug.
async fn room(
    transaction: &mut Transaction<'static, Any>,
    owner: &Namespace,
    slug: &ServiceSlug,
    most: u64,
) -> Answer<()> {
    let taken: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM services WHERE owner = $1 AND slug = $2")
        .bind(owner.as_str())
        .bind(slug.as_str())
        .fetch_one(&mut **transaction)
        .await?;
    if taken > 0 {
        return Ok(Err(ServiceFault::SlugTaken(slug.clone())));
    }
    let there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM services WHERE owner = $1")
        .bind(owner.as_str())
        .fetch_one(&mut **transaction)
        .await?;
    if count(there) >= most {
        return Ok(Err(ServiceFault::Limit { what: "the number of services of an owner", most }));
    }
    Ok(Ok(()))
}

/// The record of a service to be made.
pub(super) fn record(
    owner: &Namespace,
    new: &NewService,
    now: UnixTime,
) -> Result<ServiceRecord, StoreFault> {
    Ok(ServiceRecord {
        id: ServiceId::from_random(random()?),
        owner: owner.clone(),
        slug: new.slug.clone(),
        name: new.name.clone(),
        domain: new.domain.clone(),
        description: new.description.clone(),
        mode: new.mode,
        upstream_url: new.upstream_url.clone(),
        created_at: now,
        updated_at: now,
    })
}

pub(super) fn service(row: &AnyRow) -> Result<ServiceRecord, StoreFault> {
    let mode: String = row.try_get("mode")?;
    Ok(ServiceRecord {
        id: parsed(row, "id")?,
        owner: parsed(row, "owner")?,
        slug: parsed(row, "slug")?,
        name: row.try_get("name")?,
        domain: row.try_get("domain")?,
        description: row.try_get("description")?,
        mode: ServiceMode::from_word(&mode).ok_or_else(|| StoreFault::Unreadable {
            what: "service's mode",
            cause: "it is neither native nor gateway".to_owned(),
        })?,
        upstream_url: optional(row, "upstream_url")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::DatabaseUrl;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[tokio::test]
    async fn slugs_of_many_owners_are_read_together_and_a_spoilt_service_fails_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("sigilum.db"))).await.unwrap();
        let owners: Vec<Namespace> =
            (0..CHUNK + 2).map(|number| format!("owner-{number}").parse().unwrap()).collect();
        for owner in &owners {
            store.add_owner(owner, "root@owner.example", NOW).await.unwrap();
            let new = NewService {
                slug: "mail".parse().unwrap(),
                name: "mail".to_owned(),
                domain: "localhost".to_owned(),
                description: String::new(),
                mode: ServiceMode::Native,
                upstream_url: None,
            };
            store.add_service(owner, new, 5, NOW).await.unwrap().unwrap();
        }
        let spoil = sqlx::query("UPDATE services SET mode = 'odd', slug = 'No Slug' WHERE owner = $1");
        spoil.bind(owners[0].as_str()).execute(store.writers()).await.unwrap();
        store.services(&owners[0]).await.unwrap_err();
        let found = store.slugs_of(&owners[..owners.len() - 1]).await.unwrap();
        assert_eq!(found.len(), owners.len() - 1);
        assert!(found.iter().all(|(owner, slugs)| owner == "owner-0" || slugs.contains("mail")));
    }
}
