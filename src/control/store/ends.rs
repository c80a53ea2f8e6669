//! How claims end: their time is over, or they are taken back; and what is kept of them.

use std::collections::VecDeque;
use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::change::{Change, Line, placeholders};
use super::record::{claim, select_claims};
use super::{Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimRecord, ClaimStatus};
use crate::control::domain::owner::OwnerSettings;
use crate::control::domain::webhook::WebhookEvent;

/// Who decided, where it was no owner: the owner's rules, or the time.
pub(super) const AUTO: &str = "auto";
/// How long a claim waits for its owner.
const PENDING: Duration = Duration::from_secs(24 * 3600);
/// Claims that one call expires at most.
const BATCH: i64 = 500;
/// Claims that one statement ends at most.
const ROWS: usize = 100;
/// Claims of a namespace that are kept which a limit rejected.
const REJECTED_KEPT: i64 = 1_000;
/// Of these, those that one call forgets at most.
const REJECTED_BATCH: i64 = 10_000;
/// How long an ended claim is kept, and how many of a namespace are.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
const ENDED_KEPT: i64 = 100_000;
/// Statements by which one call forgets what is beyond that.
const ENDED_BATCHES: usize = 100;

/// How claims end.
pub(super) struct End {
    pub(super) status: ClaimStatus,
    pub(super) by: String,
    pub(super) at: UnixTime,
}

impl End {
    /// Their time is over.
    pub(super) fn expired(at: UnixTime) -> Self {
        Self { status: ClaimStatus::Expired, by: AUTO.to_owned(), at }
    }

    /// What they were on is gone.
    pub(super) fn revoked(at: UnixTime) -> Self {
        Self { status: ClaimStatus::Revoked, by: AUTO.to_owned(), at }
    }

    fn event(&self) -> WebhookEvent {
        match self.status {
            ClaimStatus::Expired => WebhookEvent::Expired,
            ClaimStatus::Rejected => WebhookEvent::Rejected,
            _ => WebhookEvent::Revoked,
        }
    }
}

/// Whether the time of a pending or approved claim is over, whatever its status says yet.
pub(super) fn is_over(claim: &ClaimRecord, settings: &OwnerSettings, now: UnixTime) -> bool {
    match claim.status {
        ClaimStatus::Pending => settings.auto_expire && claim.created_at.plus(PENDING) <= now,
        ClaimStatus::Approved => claim.expires_at.is_some_and(|end| end <= now),
        _ => false,
    }
}

impl Store {
    /// Expires what is due: pending ones after 24 h (where the owner's `autoExpire` says so), approved ones at their
    /// end; at most 500 a call, each once however many replicas call. Gives how many there were.
    ///
    /// # Errors
    /// When the database fails, or holds nothing that is due but claims that cannot be read.
    pub async fn expire_claims(&self, now: UnixTime) -> Result<usize, StoreFault> {
        retrying(|| self.try_expire(now)).await
    }

