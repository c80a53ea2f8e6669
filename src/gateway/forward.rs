//! Fourth stage: what goes to the upstream, and to which endpoint. Also what of the answer must not come back.

use std::time::Instant;

use http::{HeaderName, HeaderValue};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::exchange::{Exchange, Route};
use super::refusal::Refusal;
use crate::connections::Credential;

/// Chooses the endpoint of the next attempt.
pub(super) async fn choose(
    session: &Session,
    exchange: &mut Exchange,
    now: Instant,
) -> Result<Box<HttpPeer>, Refusal> {
    let route = exchange.route.as_ref().ok_or(Refusal::Internal)?;
    let key = exchange
        .verified
        .as_ref()
        .map(|verified| verified.agent().public_key.as_bytes().as_slice())
        .unwrap_or_default();
    let upstream = &route.provider.upstream;
    let tried = exchange.endpoint.take();
    let choice = upstream
        .choose(key, tried.as_deref(), session.is_upgrade_req(), now)
        .await
        .ok_or(Refusal::UpstreamUnavailable)?;
    exchange.attempts += 1;
    if exchange.attempts == 1 {
        upstream.retries().count_request();
    }
    exchange.endpoint = Some(choice.facts);
    Ok(choice.peer)
}

/// Takes out what the upstream must not see, and sets host, path and query. The secret comes after.
pub(super) fn rewrite(
    route: &Route,
    authority: &HeaderValue,
    credential: Option<&Credential>,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let names: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in names {
        request.remove_header(&name);
    }
    // The gateway has asked for the body itself by now.
    request.remove_header("expect");
    let target = super::inject::target(route, credential);
    request.set_raw_path(target.as_bytes())?;
    request.insert_header("host", authority.clone())
}

/// What belongs to the exchange between agent and gateway alone. Hop-by-hop fields are Pingora's to remove.
fn is_ours(name: &str) -> bool {
    matches!(name, "signature" | "signature-input" | "content-digest") || name.starts_with("sigilum-")
}

/// Masks the secret in each header of the answer that holds it, in whatever form: an upstream may send it back.
pub(super) fn scrub(credential: &Credential, head: &mut ResponseHeader) {
    let leaks = |value: &HeaderValue| credential.forms().any(|form| holds(value.as_bytes(), form));
    let mut names: Vec<HeaderName> =
        head.headers.iter().filter(|(_, value)| leaks(value)).map(|(name, _)| name.clone()).collect();
    names.dedup();
    for name in names {
        let values: Vec<HeaderValue> = head
            .headers
            .get_all(&name)
            .iter()
            .filter_map(|value| HeaderValue::from_bytes(&masked(value.as_bytes(), credential)).ok())
            .collect();
        head.remove_header(&name);
        for value in values {
            // A name and a value that were in the head a moment ago.
            let _ = head.append_header(name.clone(), value);
        }
    }
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    memchr::memmem::find(bytes, form).is_some()
}

const MASK: &[u8] = b"[redacted]";

fn masked(value: &[u8], credential: &Credential) -> Vec<u8> {
    credential.forms().fold(value.to_vec(), |value, form| replace(&value, form))
}

fn replace(value: &[u8], form: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    let mut from = 0;
    for at in memchr::memmem::find_iter(value, form) {
        kept.extend_from_slice(value.get(from..at).unwrap_or_default());
        kept.extend_from_slice(MASK);
        from = at + form.len();
    }
    kept.extend_from_slice(value.get(from..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_masked_once() {
        assert_eq!(replace(b"a secret, secret", b"secret"), b"a [redacted], [redacted]");
        assert_eq!(replace(b"redacted", b"redacted"), b"[redacted]");
    }
}
