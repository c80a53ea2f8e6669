//! The fields of a connection that YAML and API share: what each takes.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use http::{HeaderName, HeaderValue};

use crate::protocol::embedded_v4;

/// A text that a field does not take; the sentence never repeats it, since it may be a secret in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("takes {takes}")]
pub struct FieldFault {
    /// What it takes.
    pub takes: &'static str,
}

const fn takes(takes: &'static str) -> FieldFault {
    FieldFault { takes }
}

/// A name for people: 1 to 128 printable characters.
///
/// # Errors
/// For another text.
pub fn display_name(text: &str) -> Result<String, FieldFault> {
    const LONGEST: usize = 128;
    let fits =
        !text.trim().is_empty() && text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(takes("a name of 1 to 128 printable characters")) }
}

/// A path prefix, without a slash at its end: empty, or `/…` with no dot segment, plain or percent-encoded.
///
/// # Errors
/// For another text.
pub fn path_prefix(text: &str) -> Result<String, FieldFault> {
    let path = text.trim_end_matches('/');
    if path.is_empty() {
        return Ok(String::new());
    }
    if !path.starts_with('/') || path.contains("//") || !path.chars().all(is_path_char) {
        return Err(takes("a path such as /v1"));
    }
    if path.split('/').any(is_dots) {
        return Err(takes("a path such as /v1 without . and .. in it"));
    }
    Ok(path.to_owned())
}

fn is_path_char(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '"' | '<' | '>' | '`' | '{' | '}')
}

fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The name of a header that may carry a secret.
///
/// # Errors
/// When it is no header's name, or the header steers the exchange itself.
pub fn header_name(text: &str) -> Result<HeaderName, FieldFault> {
    let name =
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| takes("a header's name such as X-Api-Key"))?;
    if is_reserved(&name) {
        return Err(takes("a header that does not steer the exchange itself, such as X-Api-Key"));
    }
    Ok(name)
}

/// Headers that the proxy itself sets or that steer the connection: a secret in one would break the exchange.
fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 15] = [
        "connection",
        "content-digest",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    let name = name.as_str();
    RESERVED.contains(&name) || name.starts_with("sigilum-") || name.starts_with("signature")
}

/// What stands before a secret in a header's value.
///
/// # Errors
/// For another text.
pub fn header_prefix(text: &str) -> Result<String, FieldFault> {
    let printable =
        HeaderValue::from_str(text).is_ok() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if printable && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err(takes("up to 64 printable ASCII characters, such as \"Token \""))
    }
}

/// The name of a query parameter.
///
/// # Errors
/// For another text.
pub fn query_param(text: &str) -> Result<String, FieldFault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if (1..=128).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(takes("a query parameter's name such as api_key (letters, digits, - . _ ~)"))
    }
}

/// The user of basic authentication. RFC 7617: it has no colon, which ends it.
///
/// # Errors
/// For another text.
pub fn basic_user(text: &str) -> Result<String, FieldFault> {
    let plain = !text.is_empty() && !text.contains(':') && !text.chars().any(char::is_control);
    if plain {
        Ok(text.to_owned())
    } else {
        Err(takes("a user's name without a colon and control characters"))
    }
}

/// A part of a path with the place of the secret in it: `/bot{secret}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    before: String,
    after: String,
}

const SECRET: &str = "{secret}";

impl PathTemplate {
    /// What stands before the secret.
    #[must_use]
    pub fn before(&self) -> &str {
        &self.before
    }

    /// What stands after it.
    #[must_use]
    pub fn after(&self) -> &str {
        &self.after
    }
}

impl FromStr for PathTemplate {
    type Err = FieldFault;

    /// A text without `{secret}` has it at its end.
    fn from_str(text: &str) -> Result<Self, FieldFault> {
        let (before, after) = text.split_once(SECRET).unwrap_or((text, ""));
        // As if the secret were a letter: the path that comes of it must be one.
        let fits = path_prefix(&format!("{before}s{after}")).is_ok_and(|path| !path.is_empty());
        if fits && text.len() <= 256 && !after.ends_with('/') {
            Ok(Self { before: before.to_owned(), after: after.to_owned() })
        } else {
            Err(takes("a path with {secret} once in it, such as /bot{secret}"))
        }
    }
}

