//! The outbox of webhook deliveries: leased by whoever delivers them, and removed when they were delivered or given up.
//!
//! Whoever takes rows of both tables takes the webhook's first and its deliveries' after: so no two wait for each
//! other.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::{Any, Row as _, Transaction};

use super::backend::Backend;
use super::record::{count, optional, parsed, time};
use super::webhooks::record;
use super::{Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::webhook::{
    AT_ONCE_PER_OWNER, AT_ONCE_PER_WEBHOOK, DueDelivery, FAILURES_UNTIL_PAUSE, KEPT_FOR, WebhookEvent,
    pause_after,
};
use crate::names::WebhookId;

/// What a failed attempt led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttemptFailed {
    /// Until when the webhook is left alone, where this failure was one too many.
    pub paused_until: Option<UnixTime>,
    /// Deliveries of this webhook that were given up, being older than 24 h.
    pub given_up: u64,
}

impl Store {
    /// Leases at most `limit` deliveries that are due, each the oldest of its claim at its webhook, for `lease`: no
    /// other replica gets them meanwhile. Of one webhook there are never more than four leased at once, and one alone
    /// after it was left alone for its failures.
    ///
    /// `now` is asked at each webhook anew, since a slow database may take longer for many than a lease is long; where
    /// it gives `None`, no more are leased, nor after a third of a lease: the first ones wait to be attempted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_deliveries(
        &self,
        limit: usize,
        lease: Duration,
        now: impl Fn() -> Option<UnixTime>,
    ) -> Result<Vec<DueDelivery>, StoreFault> {
        let (mut leased, mut first_fault) = (Vec::new(), None);
        let Some(begun) = now() else { return Ok(leased) };
        let lanes = self.lanes(begun).await?;
        let mut running: HashMap<String, usize> = HashMap::new();
        for lane in &lanes {
            *running.entry(lane.owner.clone()).or_default() += lane.running;
        }
        for lane in lanes.into_iter().filter(|lane| lane.is_due) {
            if leased.len() >= limit || now().is_none_or(|now| now >= begun.plus(lease / 3)) {
                break;
            }
            let running = running.entry(lane.owner).or_default();
            let room = (limit - leased.len()).min(AT_ONCE_PER_OWNER.saturating_sub(*running));
            if room > 0 {
                match self.lease_of(&lane.webhook, room, lease, &now).await {
                    Ok(of_this) => {
                        *running += of_this.len();
                        leased.extend(of_this);
                    }
                    Err(fault) => {
                        let away = matches!(fault, StoreFault::Unavailable(_));
                        first_fault = first_fault.or(Some(fault));
                        if away {
                            break;
                        }
                    }
                }
            }
        }
        // A webhook that cannot be read does not hold up the others.
        match first_fault {
            Some(fault) if leased.is_empty() => Err(fault),
            _ => Ok(leased),
        }
    }

    /// Frees what an earlier process left leased: a SQLite file has one process, so where that one begins, nobody holds
    /// a lease. Of PostgreSQL nothing is freed, since other replicas may be at it; there leases run out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn free_deliveries(&self) -> Result<(), StoreFault> {
        if self.backend() == Backend::Sqlite {
            sqlx::query("UPDATE deliveries SET leased_until = 0 WHERE leased_until <> 0")
                .execute(self.writers())
                .await?;
        }
        Ok(())
    }

    /// Removes a delivery that was taken; its webhook answers, so its failures are forgotten. Where the lease ran out and
    /// another has the delivery now, that one finishes it: until then nothing later of its claim may go.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_delivery(&self, delivery: &DueDelivery) -> Result<(), StoreFault> {
        retrying(|| self.finish_once(delivery)).await
    }

    async fn finish_once(&self, delivery: &DueDelivery) -> Result<(), StoreFault> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE webhooks SET failures = 0, paused_until = 0 WHERE failures <> 0 AND id = $1")
            .bind(delivery.webhook.id.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM deliveries WHERE id = $1 AND leased_until = $2")
            .bind(delivery.id.as_str())
            .bind(delivery.leased_until.millis())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Counts an attempt that failed, and says when the next one is due. Deliveries of the same webhook that are older
    /// than 24 h are given up, this one too; after too many failures in a row the webhook is left alone for a while. Where
    /// the lease ran out and another has the delivery now, nothing of it changes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_delivery(
        &self,
        delivery: &DueDelivery,
        next: UnixTime,
        now: UnixTime,
    ) -> Result<AttemptFailed, StoreFault> {
        retrying(|| self.retry_once(delivery, next, now)).await
    }

    /// Frees a delivery that was taken and not attempted, until `next`: neither it nor its webhook has failed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_off_delivery(&self, delivery: &DueDelivery, next: UnixTime) -> Result<(), StoreFault> {
        retrying(|| async move {
            sqlx::query(
                "UPDATE deliveries SET next_attempt_at = $2, leased_until = 0 \
                 WHERE id = $1 AND leased_until = $3",
            )
            .bind(delivery.id.as_str())
            .bind(next.millis())
            .bind(delivery.leased_until.millis())
            .execute(self.writers())
            .await?;
            Ok(())
        })
        .await
    }

    async fn retry_once(
        &self,
        delivery: &DueDelivery,
        next: UnixTime,
        now: UnixTime,
    ) -> Result<AttemptFailed, StoreFault> {
        let webhook = &delivery.webhook.id;
        let mut transaction = self.begin().await?;
        // What was under way when the pause began does not make it longer.
        let failures: Option<i64> = sqlx::query_scalar(
            "UPDATE webhooks SET failures = failures + 1 WHERE id = $1 AND paused_until <= $2 RETURNING failures",
        )
        .bind(webhook.as_str())
        .bind(now.millis())
        .fetch_optional(&mut *transaction)
        .await?;
        let failures = failures.map_or(0, count);
        let paused_until = pause_after(failures).map(|pause| now.plus(pause));
        if let Some(until) = paused_until {
            sqlx::query("UPDATE webhooks SET paused_until = $2 WHERE id = $1")
                .bind(webhook.as_str())
                .bind(until.millis())
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "UPDATE deliveries SET attempts = attempts + 1, next_attempt_at = $2, leased_until = 0 \
             WHERE id = $1 AND leased_until = $3",
        )
        .bind(delivery.id.as_str())
        .bind(next.millis())
        .bind(delivery.leased_until.millis())
        .execute(&mut *transaction)
        .await?;
        let given_up = give_up_old(&mut transaction, webhook, now).await?;
        transaction.commit().await?;
        Ok(AttemptFailed { paused_until, given_up })
    }

    /// Webhooks that have a delivery to lease and room for it, or have one leased, in an order that begins anywhere, so
    /// that none waits behind others for ever. It hops from webhook to webhook in the index, and so costs as much as
    /// there are webhooks with something waiting, however much waits.
    async fn lanes(&self, now: UnixTime) -> Result<Vec<Lane>, StoreFault> {
        let found = sqlx::query(
            "WITH RECURSIVE lanes (webhook_id) AS ( \
                 SELECT MIN(webhook_id) FROM deliveries \
                 UNION ALL \
                 SELECT (SELECT MIN(d.webhook_id) FROM deliveries d WHERE d.webhook_id > lanes.webhook_id) \
                 FROM lanes WHERE lanes.webhook_id IS NOT NULL \
             ), found AS ( \
                 SELECT w.id, s.owner, w.failures, w.paused_until, ( \
                     SELECT COUNT(*) FROM deliveries r WHERE r.webhook_id = w.id AND r.leased_until > $1 \
                 ) AS running \
                 FROM lanes JOIN webhooks w ON w.id = lanes.webhook_id JOIN services s ON s.id = w.service_id \
             ) \
             SELECT id, owner, running, CAST(CASE WHEN paused_until <= $1 \
                 AND running < CASE WHEN failures < $2 THEN $3 ELSE 1 END AND EXISTS ( \
                     SELECT 1 FROM deliveries d \
                     WHERE d.webhook_id = found.id AND d.next_attempt_at <= $1 AND d.leased_until <= $1 \
                     AND NOT EXISTS ( \
                         SELECT 1 FROM deliveries e \
                         WHERE e.webhook_id = d.webhook_id AND e.claim_id = d.claim_id AND e.position < d.position \
                     ) \
                 ) THEN 1 ELSE 0 END AS BIGINT) AS due FROM found",
        )
        .bind(now.millis())
        .bind(i64::try_from(FAILURES_UNTIL_PAUSE).unwrap_or(i64::MAX))
        .bind(i64::try_from(AT_ONCE_PER_WEBHOOK).unwrap_or(i64::MAX))
        .fetch_all(self.readers())
        .await?;
        let mut lanes = Vec::with_capacity(found.len());
        for row in &found {
            lanes.push(Lane {
                webhook: parsed(row, "id")?,
                owner: row.try_get("owner")?,
                running: usize::try_from(row.try_get::<i64, _>("running")?).unwrap_or(0),
                is_due: row.try_get::<i64, _>("due")? != 0,
            });
        }
        let beginning = usize::from_be_bytes(random()?).checked_rem(lanes.len()).unwrap_or(0);
        lanes.rotate_left(beginning);
        Ok(lanes)
    }

    async fn lease_of(
        &self,
        webhook: &WebhookId,
        limit: usize,
        lease: Duration,
        now: &impl Fn() -> Option<UnixTime>,
    ) -> Result<Vec<DueDelivery>, StoreFault> {
        let mut transaction = self.begin().await?;
        // Two replicas do not lease of one webhook at once, nor does one that cannot wait for the other.
        let select = "SELECT failures, paused_until FROM webhooks WHERE id = $1";
        let found = sqlx::query(self.backend().free_for_change(select))
            .bind(webhook.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let (Some(found), Some(now)) = (found, now()) else { return Ok(Vec::new()) };
        if time(&found, "paused_until")? > now {
            return Ok(Vec::new());
        }
        let failures = count(found.try_get("failures")?);
        let running: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE webhook_id = $1 AND leased_until > $2")
                .bind(webhook.as_str())
                .bind(now.millis())
                .fetch_one(&mut *transaction)
                .await?;
        let most = if failures < FAILURES_UNTIL_PAUSE { AT_ONCE_PER_WEBHOOK } else { 1 };
        let room = limit.min(most.saturating_sub(usize::try_from(running).unwrap_or(0)));
        if room == 0 {
            return Ok(Vec::new());
        }
        let leased = self.lease_heads(&mut transaction, webhook, room, lease, now).await?;
        transaction.commit().await?;
        Ok(leased)
    }

    async fn lease_heads(
        &self,
        transaction: &mut Transaction<'static, Any>,
        webhook: &WebhookId,
        room: usize,
        lease: Duration,
        now: UnixTime,
    ) -> Result<Vec<DueDelivery>, StoreFault> {
        let heads = self.backend().free_for_update(
            "SELECT d.id FROM deliveries d \
             WHERE d.webhook_id = $1 AND d.next_attempt_at <= $2 AND d.leased_until <= $2 AND NOT EXISTS ( \
                 SELECT 1 FROM deliveries e \
                 WHERE e.webhook_id = d.webhook_id AND e.claim_id = d.claim_id AND e.position < d.position \
             ) ORDER BY d.next_attempt_at LIMIT $3",
        );
        let ids: Vec<String> = sqlx::query_scalar(heads)
            .bind(webhook.as_str())
            .bind(now.millis())
            .bind(i64::try_from(room).unwrap_or(i64::MAX))
            .fetch_all(&mut **transaction)
            .await?;
        let mut leased = Vec::with_capacity(ids.len());
        for id in ids {
            sqlx::query("UPDATE deliveries SET leased_until = $2 WHERE id = $1")
                .bind(&id)
                .bind(now.plus(lease).millis())
                .execute(&mut **transaction)
                .await?;
            leased.push(due(transaction, &id).await?);
        }
        Ok(leased)
    }
}

