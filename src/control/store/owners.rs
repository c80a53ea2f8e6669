//! Namespaces and owners.

use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::change::Change;
use super::record::{count, json, parsed, settings, time};
use super::{Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::owner::{NamespaceRecord, Owner, OwnerSettings};
use crate::names::{Namespace, hex};
use crate::protocol::PublicKey;

/// Keys that a DID document names at most.
const KEYS: i64 = 256;
/// Of a namespace that has more keys, those among which the oldest are looked for.
const KEYS_LOOKED_AT: i64 = 500;

/// What a DID document is made from.
#[derive(Debug, Clone, PartialEq)]
pub enum DidState {
    /// No such namespace, and no claim of it.
    Unknown,
    /// It is gone, and claims are left.
    Deactivated,
    /// It stands; the keys are those of its approved claims, each once, oldest first; at most 256, of more than 500 not
    /// surely the oldest.
    Active {
        /// Its keys.
        keys: Vec<PublicKey>,
        /// When it was made.
        created_at: UnixTime,
        /// When its keys last changed.
        updated_at: UnixTime,
    },
}

impl Store {
    /// Makes the namespace where there is none, and adds the owner where there is none with this address. Addresses
    /// are kept in lower case.
    ///
    /// # Errors
    /// When the namespace was deleted: its name is not given again. When the database fails.
    pub async fn add_owner(
        &self,
        namespace: &Namespace,
        email: &str,
        now: UnixTime,
    ) -> Result<Owner, StoreFault> {
        let email = &email.to_ascii_lowercase();
        retrying(|| self.try_add_owner(namespace, email, now)).await
    }

    async fn try_add_owner(
        &self,
        namespace: &Namespace,
        email: &str,
        now: UnixTime,
    ) -> Result<Owner, StoreFault> {
        let mut change = self.change().await?;
        make_namespace(&mut change.transaction, namespace, now).await?;
        if change.lock_namespace(namespace).await?.is_none() {
            return Err(StoreFault::NamespaceGone(namespace.clone()));
        }
        sqlx::query(
            "INSERT INTO owners (id, namespace, email, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (namespace, email) DO NOTHING",
        )
        .bind(format!("usr_{}", hex(&random::<16>()?)))
        .bind(namespace.as_str())
        .bind(email)
        .bind(now.millis())
        .execute(&mut *change.transaction)
        .await?;
        let row = sqlx::query(
            "SELECT id, namespace, email, created_at FROM owners WHERE namespace = $1 AND email = $2",
        )
        .bind(namespace.as_str())
        .bind(email)
        .fetch_one(&mut *change.transaction)
        .await?;
        change.commit().await?;
        owner(&row)
    }

    /// The owner of this id, if it is still one of a namespace that stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owner(&self, id: &str) -> Result<Option<Owner>, StoreFault> {
        let row = sqlx::query(
            "SELECT id, namespace, email, created_at FROM owners WHERE id = $1 AND namespace IN \
             (SELECT namespace FROM namespaces WHERE deleted_at IS NULL)",
        )
        .bind(id)
        .fetch_optional(self.readers())
        .await?;
        row.as_ref().map(owner).transpose()
    }

    /// The namespace, if it stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceRecord>, StoreFault> {
        let row = sqlx::query(
            "SELECT namespace, created_at, settings FROM namespaces \
             WHERE namespace = $1 AND deleted_at IS NULL",
        )
        .bind(namespace.as_str())
        .fetch_optional(self.readers())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(NamespaceRecord {
            namespace: parsed(&row, "namespace")?,
            created_at: time(&row, "created_at")?,
            settings: settings(&row.try_get::<String, _>("settings")?)?,
        }))
    }

    /// Replaces the owner's policy, whoever wants it; of a namespace that does not stand, nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_settings(
        &self,
        namespace: &Namespace,
        settings: &OwnerSettings,
    ) -> Result<(), StoreFault> {
        retrying(|| async {
            let mut change = self.change().await?;
            if let Some(before) = change.lock_namespace(namespace).await? {
                change.write_settings(namespace, &before, settings).await?;
                change.commit().await?;
            }
            Ok(())
        })
        .await
    }

    /// Changes the owner's policy as far as the owner `by` may do alone ([`OwnerSettings::as_far_as`]), while nobody
    /// else does; gives it as it was and as it is. `None`: the namespace does not stand.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: what `change` has against it.
    pub async fn change_settings<E>(
        &self,
        namespace: &Namespace,
        by: &str,
        change: impl Fn(OwnerSettings) -> Result<OwnerSettings, E>,
    ) -> Result<Option<Result<(OwnerSettings, OwnerSettings), E>>, StoreFault> {
        let wanted = &change;
        retrying(|| async move {
            let mut change = self.change().await?;
            let Some(before) = change.lock_namespace(namespace).await? else { return Ok(None) };
            let after = match wanted(before.clone()) {
                Ok(after) => after,
                Err(fault) => return Ok(Some(Err(fault))),
            };
            let owners: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM owners WHERE namespace = $1")
                .bind(namespace.as_str())
                .fetch_one(&mut *change.transaction)
                .await?;
            let after = after.as_far_as(&before, by, count(owners));
            change.write_settings(namespace, &before, &after).await?;
            change.commit().await?;
            Ok(Some(Ok((before, after))))
        })
        .await
    }

    /// What is known of a namespace's keys, for its DID document.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn did_state(&self, namespace: &Namespace) -> Result<DidState, StoreFault> {
        let mut snapshot = self.snapshot().await?;
        let created: Option<i64> = sqlx::query_scalar(
            "SELECT created_at FROM namespaces WHERE namespace = $1 AND deleted_at IS NULL",
        )
        .bind(namespace.as_str())
        .fetch_optional(&mut *snapshot)
        .await?;
        let Some(created) = created else {
            let left: Option<String> =
                sqlx::query_scalar("SELECT id FROM claims WHERE namespace = $1 LIMIT 1")
                    .bind(namespace.as_str())
                    .fetch_optional(&mut *snapshot)
                    .await?;
            snapshot.commit().await?;
            return Ok(if left.is_some() { DidState::Deactivated } else { DidState::Unknown });
        };
        // It hops from key to key in the index: anybody may ask, however many claims a key has.
        let rows = sqlx::query(
            "WITH RECURSIVE hops (public_key) AS ( \
                 SELECT MIN(public_key) FROM claims WHERE namespace = $1 AND status = 'approved' \
                 UNION ALL \
                 SELECT (SELECT MIN(c.public_key) FROM claims c \
                     WHERE c.namespace = $1 AND c.status = 'approved' AND c.public_key > hops.public_key) \
                 FROM hops WHERE hops.public_key IS NOT NULL \
             ) \
             SELECT public_key, (SELECT MIN(c.approved_at) FROM claims c \
                 WHERE c.namespace = $1 AND c.status = 'approved' AND c.public_key = found.public_key) AS since \
             FROM (SELECT public_key FROM hops WHERE public_key IS NOT NULL LIMIT $2) AS found \
             ORDER BY since, public_key LIMIT $3",
        )
        .bind(namespace.as_str())
        .bind(KEYS_LOOKED_AT)
        .bind(KEYS)
        .fetch_all(&mut *snapshot)
        .await?;
        let changed: Option<i64> = sqlx::query_scalar(
            "SELECT decided_at FROM claims WHERE namespace = $1 AND decided_at IS NOT NULL \
             AND approved_at IS NOT NULL ORDER BY decided_at DESC LIMIT 1",
        )
        .bind(namespace.as_str())
        .fetch_optional(&mut *snapshot)
        .await?;
        snapshot.commit().await?;
        Ok(DidState::Active {
            keys: rows.iter().map(|row| parsed(row, "public_key")).collect::<Result<_, _>>()?,
            created_at: UnixTime::from_millis(created),
            updated_at: UnixTime::from_millis(changed.unwrap_or(created).max(created)),
        })
    }
}

