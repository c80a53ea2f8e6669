//! A writing transaction, and who is told of it once it is committed.

use std::collections::BTreeMap;

use sqlx::{Any, AssertSqlSafe, Transaction};

use super::backend::Backend;
use super::record::{Written, json, parsed, settings};
use super::replicas::{NOTIFY, NOTIFY_CHANNEL, What};
use super::{Signal, Store, StoreFault, random};
use crate::clock::UnixTime;
use crate::control::domain::claim::ClaimRecord;
use crate::control::domain::owner::OwnerSettings;
use crate::control::domain::service::ServiceFault;
use crate::control::domain::webhook::WebhookEvent;
use crate::names::{ClaimId, Namespace, ServiceId, ServiceSlug, WebhookId, hex};

/// Rows of the feed that one statement writes.
const ROWS: usize = 100;

/// An outer fault is the database's, an inner one the answer.
pub(super) type Answer<T> = Result<Result<T, ServiceFault>, StoreFault>;

/// A writing transaction. Rows are locked in one order everywhere, so that no two wait for each other in a circle: the
/// namespace, the service, the claims, the webhooks (by the deliveries), and the feed's head last.
pub(super) struct Change {
    store: Store,
    pub(super) transaction: Transaction<'static, Any>,
    /// Who is told of claims on which service, read once.
    pub(super) receivers: BTreeMap<ServiceId, Vec<Receiver>>,
    rings: Vec<What>,
}

/// A webhook that may be told, as a transaction found it.
pub(super) struct Receiver {
    pub(super) webhook: WebhookId,
    pub(super) events: Vec<WebhookEvent>,
    /// How many deliveries wait for it, once that was asked.
    pub(super) waiting: Option<u64>,
    /// What would be one too many, and was not queued.
    pub(super) dropped: u64,
}

/// A line of the feed, before it has its number.
pub(super) struct Line {
    pub(super) at: UnixTime,
    pub(super) service_owner: Namespace,
    pub(super) service: ServiceSlug,
    pub(super) claim: ClaimId,
    /// `approved`, `revoked` or `expired`.
    pub(super) change: &'static str,
    /// The claim as JSON, where it was approved.
    pub(super) written: Option<String>,
}

/// A service that stands and is not removed before the transaction ends.
pub(super) struct Standing {
    pub(super) slug: ServiceSlug,
    pub(super) owner: Namespace,
}

impl Store {
    pub(super) async fn change(&self) -> Result<Change, StoreFault> {
        let transaction = self.begin().await?;
        Ok(Change { store: self.clone(), transaction, receivers: BTreeMap::new(), rings: Vec::new() })
    }
}

impl Change {
    pub(super) fn backend(&self) -> Backend {
        self.store.backend()
    }

    /// Keeps others from deciding about this namespace's claims, and gives its policy; `None` where it does not stand.
    pub(super) async fn lock_namespace(
        &mut self,
        namespace: &Namespace,
    ) -> Result<Option<OwnerSettings>, StoreFault> {
        let select = "SELECT settings FROM namespaces WHERE namespace = $1 AND deleted_at IS NULL";
        let text: Option<String> = sqlx::query_scalar(self.store.backend().for_update(select))
            .bind(namespace.as_str())
            .fetch_optional(&mut *self.transaction)
            .await?;
        text.map(|text| settings(&text)).transpose()
    }

    /// Keeps others from removing the service.
    pub(super) async fn hold_service(&mut self, id: &ServiceId) -> Result<Option<Standing>, StoreFault> {
        let row =
            sqlx::query(self.store.backend().for_share("SELECT slug, owner FROM services WHERE id = $1"))
                .bind(id.as_str())
                .fetch_optional(&mut *self.transaction)
                .await?;
        row.map(|row| Ok(Standing { slug: parsed(&row, "slug")?, owner: parsed(&row, "owner")? })).transpose()
    }

