//! Webhooks.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::change::{Answer, Change};
use super::record::{count, from_json, number, optional, parsed, time};
use super::{Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::service::ServiceFault;
use crate::control::domain::webhook::{NewWebhook, WebhookEvent, WebhookRecord};
use crate::names::{Namespace, ServiceId, WebhookId};

impl Store {
    /// Makes a webhook.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service, or it has `most`.
    pub async fn add_webhook(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        new: NewWebhook,
        most: u64,
        now: UnixTime,
    ) -> Result<Result<WebhookRecord, ServiceFault>, StoreFault> {
        let made = to_be_made(service, &new, now)?;
        let wanted = Wanted { made: &made, new: &new, most };
        let added = retrying(|| self.try_add_webhook(owner, wanted)).await?;
        Ok(added.map(|()| made))
    }

    async fn try_add_webhook(&self, owner: &Namespace, wanted: Wanted<'_>) -> Answer<()> {
        let mut change = self.change().await?;
        // Two at once must not both make the last one.
        if !change.lock_service(owner, &wanted.made.service_id).await? {
            return Ok(Err(ServiceFault::NotFound));
        }
        if let Err(fault) = change.insert_webhook(wanted).await? {
            return Ok(Err(fault));
        }
        change.commit().await?;
        Ok(Ok(()))
    }

    /// Whether a service has fewer than `most` webhooks now.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service, or it has as many.
    pub async fn room_for_webhook(&self, owner: &Namespace, service: &ServiceId, most: u64) -> Answer<()> {
        let there = match self.webhooks(owner, service).await? {
            Ok(there) => there.len(),
            Err(fault) => return Ok(Err(fault)),
        };
        Ok(if u64::try_from(there).is_ok_and(|there| there < most) { Ok(()) } else { Err(too_many(most)) })
    }

    /// The webhooks of a service, oldest first.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service.
    pub async fn webhooks(
        &self,
        owner: &Namespace,
        service: &ServiceId,
    ) -> Result<Result<Vec<WebhookRecord>, ServiceFault>, StoreFault> {
        let known: Option<String> =
            sqlx::query_scalar("SELECT id FROM services WHERE id = $1 AND owner = $2")
                .bind(service.as_str())
                .bind(owner.as_str())
                .fetch_optional(self.readers())
                .await?;
        if known.is_none() {
            return Ok(Err(ServiceFault::NotFound));
        }
        let rows = sqlx::query(
            "SELECT id AS webhook_id, service_id, url, events, auth_header, created_at AS webhook_created_at, \
             failures, paused_until, dropped, given_up \
             FROM webhooks WHERE service_id = $1 ORDER BY created_at, id",
        )
        .bind(service.as_str())
        .fetch_all(self.readers())
        .await?;
        Ok(Ok(rows.iter().map(record).collect::<Result<_, _>>()?))
    }

    /// Removes a webhook and what waits for it.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service or webhook.
    pub async fn delete_webhook(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        webhook: &WebhookId,
    ) -> Result<Result<(), ServiceFault>, StoreFault> {
        retrying(|| self.try_delete_webhook(owner, service, webhook)).await
    }

    async fn try_delete_webhook(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        webhook: &WebhookId,
    ) -> Answer<()> {
        let mut change = self.change().await?;
        if !change.lock_service(owner, service).await? {
            return Ok(Err(ServiceFault::NotFound));
        }
        let gone = sqlx::query("DELETE FROM webhooks WHERE id = $1 AND service_id = $2")
            .bind(webhook.as_str())
            .bind(service.as_str())
            .execute(&mut *change.transaction)
            .await?;
        if gone.rows_affected() == 0 {
            return Ok(Err(ServiceFault::NoSuch("webhook")));
        }
        change.commit().await?;
        Ok(Ok(()))
    }
}

/// A webhook that is to be made, where its service has fewer than `most`.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) made: &'a WebhookRecord,
    pub(super) new: &'a NewWebhook,
    pub(super) most: u64,
}

impl Change {
    /// Makes a webhook of a service that is locked.
    pub(super) async fn insert_webhook(&mut self, wanted: Wanted<'_>) -> Answer<()> {
        let Wanted { made, new, most } = wanted;
        let standing: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM webhooks WHERE service_id = $1")
            .bind(made.service_id.as_str())
            .fetch_one(&mut *self.transaction)
            .await?;
        if count(standing) >= most {
            return Ok(Err(too_many(most)));
        }
        sqlx::query(
            "INSERT INTO webhooks (id, service_id, url, events, sealed_secret, auth_header, sealed_auth_value, \
             created_at, failures, paused_until, dropped, given_up) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0)",
        )
        .bind(made.id.as_str())
        .bind(made.service_id.as_str())
        .bind(made.url.as_str())
        .bind(events_text(&made.events))
        .bind(&new.sealed_secret)
        .bind(&made.auth_header)
        .bind(new.auth.as_ref().map(|(_, sealed)| sealed))
        .bind(made.created_at.millis())
        .execute(&mut *self.transaction)
        .await?;
        Ok(Ok(()))
    }
}

fn too_many(most: u64) -> ServiceFault {
    ServiceFault::Limit { what: "the number of webhooks of a service", most }
}

/// The record of a webhook to be made.
pub(super) fn to_be_made(
    service: &ServiceId,
    new: &NewWebhook,
    now: UnixTime,
) -> Result<WebhookRecord, StoreFault> {
    Ok(WebhookRecord {
        id: WebhookId::from_random(random()?),
        service_id: service.clone(),
        url: new.url.clone(),
        events: new.events.clone(),
        auth_header: new.auth.as_ref().map(|(header, _)| header.clone()),
        created_at: now,
        failures: 0,
        paused_until: None,
        dropped: 0,
        given_up: 0,
    })
}

/// The webhook of a row that has its columns, with `webhook_id` and `webhook_created_at` among them.
pub(super) fn record(row: &AnyRow) -> Result<WebhookRecord, StoreFault> {
    let paused_until: i64 = row.try_get("paused_until")?;
    let events: String = row.try_get("events")?;
    Ok(WebhookRecord {
        id: parsed(row, "webhook_id")?,
        service_id: parsed(row, "service_id")?,
        url: parsed(row, "url")?,
        events: events_of(&events)?,
        auth_header: optional(row, "auth_header")?,
        created_at: time(row, "webhook_created_at")?,
        failures: number(row, "failures")?,
        paused_until: (paused_until > 0).then(|| UnixTime::from_millis(paused_until)),
        dropped: number(row, "dropped")?,
        given_up: number(row, "given_up")?,
    })
}

fn events_text(events: &[WebhookEvent]) -> String {
    serde_json::Value::from_iter(events.iter().map(|event| event.word())).to_string()
}

/// The events of a stored list.
pub(super) fn events_of(text: &str) -> Result<Vec<WebhookEvent>, StoreFault> {
    let what = "webhook's list of events";
    let words: Vec<String> = from_json(what, text)?;
    let unknown = |word: &String| StoreFault::Unreadable { what, cause: format!("there is no event {word}") };
    words.iter().map(|word| WebhookEvent::from_word(word).ok_or_else(|| unknown(word))).collect()
}
