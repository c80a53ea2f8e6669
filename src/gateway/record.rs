//! Last stage: what became of the request, counted and logged once.

use pingora_proxy::Session;

use super::exchange::Exchange;
use super::plane::Gateway;
use super::reject::Verdict;
use crate::telemetry::{Decision, Outcome, Protocol};

/// In the log alone: the client broke the exchange off, so there was nobody to answer.
const CLIENT_CLOSED: &str = "CLIENT_CLOSED";

/// Records a request that Pingora has read.
pub(super) fn record(gateway: &Gateway, session: &Session, exchange: &Exchange, client_gone: bool) {
    // Probes and what the admin sidecar answers are no requests for a provider.
    if exchange.local {
        return;
    }
    let outcome = exchange.verdict().map_or(Outcome::Allowed, outcome_of);
    count(gateway, exchange, outcome);
    upstream_metrics(gateway, exchange, status(session));
    if gateway.decisions().enabled(outcome) {
        let code = exchange.verdict().map(|verdict| verdict.code).or(client_gone.then_some(CLIENT_CLOSED));
        write(gateway, session, exchange, outcome, code);
    }
}

/// Records a head that Pingora never saw: nothing of it is trusted enough to be written down.
pub(super) fn refused_head(gateway: &Gateway, exchange: &Exchange, verdict: Verdict) {
    let outcome = outcome_of(verdict);
    gateway.metrics().request(Protocol::Http, outcome);
    let decision = Decision {
        code: Some(verdict.code),
        status: verdict.status.as_u16(),
        ..blank(gateway, exchange, outcome)
    };
    gateway.decisions().write(&decision);
}

fn outcome_of(verdict: Verdict) -> Outcome {
    match verdict.code {
        "UPSTREAM_ERROR"
        | "UPSTREAM_TIMEOUT"
        | "UPSTREAM_UNAVAILABLE"
        | "SECRET_UNREADABLE"
        | "SECRET_REFLECTED"
        | "INTERNAL" => Outcome::Error,
        _ => Outcome::Rejected,
    }
}

fn count(gateway: &Gateway, exchange: &Exchange, outcome: Outcome) {
    let metrics = gateway.metrics();
    metrics.request(Protocol::Http, outcome);
    let Some(verdict) = exchange.verdict() else { return };
    if verdict.code.starts_with("AUTH_") {
        metrics.auth_reject(verdict.reason.unwrap_or(verdict.code));
    }
    match verdict.code {
        "AUTH_REPLAY_DETECTED" => metrics.replay_detected(),
        "SECRET_UNREADABLE" => metrics.secret_unreadable(),
        _ => {}
    }
}

fn upstream_metrics(gateway: &Gateway, exchange: &Exchange, status: u16) {
    let metrics = gateway.metrics();
    if let Some(class) = exchange.upstream_fault() {
        metrics.upstream_error(class);
    }
    let times = &exchange.times;
    let Some(began) = times.upstream_began else { return };
    let before = began.saturating_duration_since(exchange.started());
    metrics.overhead(before.saturating_sub(times.body_wait));
    let answered = times.upstream_head.unwrap_or_else(|| gateway.clock().instant());
    let ok = times.upstream_head.is_some() && status < 500;
    metrics.upstream(Protocol::Http, ok, answered.saturating_duration_since(began));
}

fn write(gateway: &Gateway, session: &Session, exchange: &Exchange, outcome: Outcome, code: Option<&str>) {
    let request = session.req_header();
    let asked = request.uri.path();
    let times = &exchange.times;
    let upstream_end = times.upstream_last.or(times.upstream_head);
    let decision = Decision {
        connection: exchange.connection_id(),
        code,
        reason: exchange.verdict().and_then(|verdict| verdict.reason),
        principal: exchange
            .verified
            .as_ref()
            .map(|verified| (verified.agent().namespace.as_str(), verified.subject(), verified.agent_id())),
        claim: exchange.permit.as_ref().map(|permit| permit.claim().id.as_str()),
        method: request.method.as_str(),
        path: exchange.route.as_ref().map_or(asked, |route| route.path()),
        status: status(session),
        upstream: times
            .upstream_began
            .zip(upstream_end)
            .map(|(began, end)| end.saturating_duration_since(began)),
        request_bytes: exchange.body.bytes(),
        response_bytes: session.body_bytes_sent() as u64,
        ..blank(gateway, exchange, outcome)
    };
    gateway.decisions().write(&decision);
}

/// The status that the client got; 0 where it got none.
fn status(session: &Session) -> u16 {
    session.response_written().map_or(0, |head| head.status.as_u16())
}

fn blank<'a>(gateway: &Gateway, exchange: &'a Exchange, outcome: Outcome) -> Decision<'a> {
    Decision {
        request_id: exchange.request_id().as_str(),
        connection: None,
        outcome,
        code: None,
        reason: None,
        principal: None,
        claim: None,
        method: "",
        path: "",
        status: 0,
        client: exchange.client,
        total: gateway.clock().instant().saturating_duration_since(exchange.started()),
        upstream: None,
        request_bytes: 0,
        response_bytes: 0,
    }
}
