//! What the gateway answers itself: health, and what it hands to the admin sidecar.

use bytes::{Bytes, BytesMut};
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
    let content = match answer {
        Local::Health => health("health"),
        Local::Live => health("liveness"),
        Local::Ready => health("readiness"),
    };
    let mut head = ResponseHeader::build(StatusCode::OK, Some(4))?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("cache-control", "no-store")?;
    write(session, exchange, head, Bytes::from(content)).await
}

/// The largest admin request body taken, in bytes.
const ADMIN_BODY_MAX_BYTES: usize = 1024 * 1024;

/// Hands the request to the admin sidecar and its answer back.
pub(super) async fn hand_over(
    gateway: &Gateway,
    session: &mut Session,
    exchange: &mut Exchange,
) -> pingora_core::Result<()> {
    let (Some(admin), Some(client)) = (gateway.admin(), exchange.client) else {
        return reject::send(session, Refusal::NotFound, exchange).await;
    };
    let mut body = BytesMut::new();
    while let Some(part) = session.read_request_body().await? {
        body.extend_from_slice(&part);
        if body.len() > ADMIN_BODY_MAX_BYTES {
            let refusal = Refusal::BodyTooLarge { max_bytes: ADMIN_BODY_MAX_BYTES as u64 };
            return reject::send(session, refusal, exchange).await;
        }
    }
    let mut request = http::Request::new(body.freeze());
    let head = session.req_header();
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    let (parts, content) = admin(request, client).await.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 2))?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    write(session, exchange, head, content).await
}

async fn write(
    session: &mut Session,
    exchange: &Exchange,
    mut head: ResponseHeader,
    content: Bytes,
) -> pingora_core::Result<()> {
    head.insert_header("content-length", content.len())?;
    head.insert_header("x-request-id", exchange.request_id().as_str())?;
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    let head_only = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(head), head_only).await?;
    if head_only { Ok(()) } else { session.write_response_body(Some(content), true).await }
}

fn health(check: &str) -> String {
    format!("{{\"status\":\"ok\",\"check\":\"{check}\"}}")
}
