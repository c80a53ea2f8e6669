//! The answers that the gateway gives itself: refusals, health, and what the admin sidecar says.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::accept::{Local, peer_address};
use super::exchange::Exchange;
use super::plane::Gateway;
use super::refusal::Refusal;
use super::reject::{About, Verdict};
use super::remains::Remains;
use super::{body, record, reject};
use crate::claims::Registration;

/// Answers a request that Pingora has read, unless an answer has already begun.
pub(super) async fn refuse(
    session: &mut Session,
    refusal: Refusal,
    exchange: &mut Exchange,
) -> pingora_core::Result<()> {
    let verdict = reject::verdict(&refusal);
    let (content_type, content) =
        reject::content(&refusal, verdict, exchange.about(), accepts_markdown(session));
    exchange.refused(refusal, verdict);
    if session.response_written().is_some_and(|written| !written.status.is_informational()) {
        return Ok(());
    }
    let mut head = ResponseHeader::build(verdict.status, Some(6))?;
    head.insert_header("content-type", content_type)?;
    head.insert_header("content-length", content.len())?;
    head.insert_header("cache-control", "no-store")?;
    head.insert_header("x-request-id", exchange.request_id().as_str())?;
    if let Some(seconds) = verdict.retry_after_secs {
        head.insert_header("retry-after", seconds)?;
    }
    let keep = verdict.keep_connection && session.is_body_done();
    if !keep {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(Bytes::from(content)), true).await?;
    if !keep {
        body::linger(session).await;
    }
    Ok(())
}

fn accepts_markdown(session: &Session) -> bool {
    let accepts =
        |accept: &HeaderValue| accept.to_str().is_ok_and(|ranges| ranges.split(',').any(is_markdown));
    session.req_header().headers.get_all("accept").iter().any(accepts)
}

/// Whether a media range (RFC 9110 §12.5.1) names Markdown, and not as what is unwanted: `q=0`.
fn is_markdown(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("text/markdown"));
    let unwanted = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            name.trim_end().eq_ignore_ascii_case("q") && value.trim_start().parse::<f32>() == Ok(0.0)
        })
    };
    named && !parts.any(unwanted)
}

/// The whole answer to a head that Pingora never saw, as bytes; the connection closes after it.
pub(super) fn raw(refusal: &Refusal, gateway: &Gateway, client: Option<IpAddr>) -> Vec<u8> {
    let verdict = reject::verdict(refusal);
    let exchange = Exchange::begin(gateway.clock(), gateway.request_ids(), client);
    let answer = as_bytes(refusal, verdict, exchange.about(), true);
    record::refused_head(gateway, &exchange, verdict);
    answer
}

/// The whole answer to a request that was cut before its answer had begun, and the status of it.
pub(super) fn withdrawn(remains: &Remains) -> (StatusCode, Vec<u8>) {
    // Without an id: that claim cannot be approved any more, and the next request tells of the one that can.
    let registration =
        Registration { status: remains.ending.status().to_owned(), claim_id: None, approve_url: None };
    let refusal = Refusal::ClaimRequired(registration);
    let verdict = reject::verdict(&refusal);
    let with_content = remains.method != Method::HEAD;
    (verdict.status, as_bytes(&refusal, verdict, remains.about(), with_content))
}

fn as_bytes(refusal: &Refusal, verdict: Verdict, about: About<'_>, with_content: bool) -> Vec<u8> {
    let (content_type, content) = reject::content(refusal, verdict, about, false);
    let retry_after =
        verdict.retry_after_secs.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-request-id: {}\r\n{retry_after}connection: close\r\n\r\n",
        verdict.status.as_u16(),
        verdict.status.canonical_reason().unwrap_or_default(),
        content.len(),
        about.request_id,
    )
    .into_bytes();
    if with_content {
        answer.extend_from_slice(&content);
    }
    answer
}

/// Answers a health check.
pub(super) async fn health(
    gateway: &Gateway,
    session: &mut Session,
    exchange: &mut Exchange,
    check: Local,
) -> pingora_core::Result<()> {
    if check == Local::Ready
        && let Err(awaited) = gateway.ready()
    {
        return refuse(session, Refusal::NotReady(awaited), exchange).await;
    }
    let content = match check {
        Local::Health => status_ok("health"),
        Local::Live => status_ok("liveness"),
        Local::Ready => status_ok("readiness"),
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
    // Its peer, not who a proxy says it is: being on this machine gives access.
    let (Some(admin), Some(peer)) = (gateway.admin(), peer_address(session)) else {
        return refuse(session, Refusal::NotFound, exchange).await;
    };
    let patience = gateway.config().limits.header_timeout;
    let body = match tokio::time::timeout(patience, admin_body(session)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None)) => {
            let refusal = Refusal::BodyTooLarge { max_bytes: ADMIN_BODY_MAX_BYTES as u64 };
            return refuse(session, refusal, exchange).await;
        }
        Ok(Err(broken_off)) => return Err(broken_off),
        Err(_) => return refuse(session, Refusal::BodyTimeout, exchange).await,
    };
    let mut request = http::Request::new(body);
    let head = session.req_header();
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    // The sidecar's envelope names the same id as our header does.
    if let Ok(id) = HeaderValue::from_str(exchange.request_id().as_str()) {
        request.headers_mut().insert("x-request-id", id);
    }
    let (parts, content) = admin(request, peer).await.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 2))?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    write(session, exchange, head, content).await
}

/// The body of an admin request; `None` where it is too large.
async fn admin_body(session: &mut Session) -> pingora_core::Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    while let Some(part) = session.read_request_body().await? {
        body.extend_from_slice(&part);
        if body.len() > ADMIN_BODY_MAX_BYTES {
            return Ok(None);
        }
    }
    Ok(Some(body.freeze()))
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

fn status_ok(check: &str) -> String {
    format!("{{\"status\":\"ok\",\"check\":\"{check}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_is_given_only_to_who_wants_it() {
        for wanted in
            ["text/markdown", "Text/Markdown", " text/markdown;q=0.1", "text/markdown ; charset=utf-8"]
        {
            assert!(is_markdown(wanted), "{wanted}");
        }
        for other in [
            "text/markdown;q=0",
            "text/markdown; Q = 0.000",
            "text/markdownish",
            "application/json",
            "*/*",
            "",
        ] {
            assert!(!is_markdown(other), "{other}");
        }
    }
}
