//! Prometheus metrics under the contract's names.
//!
//! Every series is made at construction, so a request costs atomic additions and no look-up by label, and nothing
//! that a client sends can make a further one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use super::Outcome;
use super::logging::DroppedLines;
use super::series::{ByClass, ByOutcome, ByProtocol, Reasons, UsageEvents, YesNo};

/// Bounds of `sigilum_gateway_upstream_latency_seconds`: 1 ms to 120 s.
const LATENCY_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Bounds of `sigilum_gateway_overhead_seconds`: 10 µs to 100 ms.
const OVERHEAD_SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_075, 0.000_1, 0.000_15, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005,
    0.01, 0.025, 0.05, 0.1,
];

/// Bounds of `sigilum_gateway_claim_revocation_lag_seconds`: 5 ms to an hour.
const REVOCATION_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// The `protocol` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP proxying.
    Http,
    /// MCP.
    Mcp,
}

/// What became of usage events: the `result` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageFate {
    /// The control plane took them.
    Sent,
    /// There was no room for them, or no time left.
    Dropped,
    /// The control plane refuses them.
    Refused,
}

/// All metrics of a gateway, in a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: ByProtocol<ByOutcome>,
    auth_reject: Reasons,
    replay_detected: IntCounter,
    upstream_requests: ByProtocol<YesNo>,
    upstream_latency: Histogram,
    upstream_error: ByClass,
    overhead: Histogram,
    claims_age: Gauge,
    claims_entries: IntGauge,
    claim_revocation_lag: Histogram,
    in_flight: IntGauge,
    drained: YesNo,
    secret_unreadable: IntCounter,
    config_reload: YesNo,
    streams_cut: IntCounter,
    usage_events: UsageEvents,
    pairing_connected: IntGauge,
    log_lines_dropped: IntCounter,
    log_lines: Mutex<Option<DroppedLines>>,
}

impl Metrics {
    /// The media type of what [`Metrics::render`] gives.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Makes and registers all of them.
    #[must_use]
    pub fn new() -> Self {
        let make = Maker(Registry::new());
        let requests =
            make.counters("requests_total", "Requests, by what became of them.", &["protocol", "outcome"]);
        let upstream = make.counters(
            "upstream_requests_total",
            "Requests answered by an upstream: success below status 500, else failure.",
            &["protocol", "outcome"],
        );
        let rejects = make.counters("auth_reject_total", "Requests refused, by reason.", &["reason"]);
        let errors = make.counters("upstream_error_total", "Faults towards upstreams, by class.", &["class"]);
        let drained = make.counters(
            "shutdown_drain_total",
            "Stops of the gateway, by whether all requests had ended.",
            &["outcome"],
        );
        let vault = make.counters("vault_errors_total", "Secrets that could not be used.", &["kind"]);
        let reloads = make.counters("config_reload_total", "Configurations re-read, by result.", &["result"]);
        let usage = make.counters(
            "usage_events_total",
            "Usage events for the control plane, by what became of them.",
            &["result"],
        );
        let metrics = Self {
            requests: ByProtocol::of(|protocol| ByOutcome::of(&requests, protocol)),
            auth_reject: Reasons::of(&rejects),
            replay_detected: make.counter("replay_detected_total", "Nonces that were seen before."),
            upstream_requests: ByProtocol::of(|protocol| {
                YesNo::of(&upstream, &[protocol, "success"], &[protocol, "failure"])
            }),
            upstream_latency: make.histogram(
                "upstream_latency_seconds",
                "Time from the request to the upstream until the head of its answer.",
                LATENCY_SECONDS,
            ),
            upstream_error: ByClass::of(&errors),
            overhead: make.histogram(
                "overhead_seconds",
                "Time that the gateway itself added to a request.",
                OVERHEAD_SECONDS,
            ),
            claims_age: make.gauge(
                "claims_age_seconds",
                "Age of the approved claims; +Inf until they came for the first time.",
            ),
            claims_entries: make.count("claims_entries", "Approved claims known."),
            claim_revocation_lag: make.histogram(
                "claim_revocation_lag_seconds",
                "Time from the decision to withdraw a claim until the gateway heard of it by the stream.",
                REVOCATION_SECONDS,
            ),
            in_flight: make.count("requests_in_flight", "Requests that are being served."),
            drained: YesNo::of(&drained, &["completed"], &["cut"]),
            secret_unreadable: vault.with_label_values(&["secret_unreadable"]),
            config_reload: YesNo::of(&reloads, &["ok"], &["refused"]),
            streams_cut: make.counter(
                "streams_cut_total",
                "Running exchanges that were ended because their claim was withdrawn or came to its end.",
            ),
            usage_events: UsageEvents::of(&usage),
            pairing_connected: make.count(
                "pairing_connected",
                "1 while the gateway is connected to the control plane that it is paired with, else 0.",
            ),
            log_lines_dropped: make.counter(
                "log_lines_dropped_total",
                "Log lines dropped because standard output was too slow.",
            ),
            log_lines: Mutex::new(None),
            registry: make.0,
        };
        metrics.claims_age.set(f64::INFINITY);
        metrics
    }

