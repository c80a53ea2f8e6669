//! Delivery of webhooks: at least once, in order per claim, with patience for receivers that are away, and never to
//! where a webhook may not lead.
//!
//! What waits stands in the outbox ([`Store::due_deliveries`](super::store::Store::due_deliveries)). A delivery is
//! leased, attempted and removed; whoever dies in between leaves a lease that runs out, and another takes over. On SQLite
//! the next process takes over at once.

mod post;
pub(super) mod resolver;
pub(super) mod target;

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
/// How long a delivery waits whose host was not looked up because others were.
const PUT_OFF: Duration = Duration::from_secs(3);

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
        Err(cause) => {
            tracing::error!(cause, "no webhook is delivered: no HTTP client can be made");
            // Another start would find the same.
            let mut shutdown = shutdown;
            let _ = shutdown.wait_for(|stop| *stop).await;
        }
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
/// attempted again; so it is where too little of the lease is left, since another may be at it before the attempt ends.
async fn attempt(plane: Arc<ControlPlane>, poster: Arc<Poster>, delivery: DueDelivery) {
    let now = plane.clock.now();
    if now.plus(post::ATTEMPT) > delivery.leased_until {
        tracing::debug!(delivery = %delivery.id, "too little of a delivery's lease is left; it is leased again");
        return;
    }
    let posted = poster.post(&delivery, &plane.config.sealer, now).await;
    let written = match posted {
        Err(PostFault::NoTurn(fault)) => {
            tracing::debug!(delivery = %delivery.id, cause = %fault, "a delivery is put off");
            in_time(plane.store.put_off_delivery(&delivery, plane.clock.now().plus(PUT_OFF))).await
        }
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

#[cfg(test)]
mod tests {
    use super::resolver::tests::{answering, without_turns};
    use super::*;
    use crate::clock::{Clock, UnixTime};
    use crate::control::domain::service::ServiceMode;
    use crate::control::domain::webhook::{NewWebhook, WebhookEvent};
    use crate::control::plane::tests::asking_for_everything;
    use crate::control::store::{DatabaseUrl, NewService};
    use crate::names::Namespace;
    use crate::protocol::Identity;
    use crate::secret::SecretString;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn acme() -> Namespace {
        "acme".parse().unwrap()
    }

    /// A control plane in which one delivery waits for a webhook.
    async fn stage(directory: &tempfile::TempDir) -> Arc<ControlPlane> {
        let mut config = asking_for_everything();
        config.database = DatabaseUrl::Sqlite(directory.path().join("sigilum.db"));
        let plane = ControlPlane::open(config, Clock::fixed(NOW)).await.unwrap();
        let store = &plane.store;
        store.add_owner(&acme(), "root@acme.example", NOW).await.unwrap();
        let new = NewService {
            slug: "mail".parse().unwrap(),
            name: "mail".to_owned(),
            domain: "acme.example".to_owned(),
            description: String::new(),
            mode: ServiceMode::Gateway,
            upstream_url: None,
        };
        let service = store.add_service(&acme(), new, 5, NOW).await.unwrap().unwrap();
        let url = "http://hooks.example.com/".parse().unwrap();
        let secret = SecretString::new("0123456789abcdef".to_owned()).unwrap();
        let sealed_secret = plane.config.sealer.seal(&service.id, &url, SECRET, &secret).unwrap();
        let new = NewWebhook { url, events: WebhookEvent::ALL.to_vec(), sealed_secret, auth: None };
        store.add_webhook(&acme(), &service.id, new, 5, NOW).await.unwrap().unwrap();
        let slug = service.slug.clone();
        let key = *Identity::create(&acme(), [1; 32], NOW).public_key();
        for approved in [true, false] {
            store.seed_claim(&acme(), &slug, &key, approved, NOW).await.unwrap();
        }
        plane
    }

    async fn leased(plane: &ControlPlane, now: UnixTime) -> Option<DueDelivery> {
        plane.store.due_deliveries(1, LEASE, || Some(now)).await.unwrap().pop()
    }

    #[tokio::test]
    async fn delivery_whose_host_was_not_looked_up_comes_again_soon_and_has_not_failed() {
        let directory = tempfile::tempdir().unwrap();
        let plane = stage(&directory).await;
        let poster = Arc::new(Poster::new(without_turns(), true).unwrap());
        let delivery = leased(&plane, NOW).await.unwrap();
        attempt(Arc::clone(&plane), poster, delivery.clone()).await;
        assert_eq!(leased(&plane, NOW.plus(PUT_OFF - Duration::from_millis(1))).await, None);
        let again = leased(&plane, NOW.plus(PUT_OFF)).await.unwrap();
        assert_eq!((again.id, again.attempts, again.webhook.failures), (delivery.id, 0, 0));
    }

    #[tokio::test]
    async fn delivery_with_too_little_of_its_lease_left_is_not_attempted() {
        let directory = tempfile::tempdir().unwrap();
        let plane = stage(&directory).await;
        let (resolver, asked) = answering(false, &[&["127.0.0.1:0"]]);
        let poster = Arc::new(Poster::new(resolver, true).unwrap());
        let delivery = leased(&plane, NOW).await.unwrap();
        let late = NOW.plus(post::ATTEMPT - Duration::from_millis(1));
        let lapsing = DueDelivery { leased_until: late, ..delivery.clone() };
        attempt(Arc::clone(&plane), Arc::clone(&poster), lapsing).await;
        assert_eq!(*asked.lock().unwrap(), 0);
        attempt(Arc::clone(&plane), poster, delivery).await;
        assert_eq!(*asked.lock().unwrap(), 1);
    }
}
