//! Delivery of webhooks: at least once, in order per claim, with patience for receivers that are away, and never to
//! where a webhook may not lead.
//!
//! What waits stands in the outbox ([`Store::due_deliveries`](super::store::Store::due_deliveries)). A delivery is
//! leased, attempted and removed; whoever dies in between leaves a lease that runs out, and another takes over. On SQLite
//! the next process takes over at once.

mod post;
pub(super) mod resolver;
mod target;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::domain::webhook::{DueDelivery, wait_after};
use super::health::Health;
use super::metrics::DeliveryOutcome;
use super::plane::ControlPlane;
use super::store::{StoreFault, in_time};
pub(crate) use post::{AUTH_VALUE, SECRET};
use post::{PostFault, Poster};

/// Attempts at once, all webhooks together.
const AT_ONCE: usize = 32;
/// How long a leased delivery is its holder's: longer than an attempt and the writing down of what became of it.
const LEASE: Duration = Duration::from_secs(30);
/// How often the outbox is looked at where no bell rings: for what becomes due, and for what other replicas queue.
const LOOK: Duration = Duration::from_secs(1);

/// Delivers until `shutdown` holds `true`, then waits for the attempts under way, which take about ten seconds at most.
pub(super) async fn deliver(plane: Arc<ControlPlane>, shutdown: watch::Receiver<bool>) {
    let private_allowed = plane.config.webhooks_to_private;
    match Poster::new(plane.resolver.clone(), private_allowed) {
        Ok(poster) => {
            let health = Health::new(
                "the outbox of webhooks cannot be read",
                "the outbox of webhooks can be read again",
            );
            Deliverer { plane, poster: Arc::new(poster), health, shutdown }.run().await;
        }
        Err(cause) => tracing::error!(cause, "no webhook is delivered: no HTTP client can be made"),
    }
}

struct Deliverer {
    plane: Arc<ControlPlane>,
    poster: Arc<Poster>,
    health: Health,
    shutdown: watch::Receiver<bool>,
}

impl Deliverer {
    async fn run(mut self) {
        let mut bell = self.plane.store.outbox_bell();
        let mut attempts = JoinSet::new();
        if let Err(cause) = in_time(self.plane.store.free_deliveries()).await {
            tracing::warn!(%cause, "what an earlier process was delivering waits until its leases run out");
        }
        while !*self.shutdown.borrow_and_update() {
            bell.mark_unchanged();
            for delivery in self.leased(AT_ONCE.saturating_sub(attempts.len())).await {
                attempts.spawn(attempt(Arc::clone(&self.plane), Arc::clone(&self.poster), delivery));
            }
            tokio::select! {
                changed = self.shutdown.changed() => if changed.is_err() { break },
                Some(_) = attempts.join_next() => while attempts.try_join_next().is_some() {},
                Ok(()) = bell.changed(), if attempts.len() < AT_ONCE => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        while attempts.join_next().await.is_some() {}
    }

    async fn leased(&mut self, limit: usize) -> Vec<DueDelivery> {
        if limit == 0 {
            return Vec::new();
        }
        let now = || (!*self.shutdown.borrow()).then(|| self.plane.clock.now());
        let found = in_time(self.plane.store.due_deliveries(limit, LEASE, now)).await;
        self.health.note(&found);
        found.unwrap_or_default()
    }
}

/// One attempt, and the writing down of what became of it. Where that fails the lease runs out, and the delivery is
/// attempted again.
async fn attempt(plane: Arc<ControlPlane>, poster: Arc<Poster>, delivery: DueDelivery) {
    let posted = poster.post(&delivery, &plane.config.sealer, plane.clock.now()).await;
    let written = match posted {
        Ok(()) => {
            plane.metrics.delivery(DeliveryOutcome::Delivered);
            in_time(plane.store.finish_delivery(&delivery)).await
        }
        Err(fault) => {
            let blocked = matches!(fault, PostFault::Blocked(_));
            let outcome = if blocked { DeliveryOutcome::Blocked } else { DeliveryOutcome::Failed };
            plane.metrics.delivery(outcome);
            tracing::debug!(webhook = %delivery.webhook.id, delivery = %delivery.id, cause = %fault, "a delivery failed");
            failed(&plane, &delivery, &fault.to_string()).await
        }
    };
    if let Err(cause) = written {
        tracing::warn!(delivery = %delivery.id, %cause, "what became of a delivery cannot be written down; it comes again");
    }
}

async fn failed(plane: &ControlPlane, delivery: &DueDelivery, cause: &str) -> Result<(), StoreFault> {
    let now = plane.clock.now();
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| StoreFault::Random)?;
    let wait = wait_after(delivery.attempts.saturating_add(1), u64::from_be_bytes(random));
    let became = in_time(plane.store.retry_delivery(delivery, now.plus(wait), now)).await?;
    let webhook = &delivery.webhook.id;
    if let Some(until) = became.paused_until {
        tracing::warn!(%webhook, %until, cause, "a webhook fails again and again; it is left alone for a while");
    }
    if became.given_up > 0 {
        for _ in 0..became.given_up {
            plane.metrics.delivery(DeliveryOutcome::GivenUp);
        }
        tracing::warn!(%webhook, given_up = became.given_up, cause, "deliveries are given up after 24 hours");
    }
    Ok(())
}
