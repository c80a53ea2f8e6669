//! Last stage: what became of the request, counted and logged once.

use http::StatusCode;
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::plane::Gateway;
use super::reject::Verdict;
use super::remains::Remains;
use crate::protocol::VerifiedSignature;
use crate::telemetry::{Decision, Outcome, Protocol};
use crate::usage::{Event, Result as UsageResult};

/// In the log alone: the client broke the exchange off, so there was nobody to answer.
const CLIENT_CLOSED: &str = "CLIENT_CLOSED";
/// In the log alone: the claim was withdrawn under a running exchange, or came to its end.
const CLAIM_WITHDRAWN: &str = "CLAIM_WITHDRAWN";

/// Records a request that Pingora has read.
pub(super) fn record(gateway: &Gateway, session: &Session, exchange: &mut Exchange, client_gone: bool) {
    // From here on there is nothing left to be cut.
    if let Some(line) = exchange.line.take() {
        line.leave();
    }
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
    report(gateway, session, exchange, outcome);
}

/// Records an exchange whose claim was withdrawn under it. `status` is what its client got.
pub(super) fn cut(gateway: &Gateway, remains: Remains, status: Option<StatusCode>) {
    let verdict = remains.verdict;
    let outcome = verdict.map_or(Outcome::Rejected, outcome_of);
    let status = status.or(verdict.map(|verdict| verdict.status)).map_or(0, |status| status.as_u16());
    let now = gateway.clock().instant();
    let metrics = gateway.metrics();
    metrics.stream_cut();
    metrics.request(Protocol::Http, outcome);
    if let (Some(began), Some(head)) = (remains.upstream_began, remains.upstream_head) {
        metrics.upstream(Protocol::Http, status < 500, head.saturating_duration_since(began));
    }
    if gateway.decisions().enabled(outcome) {
        let upstream_end = remains.upstream_last.or(remains.upstream_head);
        let decision = Decision {
            request_id: remains.request_id.as_str(),
            connection: remains.connection.as_ref().map(|id| id.as_str()),
            outcome,
            code: Some(verdict.map_or(CLAIM_WITHDRAWN, |verdict| verdict.code)),
            reason: verdict.and_then(|verdict| verdict.reason),
            principal: remains.verified.as_ref().map(principal),
            claim: remains.claim.as_ref().map(|claim| claim.id.as_str()),
            method: remains.method.as_str(),
            path: &remains.path,
            status,
            client: remains.client,
            total: now.saturating_duration_since(remains.started),
            upstream: remains
                .upstream_began
                .zip(upstream_end)
                .map(|(began, end)| end.saturating_duration_since(began)),
            request_bytes: remains.request_bytes,
            response_bytes: remains.response_bytes,
        };
        gateway.decisions().write(&decision);
    }
    if let (Some(usage), Some(claim), Some(verified)) = (gateway.usage(), remains.claim, remains.verified) {
        usage.record(Event {
            claim,
            subject: verified.subject().to_owned(),
            agent_id: verified.agent_id().map(str::to_owned),
            result: usage_result(outcome),
            status,
            duration: now.saturating_duration_since(remains.started),
            response_bytes: remains.response_bytes,
            method: remains.method,
            path: remains.path,
            client: remains.client,
        });
    }
}

/// Tells the control plane of a request that was allowed, whatever became of it then.
fn report(gateway: &Gateway, session: &Session, exchange: &Exchange, outcome: Outcome) {
    let (Some(usage), Some(permit), Some(verified), Some(route)) =
        (gateway.usage(), &exchange.permit, &exchange.verified, &exchange.route)
    else {
        return;
    };
    let status = status(session);
    usage.record(Event {
        claim: std::sync::Arc::clone(permit.claim()),
        subject: verified.subject().to_owned(),
        agent_id: verified.agent_id().map(str::to_owned),
        // Without any answer it was no success, whoever broke it off.
        result: if status == 0 { UsageResult::Error } else { usage_result(outcome) },
        status,
        duration: gateway.clock().instant().saturating_duration_since(exchange.started()),
        response_bytes: session.body_bytes_sent() as u64,
        method: exchange.method.clone(),
        path: route.path().to_owned(),
        client: exchange.client,
    });
}

fn usage_result(outcome: Outcome) -> UsageResult {
    match outcome {
        Outcome::Allowed => UsageResult::Success,
        Outcome::Rejected => UsageResult::Rejected,
        Outcome::Error => UsageResult::Error,
    }
}

fn principal(verified: &VerifiedSignature) -> (&str, &str, Option<&str>) {
    (verified.agent().namespace.as_str(), verified.subject(), verified.agent_id())
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
        principal: exchange.verified.as_ref().map(principal),
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