/// A webhook with something waiting or under way.
struct Lane {
    webhook: WebhookId,
    owner: String,
    /// Its deliveries that are leased.
    running: usize,
    /// Whether one could be leased now.
    is_due: bool,
}

/// What nobody attempts just now and is older than a delivery is kept. Gives how many there were.
async fn give_up_old(
    transaction: &mut Transaction<'static, Any>,
    webhook: &WebhookId,
    now: UnixTime,
) -> Result<u64, StoreFault> {
    let kept = i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
    let gone = sqlx::query(
        "DELETE FROM deliveries WHERE webhook_id = $1 AND created_at <= $2 AND leased_until <= $3",
    )
    .bind(webhook.as_str())
    .bind(now.millis().saturating_sub(kept))
    .bind(now.millis())
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    if gone > 0 {
        sqlx::query("UPDATE webhooks SET given_up = given_up + $2 WHERE id = $1")
            .bind(webhook.as_str())
            .bind(i64::try_from(gone).unwrap_or(i64::MAX))
            .execute(&mut **transaction)
            .await?;
    }
    Ok(gone)
}

async fn due(transaction: &mut Transaction<'static, Any>, id: &str) -> Result<DueDelivery, StoreFault> {
    let row = sqlx::query(
        "SELECT d.id, d.claim_id, d.event, d.body, d.attempts, d.created_at, w.id AS webhook_id, w.service_id, \
         d.leased_until, w.url, w.events, w.auth_header, w.created_at AS webhook_created_at, w.failures, w.paused_until, \
         w.dropped, w.given_up, w.sealed_secret, w.sealed_auth_value \
         FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE d.id = $1",
    )
    .bind(id)
    .fetch_one(&mut **transaction)
    .await?;
    let event: String = row.try_get("event")?;
    let attempts: i64 = row.try_get("attempts")?;
    Ok(DueDelivery {
        id: parsed(&row, "id")?,
        webhook: record(&row)?,
        sealed_secret: row.try_get("sealed_secret")?,
        sealed_auth_value: optional(&row, "sealed_auth_value")?,
        event: WebhookEvent::from_word(&event)
            .ok_or(StoreFault::Unreadable { what: "delivery's event", cause: event })?,
        claim: parsed(&row, "claim_id")?,
        body: row.try_get("body")?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        created_at: time(&row, "created_at")?,
        leased_until: time(&row, "leased_until")?,
    })
}
