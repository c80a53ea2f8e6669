//! Webhooks.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::service::ServiceFault;
use crate::control::domain::webhook::{NewWebhook, WebhookRecord};
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
        let _ = (owner, service, new, most, now);
        unimplemented!()
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
        let _ = (owner, service);
        unimplemented!()
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
        let _ = (owner, service, webhook);
        unimplemented!()
    }
}
