//! Deliveries of webhooks, queued with the change that they tell of.

use sqlx::{Any, Row as _, Transaction};

use super::record::parsed;
use super::webhooks::events_of;
use super::{Store, StoreFault, random};
use crate::clock::UnixTime;
use crate::control::domain::claim::ClaimRecord;
use crate::control::domain::webhook::{MOST_WAITING, WebhookEvent, delivery_body};
use crate::names::{DeliveryId, WebhookId};

impl Store {
    /// Queues the deliveries that a change of `claim` causes, in the change's own transaction: one for each webhook of
    /// the claim's service that is told of `event`. The caller rings [`Store::outbox_bell`] after its commit, and
    /// holds the claim's row, so that two changes of one claim are queued in their order.
    pub(super) async fn queue_deliveries(
        &self,
        transaction: &mut Transaction<'static, Any>,
        claim: &ClaimRecord,
        event: WebhookEvent,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        let webhooks = sqlx::query("SELECT id, events FROM webhooks WHERE service_id = $1 ORDER BY id")
            .bind(claim.service_id.as_str())
            .fetch_all(&mut **transaction)
            .await?;
        for row in &webhooks {
            let events: String = row.try_get("events")?;
            if events_of(&events)?.contains(&event) {
                let webhook = parsed(row, "id")?;
                queue(transaction, &webhook, claim, event, now).await?;
            }
        }
        Ok(())
    }
}

async fn queue(
    transaction: &mut Transaction<'static, Any>,
    webhook: &WebhookId,
    claim: &ClaimRecord,
    event: WebhookEvent,
    now: UnixTime,
) -> Result<(), StoreFault> {
    let most = i64::try_from(MOST_WAITING).unwrap_or(i64::MAX);
    let waiting: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT 1 FROM deliveries WHERE webhook_id = $1 LIMIT $2) AS waiting",
    )
    .bind(webhook.as_str())
    .bind(most)
    .fetch_one(&mut **transaction)
    .await?;
    if waiting >= most {
        sqlx::query("UPDATE webhooks SET dropped = dropped + 1 WHERE id = $1")
            .bind(webhook.as_str())
            .execute(&mut **transaction)
            .await?;
        tracing::warn!(%webhook, claim = %claim.id, event = event.word(), "too many deliveries wait for this webhook; one is dropped");
        return Ok(());
    }
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
    use crate::control::store::{DatabaseUrl, NewService};
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
        let mut transaction = store.begin().await.unwrap();
        sqlx::query(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $2) \
             INSERT INTO deliveries SELECT 'del_' || n, $1, 'cl_' || n, 1, 'request.approved', '{}', 0, 1, 1, 0 \
             FROM numbers",
        )
        .bind(webhook.as_str())
        .bind(MOST_WAITING as i64 - 1)
        .execute(&mut *transaction)
        .await
        .unwrap();
        for number in 0..4 {
            let claim = ClaimRecord { id: ClaimId::from_random([number; 16]), ..claim.clone() };
            store.queue_deliveries(&mut transaction, &claim, WebhookEvent::Approved, NOW).await.unwrap();
        }
        transaction.commit().await.unwrap();
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
        let mut transaction = store.begin().await.unwrap();
        store.queue_deliveries(&mut transaction, &claim, WebhookEvent::Approved, NOW).await.unwrap();
        transaction.commit().await.unwrap();
        let spoil = sqlx::query("UPDATE webhooks SET failures = -1 WHERE id = $1").bind(spoilt.as_str());
        spoil.execute(store.writers()).await.unwrap();
        let lease = std::time::Duration::from_secs(30);
        let leased = store.due_deliveries(32, lease, NOW).await.unwrap();
        assert_eq!(leased.iter().map(|delivery| &delivery.webhook.id).collect::<Vec<_>>(), [&sound]);
        let fault = store.due_deliveries(32, lease, NOW).await.unwrap_err();
        assert!(matches!(fault, StoreFault::Unreadable { .. }), "{fault}");
    }
}
