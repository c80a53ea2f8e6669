//! Prometheus metrics, names of the contract.
use std::time::Duration;
/// The `protocol` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol { /// http
    Http, /// mcp
    Mcp }
/// All metrics of a gateway. Cheap to update: label children are made at construction.
#[derive(Debug)]
pub struct Metrics { _private: () }
impl Metrics {
    /// Registers all of them.
    #[must_use]
    pub fn new() -> Self { unimplemented!() }
    /// Prometheus text exposition 0.0.4.
    #[must_use]
    pub fn render(&self) -> String { unimplemented!() }
    /// `sigilum_gateway_requests_total{protocol,outcome}`: outcome allowed | rejected | error.
    pub fn request(&self, _protocol: Protocol, _outcome: super::Outcome) { unimplemented!() }
    /// `sigilum_gateway_auth_reject_total{reason}`: SIG_… where there is one, else the code. Only known ones become a label.
    pub fn auth_reject(&self, _reason: &'static str) { unimplemented!() }
    /// `sigilum_gateway_replay_detected_total`.
    pub fn replay_detected(&self) { unimplemented!() }
    /// `sigilum_gateway_upstream_requests_total{protocol,outcome}` (outcome: success (status < 500) | failure) and `sigilum_gateway_upstream_latency_seconds`.
    pub fn upstream(&self, _protocol: Protocol, _ok: bool, _latency: Duration) { unimplemented!() }
    /// `sigilum_gateway_upstream_error_total{class}`: connect, tls, timeout, reset, protocol, unavailable, other.
    pub fn upstream_error(&self, _class: &'static str) { unimplemented!() }
    /// `sigilum_gateway_overhead_seconds`.
    pub fn overhead(&self, _added: Duration) { unimplemented!() }
    /// `sigilum_gateway_claims_age_seconds`, `sigilum_gateway_claims_entries`.
    pub fn claims(&self, _age: Option<Duration>, _entries: usize) { unimplemented!() }
    /// `sigilum_gateway_requests_in_flight`: +1 now, -1 when the guard is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight { unimplemented!() }
    /// Requests in flight now.
    #[must_use]
    pub fn requests_in_flight(&self) -> u64 { unimplemented!() }
    /// `sigilum_gateway_shutdown_drain_total{outcome}`: completed | cut.
    pub fn drained(&self, _completed: bool) { unimplemented!() }
    /// `sigilum_gateway_vault_errors_total{kind}`: secret_unreadable.
    pub fn secret_unreadable(&self) { unimplemented!() }
    /// `sigilum_gateway_config_reload_total{result}`: ok | refused.
    pub fn config_reload(&self, _ok: bool) { unimplemented!() }
}
impl Default for Metrics { fn default() -> Self { Self::new() } }
/// See [`Metrics::in_flight`].
#[derive(Debug)]
pub struct InFlight { _private: () }