    /// Prometheus text exposition, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.take_dropped_lines();
        // The encoder fails only on a family without a metric, and none is made without one.
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default();
        // The library writes infinity as Rust does; the format's word for it is `+Inf`.
        text.replace(" inf\n", " +Inf\n")
    }

    /// `sigilum_gateway_requests_total{protocol,outcome}`: outcome `allowed`, `rejected` or `error`.
    pub fn request(&self, protocol: Protocol, outcome: Outcome) {
        self.requests.get(protocol).get(outcome).inc();
    }

    /// `sigilum_gateway_auth_reject_total{reason}`: the `SIG_*` reason where there is one, else the code. One that the
    /// contract does not know counts as `other`.
    pub fn auth_reject(&self, reason: &'static str) {
        self.auth_reject.counter(reason).inc();
    }

    /// `sigilum_gateway_replay_detected_total`.
    pub fn replay_detected(&self) {
        self.replay_detected.inc();
    }

    /// `sigilum_gateway_upstream_requests_total{protocol,outcome}` (`success` where `ok`, which is a status below 500,
    /// else `failure`) and `sigilum_gateway_upstream_latency_seconds`.
    pub fn upstream(&self, protocol: Protocol, ok: bool, latency: Duration) {
        self.upstream_requests.get(protocol).get(ok).inc();
        self.upstream_latency.observe(latency.as_secs_f64());
    }

    /// `sigilum_gateway_upstream_error_total{class}`: `connect`, `tls`, `timeout`, `reset`, `protocol`, `unavailable`;
    /// anything else counts as `other`.
    pub fn upstream_error(&self, class: &'static str) {
        self.upstream_error.get(class).inc();
    }

    /// `sigilum_gateway_overhead_seconds`: the time that the gateway itself added.
    pub fn overhead(&self, added: Duration) {
        self.overhead.observe(added.as_secs_f64());
    }

    /// `sigilum_gateway_claims_age_seconds` (`+Inf` without an `age`, so that an alert on old claims also sees claims
    /// that never came) and `sigilum_gateway_claims_entries`.
    pub fn claims(&self, age: Option<Duration>, entries: usize) {
        self.claims_age.set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
        self.claims_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// `sigilum_gateway_claim_revocation_lag_seconds`: a claim that was held was withdrawn by the stream so long after it
    /// was decided, by the two machines' clocks.
    pub fn claim_revocation_lag(&self, lag: Duration) {
        self.claim_revocation_lag.observe(lag.as_secs_f64());
    }

    /// `sigilum_gateway_requests_in_flight`: one more now, one fewer when the guard is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Requests in flight now.
    #[must_use]
    pub fn requests_in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// `sigilum_gateway_shutdown_drain_total{outcome}`: `completed`, or `cut` at the end of the time to drain.
    pub fn drained(&self, completed: bool) {
        self.drained.get(completed).inc();
    }

    /// `sigilum_gateway_vault_errors_total{kind="secret_unreadable"}`.
    pub fn secret_unreadable(&self) {
        self.secret_unreadable.inc();
    }

    /// `sigilum_gateway_pairing_connected`.
    pub fn pairing_connected(&self, connected: bool) {
        self.pairing_connected.set(i64::from(connected));
    }

    /// `sigilum_gateway_config_reload_total{result}`: `ok` or `refused`.
    pub fn config_reload(&self, ok: bool) {
        self.config_reload.get(ok).inc();
    }

    /// `sigilum_gateway_streams_cut_total`.
    pub fn stream_cut(&self) {
        self.streams_cut.inc();
    }

    /// `sigilum_gateway_usage_events_total{result}`: so many more were `sent`, `dropped` or `refused`.
    pub fn usage_events(&self, fate: UsageFate, count: usize) {
        self.usage_events.get(fate).inc_by(count as u64);
    }

    /// From now on `sigilum_gateway_log_lines_dropped_total` follows `lines`.
    pub fn watch_log(&self, lines: DroppedLines) {
        *self.log_lines.lock().unwrap_or_else(PoisonError::into_inner) = Some(lines);
    }

    /// Brings the counter up to the log queue's own. Under the lock, so that two readers do not add the same lines.
    fn take_dropped_lines(&self) {
        let lines = self.log_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = lines.as_ref() {
            self.log_lines_dropped.inc_by(lines.total().saturating_sub(self.log_lines_dropped.get()));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A request being served; see [`Metrics::in_flight`].
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
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

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(opts(name, help)))
    }

    fn count(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(opts(name, help)))
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.register(Histogram::with_opts(HistogramOpts {
            common_opts: opts(name, help),
            buckets: bounds.to_vec(),
        }))
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
    Opts::new(name, help).namespace("sigilum").subsystem("gateway")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|found| found == line)
    }

    #[test]
    fn contract_s_names_and_labels_stand_from_the_start() {
        let text = Metrics::new().render();
        for series in [
            "sigilum_gateway_requests_total{outcome=\"allowed\",protocol=\"http\"} 0",
            "sigilum_gateway_auth_reject_total{reason=\"SIG_VERIFICATION_FAILED\"} 0",
            "sigilum_gateway_replay_detected_total 0",
            "sigilum_gateway_upstream_requests_total{outcome=\"failure\",protocol=\"mcp\"} 0",
            "sigilum_gateway_upstream_latency_seconds_bucket{le=\"120\"} 0",
            "sigilum_gateway_overhead_seconds_bucket{le=\"0.00001\"} 0",
            "sigilum_gateway_upstream_error_total{class=\"tls\"} 0",
            "sigilum_gateway_claims_age_seconds +Inf",
            "sigilum_gateway_claims_entries 0",
            "sigilum_gateway_claim_revocation_lag_seconds_bucket{le=\"1\"} 0",
            "sigilum_gateway_requests_in_flight 0",
            "sigilum_gateway_shutdown_drain_total{outcome=\"cut\"} 0",
            "sigilum_gateway_vault_errors_total{kind=\"secret_unreadable\"} 0",
            "sigilum_gateway_config_reload_total{result=\"refused\"} 0",
            "sigilum_gateway_streams_cut_total 0",
            "sigilum_gateway_usage_events_total{result=\"dropped\"} 0",
            "sigilum_gateway_log_lines_dropped_total 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} is not in\n{text}");
        }
    }

    #[test]
    fn each_event_is_counted_under_its_labels() {
        let metrics = Metrics::new();
        metrics.request(Protocol::Mcp, Outcome::Rejected);
        metrics.upstream(Protocol::Http, false, Duration::from_millis(3));
        metrics.overhead(Duration::from_micros(30));
        metrics.claims(Some(Duration::from_millis(1500)), 7);
        metrics.claim_revocation_lag(Duration::from_millis(300));
        metrics.drained(true);
        metrics.config_reload(false);
        for line in [
            "sigilum_gateway_requests_total{outcome=\"rejected\",protocol=\"mcp\"} 1",
            "sigilum_gateway_upstream_requests_total{outcome=\"failure\",protocol=\"http\"} 1",
            "sigilum_gateway_upstream_latency_seconds_bucket{le=\"0.0025\"} 0",
            "sigilum_gateway_upstream_latency_seconds_bucket{le=\"0.005\"} 1",
            "sigilum_gateway_overhead_seconds_bucket{le=\"0.000025\"} 0",
            "sigilum_gateway_overhead_seconds_bucket{le=\"0.00005\"} 1",
            "sigilum_gateway_claims_age_seconds 1.5",
            "sigilum_gateway_claims_entries 7",
            "sigilum_gateway_claim_revocation_lag_seconds_bucket{le=\"0.25\"} 0",
            "sigilum_gateway_claim_revocation_lag_seconds_bucket{le=\"0.5\"} 1",
            "sigilum_gateway_shutdown_drain_total{outcome=\"completed\"} 1",
            "sigilum_gateway_config_reload_total{result=\"refused\"} 1",
        ] {
            assert!(holds(&metrics, line), "{line} is not in\n{}", metrics.render());
        }
    }

    #[test]
    fn unknown_reason_and_class_make_no_new_series() {
        let metrics = Metrics::new();
        let before = metrics.render().lines().count();
        metrics.auth_reject("SIG_OF_NOBODY");
        metrics.upstream_error("of nobody");
        assert!(holds(&metrics, "sigilum_gateway_auth_reject_total{reason=\"other\"} 1"));
        assert!(holds(&metrics, "sigilum_gateway_upstream_error_total{class=\"other\"} 1"));
        assert_eq!(metrics.render().lines().count(), before);
    }

    #[test]
    fn request_in_flight_counts_until_its_guard_is_dropped() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.in_flight(), metrics.in_flight());
        assert_eq!(metrics.requests_in_flight(), 2);
        drop(first);
        drop(second);
        assert_eq!(metrics.requests_in_flight(), 0);
    }
}
