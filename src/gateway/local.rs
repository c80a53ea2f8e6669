//! What the gateway answers itself: health, and metrics where they are on the data port.

use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::accept::Local;
use super::exchange::Exchange;
use super::proxy::Gateway;
use super::refusal::Refusal;
use super::reject;

pub(super) async fn send(
    gateway: &Gateway,
    session: &mut Session,
    exchange: &mut Exchange,
    answer: Local,
) -> pingora_core::Result<()> {
    if answer == Local::Ready
        && let Err(awaited) = gateway.ready()
    {
        return reject::send(session, Refusal::NotReady(awaited), exchange).await;
    }
    let (content_type, content) = match answer {
        Local::Health => ("application/json", health("health")),
        Local::Live => ("application/json", health("liveness")),
        Local::Ready => ("application/json", health("readiness")),
        Local::Metrics => ("text/plain; version=0.0.4; charset=utf-8", gateway.metrics().render()),
    };
    let mut head = ResponseHeader::build(StatusCode::OK, Some(4))?;
    head.insert_header("content-type", content_type)?;
    head.insert_header("content-length", content.len())?;
    head.insert_header("cache-control", "no-store")?;
    head.insert_header("x-request-id", exchange.request_id().as_str())?;
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    let head_only = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), head_only).await?;
    if !head_only {
        session.write_response_body(Some(Bytes::from(content)), true).await?;
    }
    Ok(())
}

fn health(check: &str) -> String {
    format!("{{\"status\":\"ok\",\"check\":\"{check}\"}}")
}
