//! Where a webhook may lead: to public addresses alone, unless the operator allows private ones. Asked when a webhook
//! is made, and again at each delivery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::protocol::embedded_v4;

/// Longer URLs are refused.
const MOST_URL_BYTES: usize = 2048;
/// Ends of names that lead into somebody's own network.
const INTERNAL_ENDS: [&str; 9] =
    ["localhost", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa"];

/// Why a webhook may not go there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TargetFault {
    /// No URL.
    #[error("url is not a URL ({0}); it must be like https://hooks.example.com/sigilum")]
    Form(url::ParseError),
    /// Too long.
    #[error("url has {0} bytes; it may have 2048")]
    Length(usize),
    /// Another scheme.
    #[error("url must begin with https://, not with {0}:")]
    Scheme(String),
    /// Without TLS.
    #[error(
        "url must begin with https://; http:// is for webhooks to private addresses alone, which are not allowed here"
    )]
    Plain,
    /// It names a user.
    #[error("url must not hold a user or a password; use auth_header and auth_value")]
    User,
    /// It has a fragment, which is never sent.
    #[error("url must not have a fragment")]
    Fragment,
    /// No host.
    #[error("url must name a host")]
    NoHost,
    /// A name of an internal network.
    #[error("{0} is a name of an internal network; a webhook must lead to a public address")]
    InternalName(String),
    /// A private address.
    #[error("{0} is not a public address; a webhook must lead to one")]
    PrivateAddress(IpAddr),
    /// A name with a private address. Which one is not told: it would let a caller map an internal network.
    #[error("{0} leads to an address that is not public; a webhook must lead to a public one")]
    LeadsToPrivate(String),
    /// A name without an address.
    #[error("{0} cannot be resolved")]
    Unresolved(String),
    /// A name that was not looked up: others were, all the time.
    #[error("{0} was not looked up: too many look-ups were under way")]
    NoTurn(String),
}

/// Reads the URL of a webhook, as far as its text alone tells. The URL parser has written addresses in odd forms
/// (decimal, octal, hexadecimal, full-width digits) as what they are by then.
pub(super) fn read(text: &str, private_allowed: bool) -> Result<Url, TargetFault> {
    if text.len() > MOST_URL_BYTES {
        return Err(TargetFault::Length(text.len()));
    }
    let url = Url::parse(text).map_err(TargetFault::Form)?;
    judge(&url, private_allowed)?;
    Ok(url)
}

/// Whether a webhook may go to this URL, as far as its text alone tells.
pub(super) fn judge(url: &Url, private_allowed: bool) -> Result<(), TargetFault> {
    match url.scheme() {
        "https" => {}
        "http" if private_allowed => {}
        "http" => return Err(TargetFault::Plain),
        other => return Err(TargetFault::Scheme(other.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetFault::User);
    }
    if url.fragment().is_some() {
        return Err(TargetFault::Fragment);
    }
    let host = url.host().ok_or(TargetFault::NoHost)?;
    if private_allowed {
        return Ok(());
    }
    match host {
        Host::Ipv4(address) => public(IpAddr::V4(address)),
        Host::Ipv6(address) => public(IpAddr::V6(address)),
        Host::Domain(name) if is_internal_name(name) => Err(TargetFault::InternalName(name.to_owned())),
        Host::Domain(_) => Ok(()),
    }
}

fn public(address: IpAddr) -> Result<(), TargetFault> {
    if is_public(address) { Ok(()) } else { Err(TargetFault::PrivateAddress(address)) }
}

/// A name without a dot is found by a search list, which is an internal network's.
fn is_internal_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let ends_in = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    !name.contains('.') || INTERNAL_ENDS.into_iter().any(|end| name == end || ends_in(end))
}