impl std::fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{SECRET}{}", self.before, self.after)
    }
}

/// Whether an address is link-local, or one at which a cloud keeps its metadata: 169.254.0.0/16 and fe80::/10, also
/// inside an IPv6 address, and the addresses of Alibaba's (100.100.100.200), AWS's (fd00:ec2::/32) and Oracle's
/// (192.0.0.192) services.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_link_local_v4(address),
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            // Of the compatible ones (`::/96`) too, which are out of use.
            let embedded = embedded_v4(address).or_else(|| address.to_ipv4()).is_some_and(is_link_local_v4);
            a & 0xffc0 == 0xfe80 || (a, b) == (0xfd00, 0x0ec2) || embedded
        }
    }
}

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    const METADATA: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    address.is_link_local() || METADATA.contains(&address)
}

/// The same of a host: an address, or a name that clouds give their metadata.
pub(super) fn is_link_local_host(host: &str) -> bool {
    const NAMES: [&str; 4] = ["metadata", "metadata.google.internal", "metadata.goog", "instance-data"];
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let named = NAMES.contains(&host.as_str()) || host == "instance-data.ec2.internal";
    named || host.parse().is_ok_and(is_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_prefix_is_normalised_and_never_leads_upwards() {
        for (text, prefix) in
            [("", ""), ("/", ""), ("/v1", "/v1"), ("/v1/", "/v1"), ("/a/b.c/..d", "/a/b.c/..d")]
        {
            assert_eq!(path_prefix(text).as_deref(), Ok(prefix), "{text:?}");
        }
        for wrong in [
            "v1",
            "/..",
            "/a/../b",
            "/a/%2e%2E",
            "/a/.%2e/b",
            "/.",
            "//a",
            "/a//b",
            "/a b",
            "/a\tb",
            "/a\r\nb",
            "/ü",
            "/a?b",
            "/a#b",
            "/a\\b",
        ] {
            assert!(path_prefix(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn header_that_steers_the_exchange_is_refused() {
        for wrong in [
            "Host",
            "Content-Length",
            "connection",
            "Transfer-Encoding",
            "TE",
            "Upgrade",
            "Signature",
            "signature-input",
            "Sigilum-Subject",
            "content-digest",
            "",
            "a b",
            "a:b",
            "x\r\ny",
        ] {
            assert!(header_name(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(header_name("X-Api-Key").unwrap().as_str(), "x-api-key");
    }

    #[test]
    fn prefix_with_a_control_character_is_refused() {
        for wrong in ["a\r\nb", "a\tb", "\u{7f}", "ü", &"a".repeat(65)] {
            assert!(header_prefix(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(header_prefix("").as_deref(), Ok(""));
    }

    #[test]
    fn template_has_the_secret_once_and_never_leads_upwards() {
        for (text, shown) in
            [("/bot", "/bot{secret}"), ("/bot{secret}", "/bot{secret}"), ("/{secret}/v1", "/{secret}/v1")]
        {
            assert_eq!(text.parse::<PathTemplate>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "bot{secret}",
            "/a/../{secret}",
            "/{secret}{secret}",
            "/{secret}/",
            "/{secret}/..",
            "/a?{secret}",
            "//{secret}",
        ] {
            assert!(wrong.parse::<PathTemplate>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn metadata_is_recognised_in_every_writing() {
        for host in [
            "169.254.169.254",
            "169.254.170.2",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::a9fe:a9fe",
            "100.100.100.200",
            "metadata.google.internal",
            "METADATA.google.internal.",
        ] {
            assert!(is_link_local_host(host), "{host}");
        }
        for host in
            ["127.0.0.1", "10.0.0.1", "::1", "169.253.1.1", "fd00::1", "fec0::1", "metadata.example.com"]
        {
            assert!(!is_link_local_host(host), "{host}");
        }
    }
}
