//! The HTTP client that sends what was signed.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, redirect};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Below the 50 s and more that servers keep an unused connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(40);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientFault {
    /// The CA file holds no PEM certificate.
    #[error("the CA file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    Ca,
    /// TLS cannot be set up, such as on a system without CA certificates.
    #[error(
        "TLS cannot be set up: {0}; install the system's CA certificates, or name a CA file with --cacert"
    )]
    Tls(String),
}

/// A client for the origin of `url`. It follows no redirect, because a redirect needs a signature of its own; it
/// trusts the CAs in `ca_pem` alone where given, else the system's. A loopback origin is never asked for through a
/// proxy of the environment. `upgrades`: HTTP/1.1 alone, the version in which a connection can be upgraded.
///
/// # Errors
/// When the CAs cannot be read, or TLS cannot be set up.
pub fn client(url: &Url, ca_pem: Option<&[u8]>, upgrades: bool) -> Result<Client, ClientFault> {
    // One that is already installed serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = ClientBuilder::new()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true);
    if let Some(pem) = ca_pem {
        let roots = Certificate::from_pem_bundle(pem).map_err(|_| ClientFault::Ca)?;
        if roots.is_empty() {
            return Err(ClientFault::Ca);
        }
        builder = builder.tls_certs_only(roots);
    } else if url.scheme() == "http" {
        // No TLS is spoken, so a system without CA certificates will do.
        builder = builder.tls_certs_only([]);
    }
    if url.host_str().is_some_and(is_loopback_host) {
        builder = builder.no_proxy();
    }
    if upgrades {
        builder = builder.http1_only();
    }
    builder.build().map_err(|error| ClientFault::Tls(root_cause(&error)))
}

/// Whether `host` (an IPv6 address with or without brackets) can only be this machine: `localhost` or a loopback address.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.is_loopback())
}

/// The address that `host` is, where it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// The innermost cause of `error`, which says what happened without the address it happened at.
#[must_use]
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_name_and_address() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "0.0.0.0"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn ca_file_without_a_certificate_is_refused() {
        let url = "https://localhost/".parse().unwrap();
        assert!(matches!(client(&url, Some(b"no certificate"), false), Err(ClientFault::Ca)));
    }
}
