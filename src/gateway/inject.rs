//! Fifth stage: the secret. It is set only with a permit in hand, on the request that leaves, and set anew on a retry.

use std::borrow::Cow;

use pingora_http::RequestHeader;

use super::exchange::Route;
use crate::connections::{Credential, Place};
use crate::policy::Permit;

/// Sets the header of `credential`, after taking out whatever the client sent there. `_permit` is the proof that it
/// may be done.
pub(super) fn inject(
    _permit: &Permit,
    credential: &Credential,
    request: &mut RequestHeader,
) -> pingora_core::Result<()> {
    let Place::Header(name, value) = credential.place() else { return Ok(()) };
    // Also a name with underscores: servers that hand headers on as variables take it for the same.
    let shadows: Vec<http::HeaderName> =
        request.headers.keys().filter(|key| same_variable(key.as_str(), name.as_str())).cloned().collect();
    for shadow in shadows {
        request.remove_header(&shadow);
    }
    request.insert_header(name.clone(), value.clone())
}

fn same_variable(name: &str, injected: &str) -> bool {
    name.len() == injected.len()
        && name
            .bytes()
            .zip(injected.bytes())
            .all(|(a, b)| a == b || (matches!(a, b'_' | b'-') && matches!(b, b'_' | b'-')))
}

/// Path and query for the upstream, with the secret in it where it goes there.
pub(super) fn target<'a>(route: &'a Route, credential: Option<&Credential>) -> Cow<'a, str> {
    match credential.map(Credential::place) {
        Some(Place::Query(name, pair)) => Cow::Owned(with_parameter(&route.target, name, pair.expose())),
        Some(Place::Path(part)) => {
            let (base, rest) = route.target.split_at_checked(route.rest_at).unwrap_or((&route.target, ""));
            Cow::Owned([base, part.expose(), rest].concat())
        }
        _ => Cow::Borrowed(&route.target),
    }
}

/// What the client sent besides this parameter goes on byte for byte, empty parts too.
fn with_parameter(target: &str, name: &str, pair: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut with = String::with_capacity(target.len() + pair.len() + 2);
    with.push_str(path);
    let mut separator = '?';
    let parts = (!query.is_empty()).then(|| query.split('&')).into_iter().flatten();
    let kept = parts.filter(|part| parameter_name(part) != name.as_bytes());
    for part in kept.chain([pair]) {
        with.push(separator);
        with.push_str(part);
        separator = '&';
    }
    with
}

/// The decoded name of a query parameter: percent-encoding, and `+` for a space.
fn parameter_name(part: &str) -> Vec<u8> {
    let name = part.split_once('=').map_or(part, |(name, _)| name);
    url::form_urlencoded::parse(name.as_bytes())
        .next()
        .map_or_else(Vec::new, |(name, _)| name.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_name_is_compared_decoded() {
        for part in ["api_key=1", "api_key", "api%5Fkey=x", "%61pi_key=1=2"] {
            assert_eq!(parameter_name(part), b"api_key", "{part}");
        }
        assert_ne!(parameter_name("api_keys=1"), b"api_key");
    }

    #[test]
    fn underscores_and_hyphens_name_the_same_variable() {
        assert!(same_variable("x_api-key", "x-api-key"));
        assert!(!same_variable("x-api-kez", "x-api-key"));
    }
}
