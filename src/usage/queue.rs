//! Where events wait: bounded, and never waited for.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Event, Reporter};
use crate::claims::{CallFault, ControlPlane, Services};
use crate::clock::Clock;
use crate::names::ServiceSlug;
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
    /// Puts an event into the queue. Without room it is dropped and counted: a request never waits for it. So is one of a
    /// connection whose id no service can have: the control plane would refuse it.
    pub fn record(&self, event: Event) {
        let tellable = event.claim.service.as_str().parse::<ServiceSlug>().is_ok();
        if !tellable || self.queue.try_send(event.bounded()).is_err() {
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

    /// A queue that nobody empties, an event, and what is counted.
    fn scene() -> (Usage, Reporter, Event, Arc<Metrics>) {
        let identity =
            Arc::new(Identity::create(&"gateway".parse().unwrap(), [1; 32], UnixTime::from_secs(0)));
        let claim = Arc::new(claim("openai", &identity));
        let config = UsageConfig { url: "http://127.0.0.1:9".parse().unwrap() };
        let services = Services::fixed(vec![], SecretSource::Env("SIGILUM_TEST_NEVER_SET".into()));
        let metrics = Arc::new(Metrics::new());
        let (usage, reporter) =
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
        (usage, reporter, event, metrics)
    }

    fn claim(service: &str, identity: &Identity) -> Claim {
        Claim {
            id: "cl_1".parse().unwrap(),
            namespace: "alice".parse().unwrap(),
            public_key: *identity.public_key(),
            service: service.parse().unwrap(),
            expires_at: None,
            scopes: Scopes::default(),
        }
    }

    fn assert_dropped(metrics: &Metrics, count: usize) {
        let dropped = format!("sigilum_gateway_usage_events_total{{result=\"dropped\"}} {count}");
        assert!(metrics.render().lines().any(|line| line == dropped), "{}", metrics.render());
    }

    #[test]
    fn event_beyond_the_queue_is_dropped_and_counted_and_nobody_waits() {
        let (usage, _reporter, event, metrics) = scene();
        (0..QUEUE + 3).for_each(|_| usage.record(event.clone()));
        assert_dropped(&metrics, 3);
    }

    #[test]
    fn event_of_a_connection_that_can_be_no_service_is_dropped_and_counted() {
        let (usage, _reporter, event, metrics) = scene();
        let identity = Identity::create(&"alice".parse().unwrap(), [2; 32], UnixTime::from_secs(0));
        usage.record(Event { claim: Arc::new(claim("ai", &identity)), ..event });
        assert_dropped(&metrics, 1);
        assert_eq!(usage.queue.capacity(), QUEUE);
    }

    #[test]
    fn event_waits_with_no_more_of_its_texts_than_is_told() {
        let (_usage, _reporter, event, _metrics) = scene();
        let long = || "é".repeat(40_000);
        let method = "M".repeat(10_000).parse().unwrap();
        let event = Event { path: long(), subject: long(), agent_id: Some(long()), method, ..event };
        let held = event.bounded();
        let agent = held.agent_id.unwrap();
        assert_eq!((held.path.len(), held.path.capacity()), (1_024, 1_024));
        assert_eq!((held.subject.capacity(), agent.capacity()), (256, 128));
        assert_eq!(held.method.as_str(), "M".repeat(32));
    }
}
