//! The control plane's Prometheus metrics. No label takes a value that a client chose.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Bounds of `sigilum_control_request_seconds`: 1 ms to 30 s.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What became of a claim, for `sigilum_control_claims_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimEvent {
    /// Submitted, and pending.
    Submitted,
    /// Approved, by an owner or by the owner's rules.
    Approved,
    /// Rejected, by an owner or by a limit.
    Rejected,
    /// Revoked.
    Revoked,
    /// Its time was over.
    Expired,
}

/// What became of one attempt to deliver a webhook, for `sigilum_control_webhook_deliveries_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The endpoint took it.
    Delivered,
    /// It failed and will be tried again.
    Failed,
    /// It failed for the last time.
    GivenUp,
    /// The address may not be delivered to.
    Blocked,
}

/// What became of a command to a paired gateway, for `sigilum_control_pairing_commands_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The gateway answered, whatever it said.
    Answered,
    /// It is not on the list of what is relayed.
    Refused,
    /// No socket of the gateway is open, or it was closed before the answer came.
    NotConnected,
    /// No answer came in time.
    TimedOut,
    /// As many are under way as there may be.
    Busy,
    /// The database failed.
    Failed,
}

impl CommandOutcome {
    const ALL: [Self; 6] =
        [Self::Answered, Self::Refused, Self::NotConnected, Self::TimedOut, Self::Busy, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::NotConnected => "not_connected",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

/// All metrics of a control plane, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: Histogram,
    rate_limited: IntCounter,
    claims: IntCounterVec,
    streams: IntGauge,
    deliveries: IntCounterVec,
    pairing_sockets: IntGauge,
    pairing_commands: IntCounterVec,
}

impl Metrics {
    /// The media type of what [`Metrics::render`] gives.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Makes and registers all of them.
    #[must_use]
    pub fn new() -> Self {
        let make = Maker(Registry::new());
        let metrics = Self {
            requests: make.counters(
                "requests_total",
                "Requests, by route and class of the answer's status.",
                &["route", "status"],
            ),
            seconds: make.register(Histogram::with_opts(HistogramOpts {
                common_opts: opts("request_seconds", "Time from a request's head to its answer's head."),
                buckets: SECONDS.to_vec(),
            })),
            rate_limited: make.register(IntCounter::with_opts(opts(
                "rate_limited_total",
                "Requests refused because their caller sent too many.",
            ))),
            claims: make.counters("claims_total", "Claims, by what became of them.", &["event"]),
            streams: make
                .register(IntGauge::with_opts(opts("streams", "Open streams of the feed of claims."))),
            deliveries: make.counters(
                "webhook_deliveries_total",
                "Attempts to deliver a webhook, by their outcome.",
                &["outcome"],
            ),
            pairing_sockets: make.register(IntGauge::with_opts(opts(
                "pairing_sockets",
                "Open connections of paired gateways to this replica.",
            ))),
            pairing_commands: make.counters(
                "pairing_commands_total",
                "Commands to paired gateways, by what became of them.",
                &["outcome"],
            ),
            registry: make.0,
        };
        for event in ["submitted", "approved", "rejected", "revoked", "expired"] {
            metrics.claims.with_label_values(&[event]);
        }
        for outcome in ["delivered", "failed", "given_up", "blocked"] {
            metrics.deliveries.with_label_values(&[outcome]);
        }
        for outcome in CommandOutcome::ALL {
            metrics.pairing_commands.with_label_values(&[outcome.label()]);
        }
        metrics
    }

    /// Prometheus text exposition, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        // The encoder fails only on a family without a metric, and none is shown without one.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// `sigilum_control_requests_total{route,status}` and `sigilum_control_request_seconds`. `route` is the route's own
    /// form, never what the client sent.
    pub(super) fn request(&self, route: &str, status: u16, took: Duration) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// `sigilum_control_rate_limited_total`.
    pub(super) fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    /// `sigilum_control_claims_total{event}`, so many more.
    pub fn claims(&self, event: ClaimEvent, count: u64) {
        let event = match event {
            ClaimEvent::Submitted => "submitted",
            ClaimEvent::Approved => "approved",
            ClaimEvent::Rejected => "rejected",
            ClaimEvent::Revoked => "revoked",
            ClaimEvent::Expired => "expired",
        };
        self.claims.with_label_values(&[event]).inc_by(count);
    }

    /// `sigilum_control_streams`: one more now, one fewer when the guard is dropped.
    #[must_use]
    pub(super) fn stream(&self) -> OpenStream {
        OpenStream::of(&self.streams)
    }

    /// `sigilum_control_pairing_sockets`: one more now, one fewer when the guard is dropped.
    #[must_use]
    pub(super) fn pairing_socket(&self) -> OpenStream {
        OpenStream::of(&self.pairing_sockets)
    }

    /// `sigilum_control_pairing_commands_total{outcome}`.
    pub(super) fn pairing_command(&self, outcome: CommandOutcome) {
        self.pairing_commands.with_label_values(&[outcome.label()]).inc();
    }

    /// `sigilum_control_webhook_deliveries_total{outcome}`.
    pub fn delivery(&self, outcome: DeliveryOutcome) {
        let outcome = match outcome {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Failed => "failed",
            DeliveryOutcome::GivenUp => "given_up",
            DeliveryOutcome::Blocked => "blocked",
        };
        self.deliveries.with_label_values(&[outcome]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A stream or a socket that is open, see [`Metrics::stream`] and [`Metrics::pairing_socket`].
#[derive(Debug)]
pub(super) struct OpenStream(IntGauge);

impl OpenStream {
    fn of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes metrics and registers each at once.
struct Maker(Registry);

impl Maker {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(opts(name, help), labels))
    }

    /// The library refuses ill-formed and doubled names. All of ours are constants of this file, made once for each
    /// registry, so a fault here is one of this file that every test of it would meet.
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let registered = made.and_then(|metric| self.0.register(Box::new(metric.clone())).map(|()| metric));
        match registered {
            Ok(metric) => metric,
            Err(fault) => unreachable!("a metric's name or buckets in this file are wrong: {fault}"),
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("sigilum").subsystem("control")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_counted_under_its_labels() {
        let metrics = Metrics::new();
        metrics.request("/v1/claims", 201, Duration::from_millis(2));
        metrics.claims(ClaimEvent::Expired, 3);
        metrics.delivery(DeliveryOutcome::GivenUp);
        metrics.pairing_command(CommandOutcome::TimedOut);
        let (stream, socket) = (metrics.stream(), metrics.pairing_socket());
        let text = metrics.render();
        for line in [
            "sigilum_control_requests_total{route=\"/v1/claims\",status=\"2xx\"} 1",
            "sigilum_control_request_seconds_bucket{le=\"0.0025\"} 1",
            "sigilum_control_claims_total{event=\"expired\"} 3",
            "sigilum_control_claims_total{event=\"approved\"} 0",
            "sigilum_control_webhook_deliveries_total{outcome=\"given_up\"} 1",
            "sigilum_control_streams 1",
            "sigilum_control_pairing_sockets 1",
            "sigilum_control_pairing_commands_total{outcome=\"timed_out\"} 1",
            "sigilum_control_pairing_commands_total{outcome=\"answered\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        drop((stream, socket));
        let text = metrics.render();
        assert!(text.contains("sigilum_control_streams 0\n"));
        assert!(text.contains("sigilum_control_pairing_sockets 0\n"));
    }
}
