//! What the passing of time does to the index.

use std::sync::Arc;

use tokio::sync::watch;

use super::ClaimsIndex;
use crate::clock::Clock;
use crate::telemetry::Metrics;

impl ClaimsIndex {
    /// Notices the ends of claims, and shows the claims' age and number in the metrics, at least every second, until
    /// `shutdown` holds `true` or its sender is gone.
    pub async fn attend(
        self: Arc<Self>,
        clock: Clock,
        metrics: Arc<Metrics>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        loop {
            let now = clock.now();
            let state = self.state(now);
            metrics.claims(
                state.age.or_else(|| self.is_without_feed().then_some(std::time::Duration::ZERO)),
                state.entries,
            );
            let pause = self.tell_ended(now);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }
}
