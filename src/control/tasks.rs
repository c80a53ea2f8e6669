//! What runs beside the API: expiry, pruning, what open streams share, the relay, and the delivery of webhooks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::health::Health;
use super::metrics::ClaimEvent;
use super::plane::ControlPlane;
use super::store::{StoreFault, in_time};
use super::{streams, webhooks};

/// Between two looks for claims whose time is over, give or take a fifth: replicas should not look all at once.
const EXPIRY: Duration = Duration::from_secs(1);
/// Between two prunings, likewise.
const PRUNING: Duration = Duration::from_secs(60);
/// So many are expired or forgotten by one call of the store, or there are no more.
const BATCH: usize = 500;
/// Calls by which one pruning forgets one kind of thing at most.
const CALLS: usize = 200;
/// Before a task that has failed is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs all of it until `shutdown` holds `true` or its sender is gone.
pub(super) async fn run(plane: Arc<ControlPlane>, shutdown: watch::Receiver<bool>) {
    let mut tasks = Tasks { plane, shutdown, running: JoinSet::new() };
    tasks.keep("the expiry of claims", |plane, shutdown| until(shutdown, expire(plane)));
    tasks.keep("the pruning", |plane, shutdown| until(shutdown, prune(plane)));
    tasks.keep("the forgetting of callers", |plane, shutdown| until(shutdown, forget_idle(plane)));
    tasks.keep("the look at open streams", |plane, shutdown| {
        let looks = streams::look_after(Arc::clone(&plane.streams), plane.store.clone(), plane.clock.clone());
        until(shutdown, looks)
    });
    tasks.keep("the reading of the feed for open streams", |plane, shutdown| {
        let reads = streams::follow(Arc::clone(&plane.streams), plane.store.clone(), plane.clock.clone());
        until(shutdown, reads)
    });
    tasks.keep("the relay of commands", |plane, shutdown| Arc::clone(&plane.relay).run(shutdown));
    tasks.keep("the delivery of webhooks", webhooks::deliver);
    while tasks.running.join_next().await.is_some() {}
}

struct Tasks {
    plane: Arc<ControlPlane>,
    shutdown: watch::Receiver<bool>,
    running: JoinSet<()>,
}

impl Tasks {
    fn keep<F>(
        &mut self,
        what: &'static str,
        start: impl Fn(Arc<ControlPlane>, watch::Receiver<bool>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (plane, shutdown) = (Arc::clone(&self.plane), self.shutdown.clone());
        let start = move || start(Arc::clone(&plane), shutdown.clone());
        self.running.spawn(kept_up(what, self.shutdown.clone(), start));
    }
}

/// Runs a task until `shutdown` holds `true` or its sender is gone, anew where it fails: a control plane that answers but
/// expires and delivers nothing is worse than one that is away.
async fn kept_up<F: Future<Output = ()>>(
    what: &'static str,
    mut shutdown: watch::Receiver<bool>,
    start: impl Fn() -> F,
) {
    loop {
        let ended = AssertUnwindSafe(start()).catch_unwind().await;
        if *shutdown.borrow() || shutdown.has_changed().is_err() {
            return;
        }
        let how = if ended.is_err() { "panicked" } else { "ended" };
        tracing::error!(task = what, how, "a task of the control plane has failed; it is started again");
        let stopped = tokio::time::timeout(PAUSE, shutdown.wait_for(|stop| *stop));
        if stopped.await.is_ok() {
            return;
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
            let expired = in_time(plane.store.expire_claims(plane.clock.now())).await;
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
    let store = &plane.store;
    loop {
        tokio::time::sleep(about(PRUNING)).await;
        let now = plane.clock.now();
        // One that fails keeps none of the others from theirs.
        let pruned = [
            in_time(store.forget_nonces(now)).await,
            in_time(store.prune_feed(now)).await,
            all(|| store.prune_claims(now)).await,
            in_time(store.prune_ended()).await.map(drop),
            all(|| store.prune_rejected()).await,
            in_time(store.prune_usage(now)).await,
        ];
        health.note(&pruned.into_iter().collect::<Result<(), _>>());
    }
}

/// Prunes until there is no more, or so much was pruned that the others have their turn.
async fn all<F>(prune: impl Fn() -> F) -> Result<(), StoreFault>
where
    F: Future<Output = Result<usize, StoreFault>>,
{
    for _ in 0..CALLS {
        if in_time(prune()).await? < BATCH {
            break;
        }
    }
    Ok(())
}

/// Forgets what memory holds of callers that are gone. It waits for no database.
async fn forget_idle(plane: Arc<ControlPlane>) {
    loop {
        tokio::time::sleep(about(PRUNING)).await;
        plane.rates.forget_idle();
        plane.nonces.forget_idle();
    }
}

/// The time, give or take a fifth of it, at random.
fn about(time: Duration) -> Duration {
    let mut random = [0_u8; 2];
    // Without random bytes it is a fifth less.
    let _ = getrandom::fill(&mut random);
    time.mul_f64(0.8 + 0.4 * f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn task_that_panics_or_ends_is_started_again_until_the_stop() {
        let (stop, shutdown) = watch::channel(false);
        let starts = Arc::new(AtomicUsize::new(0));
        let (count, stopped) = (Arc::clone(&starts), shutdown.clone());
        let task = tokio::spawn(kept_up("a test", shutdown, move || {
            let (start, stopped) = (count.fetch_add(1, Ordering::SeqCst), stopped.clone());
            async move {
                match start {
                    0 => std::panic::resume_unwind(Box::new("on purpose")),
                    1 => {}
                    _ => until(stopped, std::future::pending()).await,
                }
            }
        }));
        while starts.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send_replace(true);
        task.await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
