//! Who is let in: callers on this machine, callers with the token; never a browser's foreign page.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::refusal::Refusal;
use super::{Access, AdminSettings};
use crate::secret::SecretString;

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-sigilum-admin-token");
/// Headers that a proxy adds. A proxy on this machine speaks for callers that need not be on it.
const FORWARDING: [HeaderName; 4] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    header::VIA,
];

/// What a browser says of how the page that asks and we belong together (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a caller is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is on this machine.
    Loopback,
    /// It has the token.
    Token,
    /// It is the bridge of a pairing, in this process.
    Pairing,
}

impl Way {
    /// The word for the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Token => "token",
            Self::Pairing => "pairing",
        }
    }
}

/// The rules of admission.
#[derive(Debug)]
pub(super) struct Guard {
    access: Access,
    token: Option<TokenDigest>,
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Guard {
    /// The rules of `settings`, with the token that its source holds. Only a digest of it is kept.
    pub(super) fn new(settings: &AdminSettings, token: Option<&SecretString>) -> Self {
        Self {
            access: settings.access,
            token: token.map(|token| TokenDigest::of(token.expose().as_bytes())),
            origins: settings.allowed_origins.clone(),
            hosts: settings.allowed_hosts.clone(),
        }
    }

    /// Whether the request of this head, from `peer`, is let in.
    ///
    /// Origin and host come first, since a browser on this machine reaches loopback for any page that it shows.
    pub(super) fn admit(&self, head: &Parts, peer: IpAddr) -> Result<Way, Refusal> {
        if !self.origin_allowed(&head.headers) || !self.host_allowed(head) {
            return Err(Refusal::OriginForbidden);
        }
        let near = peer.to_canonical().is_loopback()
            && !FORWARDING.iter().any(|name| head.headers.contains_key(name));
        match self.access {
            Access::Loopback if near => Ok(Way::Loopback),
            Access::Loopback => Err(Refusal::LoopbackRequired),
            Access::Token => match &self.token {
                None => Err(Refusal::TokenNotConfigured),
                Some(token) if token.sent_in(&head.headers) => Ok(Way::Token),
                Some(_) => Err(Refusal::TokenRequired),
            },
            Access::Hybrid if near => Ok(Way::Loopback),
            Access::Hybrid => match &self.token {
                Some(token) if token.sent_in(&head.headers) => Ok(Way::Token),
                _ => Err(Refusal::TokenOrLoopbackRequired),
            },
        }
    }

    /// A page asks by its own address bar, from our own origin, or from an origin that is allowed. Pictures and links
    /// have no `Origin`; a browser tells of them in `Sec-Fetch-Site`.
    fn origin_allowed(&self, headers: &HeaderMap) -> bool {
        let named = headers.get_all(header::ORIGIN);
        let apart = headers
            .get_all(FETCH_SITE)
            .iter()
            .any(|site| !matches!(site.as_bytes(), b"none" | b"same-origin"));
        if apart && named.iter().next().is_none() {
            return false;
        }
        named.iter().all(|origin| {
            let origin = origin.as_bytes();
            self.origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
        })
    }

    /// Every host that the request names, in its target or in `Host`, is allowed, and there is one.
    fn host_allowed(&self, head: &Parts) -> bool {
        let target = head.uri.authority().map(|authority| authority.as_str().as_bytes());
        let mut named = target
            .into_iter()
            .chain(head.headers.get_all(header::HOST).iter().map(|host| host.as_bytes()))
            .peekable();
        named.peek().is_some() && named.all(|host| self.is_ours(host))
    }

    fn is_ours(&self, host: &[u8]) -> bool {
        let Ok(authority) = Authority::try_from(host) else { return false };
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback())
            || self.hosts.iter().any(|allowed| {
                allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(authority.as_str())
            })
    }
}