/// Whether an address belongs to the public Internet, by the IANA registries of special-purpose addresses (RFC 6890):
/// not private, shared (CGNAT), loopback, link-local, multicast, for documentation or benchmarks, reserved or
/// unspecified; and of an IPv6 address that leads to an IPv4 one, whether that one does. Compatible ones (`::/96`) are out of
/// use, and never public.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => embedded_v4(address).map_or_else(|| is_public_v6(address), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127, ..] | [224..=255, ..] => true,
        [100, b, ..] => b & 0xc0 == 64,
        [169, 254, ..] | [192, 168, ..] => true,
        [172, b, ..] => b & 0xf0 == 16,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] => true,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    };
    !special
}

/// Of IPv6 only 2000::/3 is in use, without what is set apart in it: IETF protocols (Teredo, benchmarks, ORCHID among
/// them) and documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let special = match a {
        0x2001 => b < 0x0200 || b == 0x0db8,
        0x3fff => b < 0x1000,
        _ => false,
    };
    a & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_known_in_every_form() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.255.255.254",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "１２７.０.０.１",
            "127。0。0。1",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "10.255.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "0xa9fea9fe",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::127.0.0.1]",
            "[::8.8.8.8]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2002:c0a8:0101::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[ff02::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:2::1]",
            "[2001:10::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[5f00::1]",
        ] {
            let found = read(&format!("https://{host}/hook"), false);
            assert!(matches!(found, Err(TargetFault::PrivateAddress(_))), "{host}: {found:?}");
            assert!(read(&format!("http://{host}/hook"), true).is_ok(), "{host}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass_on_any_port() {
        for host in [
            "8.8.8.8",
            "1.1.1.1:8443",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "[2606:4700::1111]:1",
            "[2001:4860:4860::8888]",
            "[::ffff:8.8.8.8]",
            "[64:ff9b::8.8.8.8]",
            "[2002:808:808::1]",
            "[3ffe::1]",
            "hooks.example.com",
            "hooks.example.com:65535",
            "localhost.example.com",
            "local.example",
            "internal.example.com",
            "notlocal.example",
            "xn--bcher-kva.example",
        ] {
            assert!(read(&format!("https://{host}/hook?a=b"), false).is_ok(), "{host}");
        }
    }

    #[test]
    fn names_of_internal_networks_are_refused() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "metadata",
            "metadata.google.internal",
            "instance-data.ec2.internal.",
            "printer.local",
            "Printer.LOCAL",
            "nas.lan",
            "box.home.arpa",
            "wiki.corp",
            "kubernetes",
            "a.intranet",
        ] {
            let found = read(&format!("https://{host}/hook"), false);
            assert!(matches!(found, Err(TargetFault::InternalName(_))), "{host}: {found:?}");
        }
    }

    #[test]
    fn urls_that_are_no_plain_https_urls_are_refused() {
        let long = format!("https://hooks.example.com/{}", "a".repeat(MOST_URL_BYTES));
        for (text, private, fault) in [
            ("http://hooks.example.com/", false, TargetFault::Plain),
            ("ftp://hooks.example.com/", true, TargetFault::Scheme("ftp".to_owned())),
            ("file:///etc/passwd", true, TargetFault::Scheme("file".to_owned())),
            ("javascript:alert(1)", true, TargetFault::Scheme("javascript".to_owned())),
            ("https://user@hooks.example.com/", true, TargetFault::User),
            ("https://:pass@hooks.example.com/", true, TargetFault::User),
            ("https://hooks.example.com/#top", true, TargetFault::Fragment),
            ("https://", true, TargetFault::Form(url::ParseError::EmptyHost)),
            ("hooks.example.com", true, TargetFault::Form(url::ParseError::RelativeUrlWithoutBase)),
            (long.as_str(), true, TargetFault::Length(long.len())),
        ] {
            assert_eq!(read(text, private).unwrap_err(), fault, "{text}");
        }
        // What comes before the @ is no host.
        assert_eq!(read("https://8.8.8.8@127.0.0.1/", false).unwrap_err(), TargetFault::User);
    }
}