    async fn try_expire(&self, now: UnixTime) -> Result<usize, StoreFault> {
        let mut change = self.change().await?;
        let approved = sqlx::query(self.backend().free_for_update(select_claims!(
            "WHERE status = 'approved' AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2"
        )))
        .bind(now.millis())
        .bind(BATCH)
        .fetch_all(&mut *change.transaction)
        .await?;
        let left = BATCH - i64::try_from(approved.len()).unwrap_or(BATCH);
        let pending = sqlx::query(self.backend().free_for_update(select_claims!(
            "WHERE status = 'pending' AND created_at <= $1 \
             AND namespace IN (SELECT namespace FROM namespaces WHERE auto_expire = 1) \
             ORDER BY created_at, id LIMIT $2"
        )))
        .bind(now.millis().saturating_sub(i64::try_from(PENDING.as_millis()).unwrap_or(i64::MAX)))
        .bind(left)
        .fetch_all(&mut *change.transaction)
        .await?;
        let (mut due, mut first_fault) = (Vec::new(), None);
        for row in approved.iter().chain(&pending) {
            match claim(row) {
                Ok(claim) => due.push(claim),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        let expired = due.len();
        // A claim that cannot be read does not hold up the others.
        if let Some(fault) = first_fault
            && expired == 0
        {
            return Err(fault);
        }
        if expired > 0 {
            let mut lines = Vec::new();
            change.end(due, &End::expired(now), &mut lines).await?;
            change.append(&lines).await?;
            change.commit().await?;
        }
        Ok(expired)
    }

    /// Forgets claims that ended more than 90 days ago, at most 500 a call. Of a namespace that was deleted its first one
    /// is kept: it keeps the DID deactivated. Gives how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_claims(&self, now: UnixTime) -> Result<usize, StoreFault> {
        let before = now.millis().saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
        retrying(|| async move {
            let gone = sqlx::query(
                "DELETE FROM claims WHERE id IN (SELECT c.id FROM claims c \
                 WHERE c.status IN ('rejected', 'revoked', 'expired') AND c.decided_at <= $1 AND ( \
                     EXISTS (SELECT 1 FROM namespaces n WHERE n.namespace = c.namespace AND n.deleted_at IS NULL) \
                     OR EXISTS (SELECT 1 FROM claims o WHERE o.namespace = c.namespace \
                         AND (o.created_at, o.id) < (c.created_at, c.id)) \
                 ) LIMIT $2)",
            )
            .bind(before)
            .bind(BATCH)
            .execute(self.writers())
            .await?;
            Ok(usize::try_from(gone.rows_affected()).unwrap_or(usize::MAX))
        })
        .await
    }

    /// Forgets the oldest of the ended claims of each namespace that has more than 100,000 of them, at most 50,000 a call.
    /// Gives how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_ended(&self) -> Result<usize, StoreFault> {
        self.forget_ended(ENDED_KEPT).await
    }

    async fn forget_ended(&self, kept: i64) -> Result<usize, StoreFault> {
        // COALESCE has SQLite count in the index of namespaces, and not look up each claim that ended.
        let crowded: Vec<String> = sqlx::query_scalar(
            "SELECT namespace FROM claims WHERE COALESCE(status, '') IN ('rejected', 'revoked', 'expired') \
             GROUP BY namespace HAVING COUNT(*) > $1",
        )
        .bind(kept)
        .fetch_all(self.readers())
        .await?;
        // They take turns, so that none waits for another that has very many.
        let mut crowded = VecDeque::from(crowded);
        let mut forgotten = 0;
        for _ in 0..ENDED_BATCHES {
            let Some(namespace) = crowded.pop_front() else { break };
            let gone = retrying(|| self.forget_oldest(&namespace, kept)).await?;
            forgotten += usize::try_from(gone).unwrap_or(usize::MAX);
            if i64::try_from(gone).is_ok_and(|gone| gone >= BATCH) {
                crowded.push_back(namespace);
            }
        }
        Ok(forgotten)
    }

    async fn forget_oldest(&self, namespace: &str, kept: i64) -> Result<u64, StoreFault> {
        let gone = sqlx::query(
            "DELETE FROM claims WHERE id IN (SELECT id FROM claims WHERE namespace = $1 \
             AND status IN ('rejected', 'revoked', 'expired') \
             ORDER BY decided_at DESC, id LIMIT $2 OFFSET $3)",
        )
        .bind(namespace)
        .bind(BATCH)
        .bind(kept)
        .execute(self.writers())
        .await?;
        Ok(gone.rows_affected())
    }
}

impl Store {
    /// Forgets what the limits rejected, but for the newest thousand of each namespace: whoever has a service API key
    /// may ask for claims in any namespace as often as its rate allows. At most 10,000 a call; gives how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_rejected(&self) -> Result<usize, StoreFault> {
        retrying(|| async move {
            let gone = sqlx::query(
                "DELETE FROM claims WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER \
                 (PARTITION BY namespace ORDER BY created_at DESC, id DESC) AS place FROM claims \
                 WHERE status = 'rejected' AND decided_by = 'limit') AS placed WHERE place > $1 LIMIT $2)",
            )
            .bind(REJECTED_KEPT)
            .bind(REJECTED_BATCH)
            .execute(self.writers())
            .await?;
            Ok(usize::try_from(gone.rows_affected()).unwrap_or(usize::MAX))
        })
        .await
    }
}

