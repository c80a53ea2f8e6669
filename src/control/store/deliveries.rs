//! Deliveries of webhooks, queued with the change that they tell of.

use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::change::{Change, Receiver};
use super::record::{count, parsed};
use super::webhooks::events_of;
use super::{StoreFault, random};
use crate::clock::UnixTime;
use crate::control::domain::claim::ClaimRecord;
use crate::control::domain::webhook::{MOST_WAITING, WebhookEvent, delivery_body};
use crate::names::{DeliveryId, ServiceId, WebhookId};

impl Change {
    /// Queues what webhooks are told of `claim`: one delivery for each one of its service that is told of `event`. The
    /// caller holds the claim's row, so that two changes of one claim are queued in their order.
    pub(super) async fn deliver(
        &mut self,
        claim: &ClaimRecord,
        event: WebhookEvent,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        if !self.receivers.contains_key(&claim.service_id) {
            let found = self.receivers_of(&claim.service_id).await?;
            self.receivers.insert(claim.service_id.clone(), found);
        }
        let receivers = self.receivers.get_mut(&claim.service_id).into_iter().flatten();
        for receiver in receivers.filter(|receiver| receiver.events.contains(&event)) {
            let waiting = match receiver.waiting {
                Some(waiting) => waiting,
                None => waiting(&mut self.transaction, &receiver.webhook).await?,
            };
            if waiting >= most_waiting() {
                receiver.waiting = Some(waiting);
                receiver.dropped += 1;
            } else {
                receiver.waiting = Some(waiting + 1);
                queue(&mut self.transaction, &receiver.webhook, claim, event, now).await?;
            }
        }
        self.ring_outbox();
        Ok(())
    }

    /// The webhooks of a service, which nobody removes before the transaction ends.
    async fn receivers_of(&mut self, service: &ServiceId) -> Result<Vec<Receiver>, StoreFault> {
        let select = "SELECT id, events FROM webhooks WHERE service_id = $1 ORDER BY id";
        let rows = sqlx::query(self.backend().for_share(select))
            .bind(service.as_str())
            .fetch_all(&mut *self.transaction)
            .await?;
        let receiver = |row: &AnyRow| {
            let events: String = row.try_get("events")?;
            Ok(Receiver {
                webhook: parsed(row, "id")?,
                events: events_of(&events)?,
                waiting: None,
                dropped: 0,
            })
        };
        rows.iter().map(receiver).collect()
    }

    /// Counts what was not queued.
    pub(super) async fn count_dropped(&mut self) -> Result<(), StoreFault> {
        for receiver in self.receivers.values_mut().flatten().filter(|receiver| receiver.dropped > 0) {
            let dropped = std::mem::take(&mut receiver.dropped);
            let webhook = &receiver.webhook;
            sqlx::query("UPDATE webhooks SET dropped = dropped + $2 WHERE id = $1")
                .bind(webhook.as_str())
                .bind(i64::try_from(dropped).unwrap_or(i64::MAX))
                .execute(&mut *self.transaction)
                .await?;
            tracing::warn!(%webhook, dropped, "too many deliveries wait for this webhook; further ones are dropped");
        }
        Ok(())
    }
}

fn most_waiting() -> u64 {
    u64::try_from(MOST_WAITING).unwrap_or(u64::MAX)
}

/// How many wait; no more are counted than may wait.
async fn waiting(
    transaction: &mut Transaction<'static, Any>,
    webhook: &WebhookId,
) -> Result<u64, StoreFault> {
    let waiting = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT 1 FROM deliveries WHERE webhook_id = $1 LIMIT $2) AS waiting",
    )
    .bind(webhook.as_str())
    .bind(i64::try_from(MOST_WAITING).unwrap_or(i64::MAX))
    .fetch_one(&mut **transaction)
    .await?;
    Ok(count(waiting))
}

