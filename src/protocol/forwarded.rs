//! Where a request came from and what it asked for, as its `Host` and the proxies on its way say.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderMap;

/// What the nearest proxy says of a request: the last element of `Forwarded` (RFC 7239), else of `X-Forwarded-*`. It is
/// to be believed only of a proxy that is trusted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The scheme that the client used.
    pub proto: Option<Cow<'a, str>>,
    /// The host, and the port where there was one, that the client asked.
    pub host: Option<Cow<'a, str>>,
}

impl<'a> Forwarded<'a> {
    /// Reads the headers.
    #[must_use]
    pub fn nearest(headers: &'a HeaderMap) -> Self {
        let Some(element) = last(headers, "forwarded") else {
            return Self {
                proto: last(headers, "x-forwarded-proto").map(Cow::from),
                host: last(headers, "x-forwarded-host").map(Cow::from),
            };
        };
        Self { proto: parameter(element, "proto"), host: parameter(element, "host") }
    }
}

/// The client's address, seen from `peer`: from the nearest proxy back, the first address that is not `trusted`. What
/// lies behind that one is its own word, and not looked at.
#[must_use]
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let named = if headers.contains_key("forwarded") {
        elements(headers, "forwarded").map(|element| parameter(element, "for")).collect()
    } else {
        elements(headers, "x-forwarded-for").map(|text| Some(Cow::from(text))).collect::<Vec<_>>()
    };
    let mut nearest = peer;
    for said in named.into_iter().rev() {
        if !trusted(nearest) {
            break;
        }
        let Some(address) = said.as_deref().and_then(node) else { break };
        nearest = address;
    }
    nearest
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

fn parameter<'a>(element: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    element.split(';').filter_map(|pair| pair.trim().split_once('=')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case(wanted).then(|| Cow::from(value.trim_matches('"')))
    })
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

    #[test]
    fn nearest_proxy_is_believed() {
        let mut headers =
            headers(&[("x-forwarded-host", "evil.example, api.example"), ("x-forwarded-proto", "https")]);
        assert_eq!(
            Forwarded::nearest(&headers),
            Forwarded { proto: Some("https".into()), host: Some("api.example".into()) }
        );
        let line = "for=1.2.3.4;host=a, for=2;host=\"b.example:8443\";proto=http";
        headers.append("forwarded", line.parse().unwrap());
        assert_eq!(
            Forwarded::nearest(&headers),
            Forwarded { proto: Some("http".into()), host: Some("b.example:8443".into()) }
        );
    }

    #[test]
    fn client_is_the_first_that_is_not_trusted_from_the_nearest_on() {
        let near: IpAddr = "10.0.0.1".parse().unwrap();
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let client = |lines: &[(&'static str, &'static str)]| {
            client_address(&headers(lines), near, trusted).to_string()
        };
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.2")]), "203.0.113.9");
        assert_eq!(client(&[("x-forwarded-for", "203.0.113.9, nonsense")]), "10.0.0.1");
        assert_eq!(
            client(&[("forwarded", "for=\"[2001:db8::1]:4711\""), ("forwarded", "for=10.2.3.4:80")]),
            "2001:db8::1"
        );
        let stranger = "198.51.100.7".parse().unwrap();
        let said = headers(&[("x-forwarded-for", "127.0.0.1")]);
        assert_eq!(client_address(&said, stranger, trusted), stranger);
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