impl Change {
    async fn write_settings(
        &mut self,
        namespace: &Namespace,
        before: &OwnerSettings,
        after: &OwnerSettings,
    ) -> Result<(), StoreFault> {
        sqlx::query("UPDATE namespaces SET settings = $2, auto_expire = $3 WHERE namespace = $1")
            .bind(namespace.as_str())
            .bind(json(after)?)
            .bind(i64::from(after.auto_expire))
            .execute(&mut *self.transaction)
            .await?;
        let lacks = |list: &[String], slug: &String| !list.contains(slug);
        for slug in before.trusted_services.iter().filter(|slug| lacks(&after.trusted_services, slug)) {
            sqlx::query("DELETE FROM trusted_services WHERE namespace = $1 AND slug = $2")
                .bind(namespace.as_str())
                .bind(slug)
                .execute(&mut *self.transaction)
                .await?;
        }
        for slug in after.trusted_services.iter().filter(|slug| lacks(&before.trusted_services, slug)) {
            self.pin_trusted(namespace, slug).await?;
        }
        Ok(())
    }

    /// Notes whose service a bare slug means, where it is one other owner's alone.
    async fn pin_trusted(&mut self, namespace: &Namespace, slug: &str) -> Result<(), StoreFault> {
        // Without locks: where one that goes is waited for, it is missing from the two, and a third one is not asked for.
        let named = sqlx::query("SELECT id FROM services WHERE slug = $1 ORDER BY id LIMIT 2")
            .bind(slug)
            .fetch_all(&mut *self.transaction)
            .await?;
        let [only] = named.as_slice() else { return Ok(()) };
        let only = parsed(only, "id")?;
        let Some(standing) = self.hold_service(&only).await? else { return Ok(()) };
        if standing.owner == *namespace {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO trusted_services (namespace, slug, service_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(namespace.as_str())
        .bind(slug)
        .bind(only.as_str())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

/// Makes the namespace where there is no row of it.
pub(super) async fn make_namespace(
    transaction: &mut Transaction<'static, Any>,
    namespace: &Namespace,
    now: UnixTime,
) -> Result<(), StoreFault> {
    let settings = OwnerSettings::default();
    sqlx::query(
        "INSERT INTO namespaces (namespace, created_at, deleted_at, auto_expire, settings) \
         VALUES ($1, $2, NULL, $3, $4) ON CONFLICT (namespace) DO NOTHING",
    )
    .bind(namespace.as_str())
    .bind(now.millis())
    .bind(i64::from(settings.auto_expire))
    .bind(json(&settings)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn owner(row: &AnyRow) -> Result<Owner, StoreFault> {
    Ok(Owner {
        id: row.try_get("id")?,
        namespace: parsed(row, "namespace")?,
        email: row.try_get("email")?,
        created_at: time(row, "created_at")?,
    })
}
