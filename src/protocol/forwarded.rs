//! Where a request came from and what it asked for, as its `Host` and the proxies on its way say.

use std::net::IpAddr;

use http::HeaderMap;

/// Where a request came from and what its client asked for, as far as the proxies on its way tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// From the nearest proxy back, the first address that is not trusted. What lies behind that one is its own word,
    /// and not looked at.
    pub client: IpAddr,
    /// Whether the client used `https`, where the nearest proxy says so.
    pub https: Option<bool>,
    /// The host, and the port where there was one, that the client asked, where the nearest proxy says so.
    pub host: Option<&'a str>,
}

/// `Forwarded` and `X-Forwarded-*` tell of two different origins. A proxy writes one of the two and passes on what its
/// client sent of the other, so one of them may be a stranger's word, and nothing here tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::SENTENCE)]
pub struct Contradiction;

impl Contradiction {
    /// What whoever runs the proxy reads.
    pub const SENTENCE: &str = "Forwarded and X-Forwarded-* say different things; the proxy in front must write one of \
                                them and remove the other";
}

/// Reads where a request that `peer` sent came from: by `Forwarded` (RFC 7239) or `X-Forwarded-*`, where `peer` is
/// `trusted`, and else by `peer` alone.
///
/// # Errors
/// When both are there and do not agree.
pub fn origin(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> Result<Origin<'_>, Contradiction> {
    let unproxied = Origin { client: peer, https: None, host: None };
    if !trusted(peer) {
        return Ok(unproxied);
    }
    let standard = headers.contains_key("forwarded").then(|| {
        let nearest = last(headers, "forwarded").unwrap_or_default();
        let named = elements(headers, "forwarded").map(|element| parameter(element, "for"));
        Origin {
            client: first_untrusted(peer, named, &trusted),
            https: parameter(nearest, "proto").map(is_https),
            host: parameter(nearest, "host"),
        }
    });
    let customary = CUSTOMARY.iter().any(|name| headers.contains_key(*name)).then(|| Origin {
        client: first_untrusted(peer, elements(headers, "x-forwarded-for").map(Some), &trusted),
        https: last(headers, "x-forwarded-proto").map(is_https),
        host: last(headers, "x-forwarded-host"),
    });
    match (standard, customary) {
        (Some(standard), Some(customary)) if standard != customary => Err(Contradiction),
        (standard, customary) => Ok(standard.or(customary).unwrap_or(unproxied)),
    }
}

/// What is read of `X-Forwarded-*`.
const CUSTOMARY: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

fn first_untrusted<'a>(
    peer: IpAddr,
    named: impl Iterator<Item = Option<&'a str>>,
    trusted: &impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut nearest = peer;
    for said in named.collect::<Vec<_>>().into_iter().rev() {
        if !trusted(nearest) {
            break;
        }
        let Some(address) = said.and_then(node) else { break };
        nearest = address;
    }
    nearest
}

fn is_https(proto: &str) -> bool {
    proto.eq_ignore_ascii_case("https")
}

/// The absolute URI that a client requested (RFC 9421 section 2.2.2): the scheme, `host` in lower case without the
/// scheme's own port, and `path` with its query, as they were sent. `None` where `host` is no host.
#[must_use]
pub fn received_uri(https: bool, host: &str, path: &str) -> Option<String> {
    if !is_authority(host.as_bytes()) {
        return None;
    }
    let (scheme, own_port) = if https { ("https", ":443") } else { ("http", ":80") };
    let host = host.strip_suffix(own_port).unwrap_or(host);
    let mut uri = String::with_capacity(scheme.len() + 3 + host.len() + path.len());
    uri.push_str(scheme);
    uri.push_str("://");
    uri.extend(host.chars().map(|c| c.to_ascii_lowercase()));
    uri.push_str(path);
    Some(uri)
}

/// `host[:port]`: a name, an IPv4 address, or an IPv6 address in brackets.
#[must_use]
pub fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value.strip_prefix(b"[").and_then(|rest| split_at_byte(rest, b']')) {
        Some((inside, after)) => {
            if !inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
                return false;
            }
            (inside, if after.is_empty() { None } else { Some(after.strip_prefix(b":")) })
        }
        None => match split_at_byte(value, b':') {
            Some((host, port)) => (host, Some(Some(port))),
            None => (value, None),
        },
    };
    let host_ok = !host.is_empty()
        && (value.starts_with(b"[")
            || host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')));
    let port_ok = match port {
        None => true,
        Some(Some(port)) => (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit),
        Some(None) => false,
    };
    host_ok && port_ok
}

