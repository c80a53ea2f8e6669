//! How services and namespaces go, with all that hangs on them.
//!
//! Their claims are revoked some at a time, each time in a transaction of its own, so that others get their turn however
//! many there are. The last transaction, in which nobody can make or approve one, takes the rest and removes. Where a process
//! dies in between, what was revoked stays revoked and was told, and whoever asks again finishes it.

use super::change::{Answer, Change, Line};
use super::ends::End;
use super::record::{claims, select_claims};
use super::{Signal, Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::control::domain::service::ServiceFault;
use crate::names::{Namespace, ServiceId};

/// Claims that are read at a time, and that one transaction revokes before it lets others in: at most twice as many.
const BATCH: u64 = 500;

/// Claims that go with a service, or a namespace, of the key `$1`; `$2` at a time, in the order in which they are
/// locked everywhere. The inner SELECT sorts nothing: it stops at the first ones that it finds. The outer one looks at the
/// status again, since another may have changed it before the lock; COALESCE keeps SQLite from finding the claims by that.
macro_rules! select_standing {
    ($of:literal) => {
        select_claims!(
            "WHERE id IN (SELECT id FROM claims WHERE ",
            $of,
            " AND status IN ('pending', 'approved') LIMIT $2) \
             AND COALESCE(status, '') IN ('pending', 'approved') ORDER BY id"
        )
    };
}

/// What one transaction did.
struct Step {
    /// Claims that it revoked.
    revoked: u64,
    /// Whether there are no more, so that what they hung on is gone.
    last: bool,
}

impl Store {
    /// Removes a service with its keys and webhooks; its claims that are pending or approved are revoked, through the
    /// feed, and counted. Its webhooks go first: they are told nothing of it. Every replica hears [`Signal::Access`].
    ///
    /// # Errors
    /// Outer: when the database fails; part of its claims may be revoked then. Inner: when there is no such service.
    pub async fn delete_service(
        &self,
        owner: &Namespace,
        id: &ServiceId,
        now: UnixTime,
    ) -> Result<Result<u64, ServiceFault>, StoreFault> {
        if let Err(fault) = retrying(|| self.remove_webhooks_of(owner, id)).await? {
            return Ok(Err(fault));
        }
        let mut revoked = 0;
        loop {
            match retrying(|| self.try_delete_service(owner, id, now)).await? {
                Ok(step) => {
                    revoked += step.revoked;
                    if step.last {
                        return Ok(Ok(revoked));
                    }
                }
                Err(fault) => return Ok(Err(fault)),
            }
        }
    }

    async fn remove_webhooks_of(&self, owner: &Namespace, id: &ServiceId) -> Answer<()> {
        let mut change = self.change().await?;
        if !change.lock_service(owner, id).await? {
            return Ok(Err(ServiceFault::NotFound));
        }
        sqlx::query("DELETE FROM webhooks WHERE service_id = $1")
            .bind(id.as_str())
            .execute(&mut *change.transaction)
            .await?;
        change.commit().await?;
        Ok(Ok(()))
    }

    async fn try_delete_service(&self, owner: &Namespace, id: &ServiceId, now: UnixTime) -> Answer<Step> {
        let mut change = self.change().await?;
        let there =
            sqlx::query(self.backend().for_removal("SELECT id FROM services WHERE id = $1 AND owner = $2"))
                .bind(id.as_str())
                .bind(owner.as_str())
                .fetch_optional(&mut *change.transaction)
                .await?;
        if there.is_none() {
            return Ok(Err(ServiceFault::NotFound));
        }
        let mut lines = Vec::new();
        let step =
            change.revoke(&[select_standing!("service_id = $1")], id.as_str(), now, &mut lines).await?;
        if step.last {
            sqlx::query("DELETE FROM services WHERE id = $1")
                .bind(id.as_str())
                .execute(&mut *change.transaction)
                .await?;
            change.tell(Signal::Access { owner: owner.to_string() });
        }
        change.append(&lines).await?;
        change.commit().await?;
        Ok(Ok(step))
    }

    /// Removes the namespace with its owners, services, keys and webhooks, and revokes its pairings; its claims that are
    /// pending or approved and those on its services are revoked, through the feed and the outbox. What is left of its
    /// claims keeps the DID `deactivated`, and its name is not given again. Every replica hears [`Signal::Access`]. Gives
    /// how many claims were revoked.
    ///
    /// # Errors
    /// When the database fails; part of the claims may be revoked then.
    pub async fn delete_namespace(&self, namespace: &Namespace, now: UnixTime) -> Result<u64, StoreFault> {
        retrying(|| self.remove_webhooks_in(namespace)).await?;
        let mut revoked = 0;
        loop {
            let step = retrying(|| self.try_delete_namespace(namespace, now)).await?;
            revoked += step.revoked;
            if step.last {
                return Ok(revoked);
            }
        }
    }

    async fn remove_webhooks_in(&self, namespace: &Namespace) -> Result<(), StoreFault> {
        let mut change = self.change().await?;
        if change.lock_namespace(namespace).await?.is_some() {
            sqlx::query(
                "DELETE FROM webhooks WHERE service_id IN (SELECT id FROM services WHERE owner = $1)",
            )
            .bind(namespace.as_str())
            .execute(&mut *change.transaction)
            .await?;
            change.commit().await?;
        }
        Ok(())
    }

    async fn try_delete_namespace(&self, namespace: &Namespace, now: UnixTime) -> Result<Step, StoreFault> {
        let mut change = self.change().await?;
        if change.lock_namespace(namespace).await?.is_none() {
            return Ok(Step { revoked: 0, last: true });
        }
        sqlx::query(self.backend().for_removal("SELECT id FROM services WHERE owner = $1 ORDER BY id"))
            .bind(namespace.as_str())
            .fetch_all(&mut *change.transaction)
            .await?;
        let mut lines = Vec::new();
        // One after the other: for both at once the database would read the claims of everybody.
        let selects = [
            select_standing!("namespace = $1"),
            select_standing!("service_id IN (SELECT id FROM services WHERE owner = $1)"),
        ];
        let step = change.revoke(&selects, namespace.as_str(), now, &mut lines).await?;
        if step.last {
            change.remove_namespace(namespace, now).await?;
        }
        change.append(&lines).await?;
        change.commit().await?;
        Ok(step)
    }
}

impl Change {
    async fn remove_namespace(&mut self, namespace: &Namespace, now: UnixTime) -> Result<(), StoreFault> {
        for statement in [
            "DELETE FROM trusted_services WHERE namespace = $1",
            "DELETE FROM services WHERE owner = $1",
            "DELETE FROM owners WHERE namespace = $1",
        ] {
            sqlx::query(statement).bind(namespace.as_str()).execute(&mut *self.transaction).await?;
        }
        for statement in [
            // Their sockets are closed at the next heartbeat.
            "UPDATE pairings SET revoked_at = $2, code_sha256 = NULL WHERE namespace = $1 AND revoked_at IS NULL",
            "UPDATE namespaces SET deleted_at = $2 WHERE namespace = $1",
        ] {
            let statement = sqlx::query(statement).bind(namespace.as_str()).bind(now.millis());
            statement.execute(&mut *self.transaction).await?;
        }
        self.tell(Signal::Access { owner: namespace.to_string() });
        Ok(())
    }

    /// Revokes the claims that these find by `key`: all of them, or a batch.
    async fn revoke(
        &mut self,
        selects: &[&'static str],
        key: &str,
        now: UnixTime,
        lines: &mut Vec<Line>,
    ) -> Result<Step, StoreFault> {
        let mut revoked = 0;
        for select in selects {
            loop {
                let rows = sqlx::query(self.backend().for_update(select))
                    .bind(key)
                    .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
                    .fetch_all(&mut *self.transaction)
                    .await?;
                if rows.is_empty() {
                    if self.stands(select, key).await? {
                        continue;
                    }
                    break;
                }
                revoked += rows.len() as u64;
                self.end(claims(&rows)?, &End::revoked(now), lines).await?;
                if revoked >= BATCH {
                    return Ok(Step { revoked, last: false });
                }
            }
        }
        Ok(Step { revoked, last: true })
    }

    /// Whether this finds any claim. A batch may be empty though it does: on PostgreSQL it is picked before its locks are
    /// waited for, and others may end all of it meanwhile. Without locks there is no such wait.
    async fn stands(&mut self, select: &'static str, key: &str) -> Result<bool, StoreFault> {
        let found = sqlx::query(select).bind(key).bind(1_i64).fetch_optional(&mut *self.transaction).await?;
        Ok(found.is_some())
    }
}
