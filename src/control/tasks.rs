//! What runs beside the API: expiry, pruning, the look at open streams, the relay, and the delivery of webhooks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::health::Health;
use super::metrics::ClaimEvent;
use super::plane::ControlPlane;
use super::{streams, webhooks};

/// Between two looks for claims whose time is over, give or take a fifth: replicas should not look all at once.
const EXPIRY: Duration = Duration::from_secs(1);
/// Between two prunings, likewise.
const PRUNING: Duration = Duration::from_secs(60);
/// So many are expired or forgotten by one call of the store, or there are no more.
const BATCH: usize = 500;

/// Runs all of it until `shutdown` holds `true` or its sender is gone.
pub(super) async fn run(plane: Arc<ControlPlane>, shutdown: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(until(shutdown.clone(), expire(Arc::clone(&plane))));
    tasks.spawn(until(shutdown.clone(), prune(Arc::clone(&plane))));
    let streams = streams::look_after(Arc::clone(&plane.streams), plane.store.clone(), plane.clock.clone());
    tasks.spawn(until(shutdown.clone(), streams));
    tasks.spawn(Arc::clone(&plane.relay).run(shutdown.clone()));
    tasks.spawn(webhooks::deliver(plane, shutdown));
    while let Some(ended) = tasks.join_next().await {
        if let Err(fault) = ended {
            tracing::error!(%fault, "a task of the control plane has failed and does not run any more; restart it");
        }
    }
}

async fn until(mut shutdown: watch::Receiver<bool>, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

async fn expire(plane: Arc<ControlPlane>) {
    let mut health = Health::new(
        "the database does not let go of claims whose time is over; it is tried again",
        "the database lets go of claims whose time is over again",
    );
    loop {
        tokio::time::sleep(about(EXPIRY)).await;
        loop {
            let expired = plane.store.expire_claims(plane.clock.now()).await;
            let count = expired.as_ref().map_or(0, |count| *count);
            plane.metrics.claims(ClaimEvent::Expired, u64::try_from(count).unwrap_or(u64::MAX));
            health.note(&expired);
            if count < BATCH {
                break;
            }
        }
    }
}

async fn prune(plane: Arc<ControlPlane>) {
    let mut health = Health::new(
        "the database does not let go of what is too old to be kept; it is tried again",
        "the database lets go of what is too old to be kept again",
    );
    loop {
        tokio::time::sleep(about(PRUNING)).await;
        plane.rates.forget_idle();
        plane.nonces.forget_idle();
        let now = plane.clock.now();
        let pruned = async {
            plane.store.forget_nonces(now).await?;
            plane.store.prune_feed(now).await?;
            while plane.store.prune_claims(now).await? >= BATCH {}
            while plane.store.prune_rejected().await? >= BATCH {}
            plane.store.prune_usage(now).await
        };
        health.note(&pruned.await);
    }
}

/// The time, give or take a fifth of it, at random.
fn about(time: Duration) -> Duration {
    let mut random = [0_u8; 2];
    // Without random bytes it is a fifth less.
    let _ = getrandom::fill(&mut random);
    time.mul_f64(0.8 + 0.4 * f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX))
}