fn split_at_byte(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = memchr::memchr(at, bytes)?;
    Some((bytes.get(..position)?, bytes.get(position + 1..)?))
}

/// The elements of a list header, in their order over all its lines.
fn elements<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(str::trim)
}

fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|text| !text.is_empty())
}

fn parameter<'a>(element: &'a str, wanted: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"')))
}

/// A node of RFC 7239 section 6: an address, with or without a port, an IPv6 one in brackets where it has a port.
fn node(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None if text.matches(':').count() == 1 => text.split(':').next()?,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn near() -> IpAddr {
        "10.0.0.1".parse().unwrap()
    }

    fn trusted(address: IpAddr) -> bool {
        address.to_string().starts_with("10.")
    }

    #[test]
    fn nearest_proxy_is_believed() {
        let said = |lines: &[(&'static str, &'static str)]| {
            let headers = headers(lines);
            let origin = origin(&headers, near(), trusted).unwrap();
            (origin.https, origin.host.map(str::to_owned))
        };
        assert_eq!(
            said(&[("x-forwarded-host", "evil.example, api.example"), ("x-forwarded-proto", "HTTPS")]),
            (Some(true), Some("api.example".to_owned()))
        );
        assert_eq!(
            said(&[("forwarded", "for=1.2.3.4;host=a, for=2;host=\"b.example:8443\";proto=http")]),
            (Some(false), Some("b.example:8443".to_owned()))
        );
        assert_eq!(said(&[]), (None, None));
    }

    #[test]
    fn client_is_the_first_that_is_not_trusted_from_the_nearest_on() {
        let client = |lines: &[(&'static str, &'static str)]| {
            origin(&headers(lines), near(), trusted).unwrap().client.to_string()
        };
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2")]), "203.0.113.9");
        assert_eq!(client(&[("x-forwarded-for", "203.0.113.9, nonsense")]), "10.0.0.1");
        assert_eq!(
            client(&[("forwarded", "for=\"[2001:db8::1]:4711\""), ("forwarded", "for=10.2.3.4:80")]),
            "2001:db8::1"
        );
    }

    #[test]
    fn stranger_s_word_counts_for_nothing_and_contradicts_nothing() {
        let stranger = "198.51.100.7".parse().unwrap();
        let said = headers(&[
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "host=evil.example"),
        ]);
        let alone = Origin { client: stranger, https: None, host: None };
        assert_eq!(origin(&said, stranger, trusted), Ok(alone));
    }

    #[test]
    fn two_kinds_of_headers_are_believed_only_where_they_say_the_same() {
        let x = [
            ("x-forwarded-for", "10.0.0.9, 203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "api.example"),
        ];
        let with = |forwarded: &'static str| {
            let mut lines = x.to_vec();
            lines.push(("forwarded", forwarded));
            origin(&headers(&lines), near(), trusted).map(|origin| origin.client.to_string())
        };
        let same = "for=1.1.1.1, for=203.0.113.9;proto=HTTPS;host=api.example";
        assert_eq!(with(same), Ok("203.0.113.9".to_owned()));
        for other in [
            "",
            "for=203.0.113.9",
            "for=203.0.113.9;proto=https",
            "for=203.0.113.9;proto=http;host=api.example",
            "for=203.0.113.9;proto=https;host=evil.example",
            "for=10.0.0.9;proto=https;host=api.example",
            "for=203.0.113.8;proto=https;host=api.example",
            "for=unknown;proto=https;host=api.example",
        ] {
            assert_eq!(with(other), Err(Contradiction), "{other}");
        }
        let alone = headers(&[("forwarded", "for=203.0.113.9"), ("x-forwarded-host", "evil.example")]);
        assert_eq!(origin(&alone, near(), trusted), Err(Contradiction));
    }

    #[test]
    fn uri_has_the_host_in_lower_case_without_the_scheme_s_own_port() {
        assert_eq!(received_uri(true, "API.Example:443", "/a?B").as_deref(), Some("https://api.example/a?B"));
        assert_eq!(received_uri(false, "[::1]:8787", "/").as_deref(), Some("http://[::1]:8787/"));
        for wrong in ["", "a b", "user@host", "host:", "host:123456", "[::1", "host/path"] {
            assert_eq!(received_uri(false, wrong, "/"), None, "{wrong}");
        }
    }
}