/// SHA-256 of the token: digests have one length, so that comparing them tells nothing of the token's.
#[derive(Debug)]
struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether the request carries the token, compared in constant time.
    fn sent_in(&self, headers: &HeaderMap) -> bool {
        let own = headers.get(TOKEN_HEADER).map(|value| value.as_bytes());
        let sent = own.or_else(|| bearer(headers.get(header::AUTHORIZATION)?.as_bytes()));
        sent.is_some_and(|sent| bool::from(Self::of(sent).0.ct_eq(&self.0)))
    }
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const NEAR: &str = "127.0.0.1";
    const FAR: &str = "203.0.113.9";

    fn guard(access: Access, token: Option<&str>) -> Guard {
        let settings = AdminSettings {
            access,
            allowed_origins: vec!["https://ops.example".into()],
            allowed_hosts: vec!["admin.example".into(), "10.0.0.5:38101".into()],
            ..AdminSettings::default()
        };
        Guard::new(&settings, token.map(|token| SecretString::new(token.into()).unwrap()).as_ref())
    }

    fn admit(guard: &Guard, peer: &str, headers: &[(&str, &str)]) -> Result<Way, Refusal> {
        let mut request = Request::get("/metrics");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:38101");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(()).unwrap().into_parts().0, peer.parse().unwrap())
    }

    const GOOD: (&str, &str) = ("x-sigilum-admin-token", "canary");

    #[test]
    fn loopback_mode_lets_in_this_machine_only() {
        let guard = guard(Access::Loopback, Some("canary"));
        for near in [NEAR, "::1", "::ffff:127.0.0.1"] {
            assert_eq!(admit(&guard, near, &[]), Ok(Way::Loopback));
        }
        assert_eq!(admit(&guard, FAR, &[GOOD]), Err(Refusal::LoopbackRequired));
    }

    #[test]
    fn token_mode_lets_in_the_token_only() {
        let strict = guard(Access::Token, Some("canary"));
        assert_eq!(admit(&strict, FAR, &[GOOD]), Ok(Way::Token));
        assert_eq!(admit(&strict, FAR, &[("authorization", "bearer canary")]), Ok(Way::Token));
        for wrong in ["", "canar", "canaryy", "Canary"] {
            assert_eq!(admit(&strict, NEAR, &[(GOOD.0, wrong)]), Err(Refusal::TokenRequired));
        }
        assert_eq!(admit(&strict, NEAR, &[("authorization", "Basic canary")]), Err(Refusal::TokenRequired));
        assert_eq!(admit(&strict, NEAR, &[]), Err(Refusal::TokenRequired));
        let unset = guard(Access::Token, None);
        assert_eq!(admit(&unset, NEAR, &[(GOOD.0, "")]), Err(Refusal::TokenNotConfigured));
    }

    #[test]
    fn hybrid_mode_lets_in_either() {
        let either = guard(Access::Hybrid, Some("canary"));
        assert_eq!(admit(&either, NEAR, &[]), Ok(Way::Loopback));
        assert_eq!(admit(&either, FAR, &[GOOD]), Ok(Way::Token));
        assert_eq!(admit(&either, FAR, &[(GOOD.0, "wrong")]), Err(Refusal::TokenOrLoopbackRequired));
        let unset = guard(Access::Hybrid, None);
        assert_eq!(admit(&unset, FAR, &[(GOOD.0, "")]), Err(Refusal::TokenOrLoopbackRequired));
    }

    #[test]
    fn proxy_on_this_machine_does_not_make_its_callers_local() {
        let guard = guard(Access::Hybrid, Some("canary"));
        for header in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
            assert_eq!(admit(&guard, NEAR, &[(header, "1.2.3.4")]), Err(Refusal::TokenOrLoopbackRequired));
        }
    }

    #[test]
    fn page_of_a_foreign_origin_is_refused_even_with_the_token() {
        let guard = guard(Access::Hybrid, Some("canary"));
        for origin in ["https://evil.example", "null", "http://localhost:38101", "https://ops.example.evil"] {
            assert_eq!(admit(&guard, NEAR, &[("origin", origin), GOOD]), Err(Refusal::OriginForbidden));
        }
        assert_eq!(admit(&guard, NEAR, &[("origin", "https://ops.example")]), Ok(Way::Loopback));
    }

    #[test]
    fn picture_and_link_of_a_foreign_page_are_refused() {
        let guard = guard(Access::Hybrid, None);
        for site in ["cross-site", "same-site", "odd"] {
            assert_eq!(admit(&guard, NEAR, &[("sec-fetch-site", site)]), Err(Refusal::OriginForbidden));
        }
        for site in ["none", "same-origin"] {
            assert_eq!(admit(&guard, NEAR, &[("sec-fetch-site", site)]), Ok(Way::Loopback));
        }
        let allowed = [("sec-fetch-site", "cross-site"), ("origin", "https://ops.example")];
        assert_eq!(admit(&guard, NEAR, &allowed), Ok(Way::Loopback));
    }

    #[test]
    fn host_name_that_is_not_ours_is_refused() {
        let guard = guard(Access::Hybrid, None);
        for host in ["localhost", "127.0.0.1:38101", "[::1]:38101", "Admin.Example:9", "10.0.0.5:38101"] {
            assert_eq!(admit(&guard, NEAR, &[("host", host)]), Ok(Way::Loopback), "{host}");
        }
        let rebound =
            ["evil.example", "evil.example:38101", "localhost.evil.example", "10.0.0.5", "10.0.0.5:1", ""];
        for host in rebound {
            assert_eq!(admit(&guard, NEAR, &[("host", host)]), Err(Refusal::OriginForbidden), "{host}");
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(admit(&guard, NEAR, &two), Err(Refusal::OriginForbidden));
    }
}
