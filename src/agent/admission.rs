//! Who may use the agent: programs on this machine, and no web page.
//!
//! The agent signs for whoever reaches it. A browser reaches it too, for any page that it shows: by a name that is
//! made to resolve to 127.0.0.1 (DNS rebinding; seen in `Host`) or from afar (seen in `Origin` and `Sec-Fetch-Site`).

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method, Uri};

use super::client::{address, is_loopback_host};
use super::refusal::Refusal;

/// By which names the agent may be called.
#[derive(Debug, Clone, Default)]
pub(super) struct Admission {
    /// Whether any IP address will do, not a loopback one only. A name that is rebound is never an address.
    pub(super) any_address: bool,
    /// Further names, lower-case.
    pub(super) hosts: Vec<String>,
}

impl Admission {
    /// Whether a request may pass.
    pub(super) fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        self.host(uri, headers)?;
        origin(headers)
    }

    /// `Host`, and the authority of HTTP/2 or of an absolute target: each that is there must be ours, and one must be.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        let given = headers.get_all(HOST).iter().map(http::HeaderValue::as_bytes).chain(authority);
        let mut count = 0;
        for host in given {
            count += 1;
            let host: http::uri::Authority = host.try_into().map_err(|_| Refusal::Host)?;
            if host.as_str().contains('@') || !self.is_ours(host.host()) {
                return Err(Refusal::Host);
            }
        }
        if count == 0 { Err(Refusal::Host) } else { Ok(()) }
    }

    fn is_ours(&self, host: &str) -> bool {
        is_loopback_host(host)
            || (self.any_address && address(host).is_some())
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }
}

/// A page of this machine may ask. `Origin: null` is refused: any page can have it, from a sandboxed frame.
fn origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut origins = headers.get_all(ORIGIN).iter().peekable();
    if origins.peek().is_none() {
        // Browsers leave `Origin` out where a page loads an image or follows a link, and say this instead.
        let from_afar = headers.get_all("sec-fetch-site").iter().any(|site| site == "cross-site");
        return if from_afar { Err(Refusal::Origin) } else { Ok(()) };
    }
    for origin in origins {
        let url = origin.to_str().ok().and_then(|text| url::Url::parse(text).ok()).ok_or(Refusal::Origin)?;
        if !url.host_str().is_some_and(is_loopback_host) {
            return Err(Refusal::Origin);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(admission: &Admission, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        admission.admit(&Method::GET, &Uri::from_static("/x"), &headers)
    }

    #[test]
    fn hosts_of_this_machine_pass_and_others_do_not() {
        let ours = Admission::default();
        for host in ["localhost", "127.0.0.1:38200", "[::1]:38200", "LocalHost:1"] {
            assert!(admit(&ours, &[("host", host)]).is_ok(), "{host}");
        }
        for host in ["evil.example", "10.0.0.1:38200", "127.0.0.1.evil.example", "u@localhost", "", "a b"] {
            assert!(matches!(admit(&ours, &[("host", host)]), Err(Refusal::Host)), "{host}");
        }
        assert!(matches!(admit(&ours, &[]), Err(Refusal::Host)));
        assert!(matches!(
            admit(&ours, &[("host", "localhost"), ("host", "evil.example")]),
            Err(Refusal::Host)
        ));
    }

    #[test]
    fn remote_agent_answers_to_addresses_and_to_names_given() {
        let remote = Admission { any_address: true, hosts: vec!["agent".into()] };
        assert!(admit(&remote, &[("host", "10.0.0.1:38200")]).is_ok());
        assert!(admit(&remote, &[("host", "Agent:38200")]).is_ok());
        assert!(admit(&remote, &[("host", "evil.example")]).is_err());
    }

    #[test]
    fn web_pages_of_others_are_refused() {
        let ours = Admission::default();
        for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://", "x"] {
            assert!(
                matches!(admit(&ours, &[("host", "localhost"), ("origin", origin)]), Err(Refusal::Origin)),
                "{origin}"
            );
        }
        assert!(admit(&ours, &[("host", "localhost"), ("origin", "http://localhost:3000")]).is_ok());
        assert!(admit(&ours, &[("host", "localhost"), ("sec-fetch-site", "cross-site")]).is_err());
        assert!(admit(&ours, &[("host", "localhost"), ("sec-fetch-site", "none")]).is_ok());
    }

    #[test]
    fn absolute_target_of_another_host_is_refused() {
        let headers = [("host".parse().unwrap(), "localhost".parse().unwrap())].into_iter().collect();
        let uri = Uri::from_static("http://evil.example/x");
        assert!(matches!(Admission::default().admit(&Method::GET, &uri, &headers), Err(Refusal::Host)));
    }
}