    /// Keeps others from changing this service of this owner or what it has; `false` where the owner has none such.
    pub(super) async fn lock_service(
        &mut self,
        owner: &Namespace,
        id: &ServiceId,
    ) -> Result<bool, StoreFault> {
        let select = "SELECT id FROM services WHERE id = $1 AND owner = $2";
        let found: Option<String> = sqlx::query_scalar(self.store.backend().for_update(select))
            .bind(id.as_str())
            .bind(owner.as_str())
            .fetch_optional(&mut *self.transaction)
            .await?;
        Ok(found.is_some())
    }

    /// Has every replica told, once the change is committed.
    pub(super) fn tell(&mut self, signal: Signal) {
        self.rings.push(What::Signal(signal));
    }

    /// Has those woken who deliver, once the change is committed.
    pub(super) fn ring_outbox(&mut self) {
        if !self.rings.iter().any(|ring| matches!(ring, What::Outbox)) {
            self.rings.push(What::Outbox);
        }
    }

    /// Writes lines to the feed, and before them what webhooks were not told. The last thing that a transaction in which
    /// claims change does: nobody else can write to the feed until it ends, so the numbers are committed in their order.
    pub(super) async fn append(&mut self, lines: &[Line]) -> Result<(), StoreFault> {
        self.count_dropped().await?;
        if lines.is_empty() {
            return Ok(());
        }
        let tag = hex(&random::<4>()?);
        let count = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let last: i64 = sqlx::query_scalar("UPDATE feed_head SET seq = seq + $1 RETURNING seq")
            .bind(count)
            .fetch_one(&mut *self.transaction)
            .await?;
        let mut seq = last - count;
        for some in lines.chunks(ROWS) {
            let text = format!(
                "INSERT INTO feed_events (seq, at, service_owner, service, claim_id, change, claim, tag) VALUES {}",
                rows(some.len(), 8)
            );
            let mut insert = sqlx::query(AssertSqlSafe(text)).persistent(some.len() == 1);
            for line in some {
                seq += 1;
                insert = insert
                    .bind(seq)
                    .bind(line.at.millis())
                    .bind(line.service_owner.as_str())
                    .bind(line.service.as_str())
                    .bind(line.claim.as_str())
                    .bind(line.change)
                    .bind(line.written.as_deref())
                    .bind(&tag);
            }
            insert.execute(&mut *self.transaction).await?;
        }
        self.rings.push(What::Head(last));
        Ok(())
    }

    /// Commits, and tells who waits, in this process and in the others. A caller that goes away meanwhile does not
    /// keep the news from them.
    pub(super) async fn commit(self) -> Result<(), StoreFault> {
        let Self { store, mut transaction, rings, .. } = self;
        if store.backend() == Backend::Postgres {
            for ring in &rings {
                let payload = store.payload(ring.clone())?;
                sqlx::query(NOTIFY).bind(NOTIFY_CHANNEL).bind(payload).execute(&mut *transaction).await?;
            }
        }
        let committed = tokio::spawn(async move {
            transaction.commit().await?;
            rings.into_iter().for_each(|ring| store.0.hear(ring));
            Ok(())
        });
        committed.await.unwrap_or_else(|_| Err(StoreFault::Unavailable("the process is stopping".to_owned())))
    }
}

impl Line {
    /// The line that `claim` was approved.
    pub(super) fn approved(claim: &ClaimRecord, at: UnixTime) -> Result<Self, StoreFault> {
        let written = json(&Written::from(claim))?;
        Ok(Self { written: Some(written), ..Self::about(claim, "approved", at) })
    }

    /// The line that `claim` is no longer approved.
    pub(super) fn about(claim: &ClaimRecord, change: &'static str, at: UnixTime) -> Self {
        Self {
            at,
            service_owner: claim.service_owner.clone(),
            service: claim.service.clone(),
            claim: claim.id.clone(),
            change,
            written: None,
        }
    }
}

/// Placeholders of so many rows: `($1, $2), ($3, $4)`.
fn rows(count: usize, columns: usize) -> String {
    (0..count)
        .map(|row| format!("({})", placeholders(row * columns + 1, columns)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Placeholders of so many values: `$3, $4`.
pub(super) fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_on_from_row_to_row() {
        assert_eq!(rows(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(placeholders(4, 2), "$4, $5");
    }
}