async fn queue(
    transaction: &mut Transaction<'static, Any>,
    webhook: &WebhookId,
    claim: &ClaimRecord,
    event: WebhookEvent,
    now: UnixTime,
) -> Result<(), StoreFault> {
    let id = DeliveryId::from_random(random()?);
    sqlx::query(
        "INSERT INTO deliveries \
         (id, webhook_id, claim_id, position, event, body, attempts, created_at, next_attempt_at, leased_until) \
         SELECT $1, $2, $3, COALESCE(MAX(position), 0) + 1, $4, $5, 0, $6, $6, 0 \
         FROM deliveries WHERE webhook_id = $2 AND claim_id = $3",
    )
    .bind(id.as_str())
    .bind(webhook.as_str())
    .bind(claim.id.as_str())
    .bind(event.word())
    .bind(delivery_body(&id, event, webhook, claim, now))
    .bind(now.millis())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::domain::claim::ClaimStatus;
    use crate::control::domain::service::ServiceMode;
    use crate::control::domain::webhook::NewWebhook;
    use crate::control::store::{DatabaseUrl, NewService, Store};
    use crate::names::ClaimId;
    use crate::protocol::Identity;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    /// A store with a service of the owner `acme`, and a claim on it.
    async fn stage(directory: &tempfile::TempDir) -> (Store, ClaimRecord) {
        let store = Store::open(&DatabaseUrl::Sqlite(directory.path().join("sigilum.db"))).await.unwrap();
        let owner = "acme".parse().unwrap();
        store.add_owner(&owner, "root@acme.example", NOW).await.unwrap();
        let new = NewService {
            slug: "openai".parse().unwrap(),
            name: "OpenAI".to_owned(),
            domain: "openai.com".to_owned(),
            description: String::new(),
            mode: ServiceMode::Gateway,
            upstream_url: None,
        };
        let service = store.add_service(&owner, new, 5, NOW).await.unwrap().unwrap();
        let claim = ClaimRecord {
            id: ClaimId::from_random([1; 16]),
            namespace: "alice".parse().unwrap(),
            public_key: *Identity::create(&"alice".parse().unwrap(), [3; 32], NOW).public_key(),
            service_id: service.id,
            service: "openai".parse().unwrap(),
            service_owner: owner,
            subject: "alice".to_owned(),
            agent_id: None,
            agent_name: None,
            agent_ip: "10.0.0.1".parse().unwrap(),
            status: ClaimStatus::Approved,
            scopes: Vec::new(),
            created_at: NOW,
            approved_at: Some(NOW),
            decided_at: Some(NOW),
            decided_by: None,
            expires_at: None,
            first_approver: None,
        };
        (store, claim)
    }

    async fn add_webhook(store: &Store, claim: &ClaimRecord) -> WebhookId {
        let new = NewWebhook {
            url: "https://hooks.example.com/a".parse().unwrap(),
            events: vec![WebhookEvent::Approved],
            sealed_secret: "sealed".to_owned(),
            auth: None,
        };
        let made = store.add_webhook(&claim.service_owner, &claim.service_id, new, 5, NOW).await;
        made.unwrap().unwrap().id
    }

    #[tokio::test]
    async fn delivery_that_would_be_one_too_many_is_dropped_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let (store, claim) = stage(&directory).await;
        let webhook = add_webhook(&store, &claim).await;
        let mut change = store.change().await.unwrap();
        sqlx::query(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $2) \
             INSERT INTO deliveries SELECT 'del_' || n, $1, 'cl_' || n, 1, 'request.approved', '{}', 0, 1, 1, 0 \
             FROM numbers",
        )
        .bind(webhook.as_str())
        .bind(MOST_WAITING as i64 - 1)
        .execute(&mut *change.transaction)
        .await
        .unwrap();
        for number in 0..4 {
            let claim = ClaimRecord { id: ClaimId::from_random([number; 16]), ..claim.clone() };
            change.deliver(&claim, WebhookEvent::Approved, NOW).await.unwrap();
        }
        change.append(&[]).await.unwrap();
        change.commit().await.unwrap();
        let shown = store.webhooks(&claim.service_owner, &claim.service_id).await.unwrap().unwrap();
        assert_eq!(shown[0].dropped, 3);
        let waiting: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM deliveries").fetch_one(store.readers()).await.unwrap();
        assert_eq!(waiting, MOST_WAITING as i64);
    }

    #[tokio::test]
    async fn webhook_that_cannot_be_read_holds_up_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (store, claim) = stage(&directory).await;
        let (sound, spoilt) = (add_webhook(&store, &claim).await, add_webhook(&store, &claim).await);
        let mut change = store.change().await.unwrap();
        change.deliver(&claim, WebhookEvent::Approved, NOW).await.unwrap();
        change.commit().await.unwrap();
        let spoil = sqlx::query("UPDATE webhooks SET failures = -1 WHERE id = $1").bind(spoilt.as_str());
        spoil.execute(store.writers()).await.unwrap();
        let lease = std::time::Duration::from_secs(30);
        let leased = store.due_deliveries(32, lease, || Some(NOW)).await.unwrap();
        assert_eq!(leased.iter().map(|delivery| &delivery.webhook.id).collect::<Vec<_>>(), [&sound]);
        let fault = store.due_deliveries(32, lease, || Some(NOW)).await.unwrap_err();
        assert!(matches!(fault, StoreFault::Unreadable { .. }), "{fault}");
    }
}