impl Change {
    /// Ends claims that are pending or approved and that this transaction has locked, and queues what webhooks are
    /// told; the lines for the feed are left to the end. Gives the claims as they are now.
    pub(super) async fn end(
        &mut self,
        mut claims: Vec<ClaimRecord>,
        end: &End,
        lines: &mut Vec<Line>,
    ) -> Result<Vec<ClaimRecord>, StoreFault> {
        for some in claims.chunks(ROWS) {
            // COALESCE keeps SQLite from looking at every claim that is pending or approved.
            let text = format!(
                "UPDATE claims SET status = $1, decided_at = $2, decided_by = $3 \
                 WHERE COALESCE(status, '') IN ('pending', 'approved') AND id IN ({})",
                placeholders(4, some.len())
            );
            let mut update = sqlx::query(AssertSqlSafe(text))
                .persistent(some.len() == 1)
                .bind(end.status.word())
                .bind(end.at.millis())
                .bind(&*end.by);
            for claim in some {
                update = update.bind(claim.id.as_str());
            }
            let ended = update.execute(&mut *self.transaction).await?.rows_affected();
            if usize::try_from(ended).ok() != Some(some.len()) {
                return Err(StoreFault::Contended("a claim was decided by another meanwhile".to_owned()));
            }
        }
        for claim in &mut claims {
            let was_approved = claim.status == ClaimStatus::Approved;
            claim.status = end.status;
            claim.decided_at = Some(end.at);
            claim.decided_by = Some(end.by.clone());
            self.deliver(claim, end.event(), end.at).await?;
            if was_approved {
                lines.push(Line::about(claim, end.status.word(), end.at));
            }
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::DatabaseUrl;
    use crate::names::{Namespace, ServiceSlug};
    use crate::protocol::Identity;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[tokio::test]
    async fn of_ended_claims_the_newest_are_kept_in_each_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("sigilum.db"))).await.unwrap();
        let service: ServiceSlug = "mail".parse().unwrap();
        for (namespace, count) in [("acme", 5_u8), ("other", 3)] {
            let namespace: Namespace = namespace.parse().unwrap();
            for number in 0..count {
                let at = NOW.plus(Duration::from_secs(number.into()));
                let key = *Identity::create(&namespace, [number + 1; 32], at).public_key();
                for approved in [true, false] {
                    store.seed_claim(&namespace, &service, &key, approved, at).await.unwrap();
                }
            }
        }
        assert_eq!(store.forget_ended(3).await.unwrap(), 2);
        assert_eq!(store.forget_ended(3).await.unwrap(), 0);
        let oldest: Vec<i64> =
            sqlx::query_scalar("SELECT MIN(decided_at) FROM claims GROUP BY namespace ORDER BY namespace")
                .fetch_all(store.readers())
                .await
                .unwrap();
        assert_eq!(oldest, [NOW.millis() + 2_000, NOW.millis()]);
    }

    #[tokio::test]
    async fn one_call_forgets_all_that_crowded_namespaces_have_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("sigilum.db"))).await.unwrap();
        for (namespace, count) in [("acme", 1_300_i64), ("other", 700)] {
            sqlx::query(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $2) \
                 INSERT INTO claims (id, namespace, public_key, service_id, service, service_owner, subject, \
                 agent_ip, status, scopes, created_at, decided_at) \
                 SELECT $1 || n, $1, 'key', 'svc', 'mail', 'acme', 'agent', '10.0.0.1', 'expired', '[]', n, n \
                 FROM numbers",
            )
            .bind(namespace)
            .bind(count)
            .execute(store.writers())
            .await
            .unwrap();
        }
        assert_eq!(store.forget_ended(100).await.unwrap(), 1_200 + 600);
        assert_eq!(store.forget_ended(100).await.unwrap(), 0);
        let left = "SELECT MIN(decided_at) FROM claims GROUP BY namespace ORDER BY namespace";
        let oldest: Vec<i64> = sqlx::query_scalar(left).fetch_all(store.readers()).await.unwrap();
        assert_eq!(oldest, [1_201, 601]);
    }
}
