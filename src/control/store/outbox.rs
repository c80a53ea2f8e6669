//! The outbox of webhook deliveries.

use std::time::Duration;

use sqlx::{Any, Transaction};

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::claim::ClaimRecord;
use crate::control::domain::webhook::{DueDelivery, WebhookEvent};
use crate::names::DeliveryId;

impl Store {
    /// Queues the deliveries that a change of `claim` causes, in the change's own transaction: one for each webhook of
    /// the claim's service that is told of `event`. The caller rings [`Store::outbox_bell`] after its commit.
    pub(super) async fn queue_deliveries(
        &self,
        transaction: &mut Transaction<'static, Any>,
        claim: &ClaimRecord,
        event: WebhookEvent,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        let _ = (transaction, claim, event, now);
        Ok(())
    }

    /// Leases at most `limit` deliveries that are due, each the oldest of its claim at its webhook, for `lease`: no
    /// other replica gets them meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_deliveries(
        &self,
        limit: usize,
        lease: Duration,
        now: UnixTime,
    ) -> Result<Vec<DueDelivery>, StoreFault> {
        let _ = (limit, lease, now);
        unimplemented!()
    }

    /// Removes a delivery: it was taken, or is given up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_delivery(&self, id: &DeliveryId) -> Result<(), StoreFault> {
        let _ = id;
        unimplemented!()
    }

    /// Counts an attempt that failed, and says when the next one is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_delivery(&self, id: &DeliveryId, next: UnixTime) -> Result<(), StoreFault> {
        let _ = (id, next);
        unimplemented!()
    }
}
