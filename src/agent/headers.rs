//! Which headers go on.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The client's headers without those of its connection, without any signature of its own, and without its
/// `Authorization` unless it is to be kept. What describes the body's length is made anew.
///
/// `Via` (RFC 9110 §7.6.3) is added: whoever trusts callers by their address must see that this one passes others on.
pub(super) fn of_request(headers: &HeaderMap, keep_authorization: bool) -> HeaderMap {
    let named = named_by_connection(headers);
    let mut kept = without(headers, |name| {
        is_hop_by_hop(name)
            || named.iter().any(|other| other == name.as_str())
            || matches!(*name, HOST | CONTENT_LENGTH | EXPECT)
            || is_made_by_the_signer(name)
            || (*name == AUTHORIZATION && !keep_authorization)
    });
    kept.append(VIA, HeaderValue::from_static("1.1 sigilum-agent"));
    kept
}

/// The answer's headers without those of its connection.
pub(super) fn of_response(headers: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(headers);
    without(headers, |name| is_hop_by_hop(name) || named.iter().any(|other| other == name.as_str()))
}

/// Whether the client asks for a WebSocket (RFC 6455 §4.1).
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let has =
        |name: HeaderName, token: &str| tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token));
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Whether the signer makes this header, so that a client's own value must not stand beside it.
pub(super) fn is_made_by_the_signer(name: &HeaderName) -> bool {
    matches!(name.as_str(), "signature" | "signature-input" | "content-digest")
        || name.as_str().starts_with("sigilum-")
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER | TRANSFER_ENCODING | UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    tokens(headers, CONNECTION).map(str::to_ascii_lowercase).collect()
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn without(headers: &HeaderMap, dropped: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| !dropped(name))
        .map(|(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn headers_of_the_connection_and_old_signatures_stay_behind() {
        let headers = map(&[
            ("host", "localhost"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("signature", "sig1=:AA==:"),
            ("sigilum-subject", "somebody"),
            ("content-digest", "sha-256=:AA==:"),
            ("authorization", "Bearer dummy"),
            ("x-kept", "a"),
            ("x-kept", "b"),
        ]);
        let sent = map(&[("x-kept", "a"), ("x-kept", "b"), ("via", "1.1 sigilum-agent")]);
        assert_eq!(of_request(&headers, false), sent);
        assert_eq!(of_request(&headers, true).get("authorization").unwrap(), "Bearer dummy");
    }

    #[test]
    fn websocket_is_asked_for_with_both_headers() {
        assert!(asks_for_websocket(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!asks_for_websocket(&map(&[("upgrade", "websocket")])));
        assert!(!asks_for_websocket(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])));
    }
}
