//! Where events wait: bounded, and never waited for.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Event, Reporter};
use crate::claims::{CallFault, ControlPlane, Services};
use crate::clock::Clock;
use crate::protocol::Identity;
use crate::telemetry::{Metrics, UsageFate};

/// Where usage is told.
#[derive(Debug, Clone)]
pub struct UsageConfig {
    /// The control plane's base URL.
    pub url: url::Url,
}

/// Takes events. Clones share the queue.
#[derive(Clone)]
pub struct Usage {
    queue: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
}

/// Events that wait at the most, besides those that are being told.
const QUEUE: usize = 10_000;

/// A queue, and the reporter that empties it. Its calls carry the keys of `services`.
///
/// # Errors
/// When the URL is no base URL, or the system has no roots of trust for HTTPS.
pub fn open(
    config: UsageConfig,
    services: Services,
    identity: Arc<Identity>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> std::result::Result<(Usage, Reporter), CallFault> {
    let control_plane = ControlPlane::new(config.url, services, identity, clock)?;
    let (queue, events) = mpsc::channel(QUEUE);
    let reporter = Reporter::new(control_plane, events, Arc::clone(&metrics));
    Ok((Usage { queue, metrics }, reporter))
}

impl Usage {
    /// Puts an event into the queue. Without room it is dropped and counted: a request never waits for it.
    pub fn record(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.metrics.usage_events(UsageFate::Dropped, 1);
        }
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").field("room", &self.queue.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::connections::SecretSource;
    use crate::policy::{Claim, Scopes};
    use crate::usage::Result;

    #[test]
    fn event_beyond_the_queue_is_dropped_and_counted_and_nobody_waits() {
        let identity =
            Arc::new(Identity::create(&"gateway".parse().unwrap(), [1; 32], UnixTime::from_secs(0)));
        let claim = Arc::new(Claim {
            id: "cl_1".parse().unwrap(),
            namespace: "alice".parse().unwrap(),
            public_key: *identity.public_key(),
            service: "openai".parse().unwrap(),
            expires_at: None,
            scopes: Scopes::default(),
        });
        let config = UsageConfig { url: "http://127.0.0.1:9".parse().unwrap() };
        let services = Services::fixed(vec![], SecretSource::Env("SIGILUM_TEST_NEVER_SET".into()));
        let metrics = Arc::new(Metrics::new());
        // Nobody empties the queue.
        let (usage, _reporter) =
            open(config, services, identity, Clock::system(), Arc::clone(&metrics)).unwrap();
        let event = Event {
            claim,
            subject: "alice".to_owned(),
            agent_id: None,
            result: Result::Success,
            status: 200,
            duration: std::time::Duration::ZERO,
            response_bytes: 0,
            method: http::Method::GET,
            path: "/".to_owned(),
            client: None,
        };
        (0..QUEUE + 3).for_each(|_| usage.record(event.clone()));
        let dropped = "sigilum_gateway_usage_events_total{result=\"dropped\"} 3";
        assert!(metrics.render().lines().any(|line| line == dropped), "{}", metrics.render());
    }
}
