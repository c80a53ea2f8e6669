//! Where a connection's test goes: the name is resolved once, the addresses are judged, and exactly these are used.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::HeaderValue;
use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

use crate::connections::{BaseUrl, Connection, UpstreamTls, is_link_local};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// The first endpoint of a connection, and the addresses that its name has now.
#[derive(Debug)]
pub(super) struct Target {
    url: BaseUrl,
    tls: UpstreamTls,
    addresses: Vec<SocketAddr>,
}

impl Target {
    /// Resolves and judges. The error is a sentence.
    pub(super) async fn resolve(config: &Connection) -> Result<Self, String> {
        let url =
            config.endpoints.first().map(|endpoint| endpoint.url.clone()).ok_or("there is no endpoint")?;
        let found = tokio::net::lookup_host((url.host(), url.port())).await;
        let addresses: Vec<SocketAddr> =
            found.map_err(|cause| format!("the name {} cannot be resolved: {cause}", url.host()))?.collect();
        judge(&addresses, config.allow_link_local).map_err(|address| {
            format!("{} leads to {address}, a link-local or metadata address, which is not asked", url.host())
        })?;
        if addresses.is_empty() {
            return Err(format!("the name {} has no address", url.host()));
        }
        Ok(Self { url, tls: config.tls.clone(), addresses })
    }

    /// Scheme, host and port of what is asked. The host is the one that TLS verifies.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.url.is_https() { "https" } else { "http" };
        let host = self.verified();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("{scheme}://{host}:{}", self.url.port())
    }

    /// The upstream's own name.
    pub(super) fn host_header(&self) -> Result<HeaderValue, String> {
        HeaderValue::from_str(&self.url.authority())
            .map_err(|_| "the host cannot stand in a header".to_owned())
    }

    fn verified(&self) -> &str {
        self.tls.server_name.as_deref().filter(|_| self.url.is_https()).unwrap_or(self.url.host())
    }

    /// A client that knows the name by these addresses alone, follows nothing, and asks no proxy.
    pub(super) async fn client(&self) -> Result<Client, String> {
        // One that is already installed serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = ClientBuilder::new()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_WITHIN)
            .pool_max_idle_per_host(0)
            .resolve_to_addrs(self.verified(), &self.addresses);
        if self.url.is_https() {
            let tls = self.tls.clone();
            let read = tokio::task::spawn_blocking(move || files(&tls)).await;
            let (authorities, identity) = read.map_err(|_| "the gateway is stopping".to_owned())??;
            if let Some(authorities) = authorities {
                builder = builder.tls_certs_only(authorities);
            }
            if let Some(identity) = identity {
                builder = builder.identity(identity);
            }
        } else {
            // No TLS is spoken, so a system without CA certificates will do.
            builder = builder.tls_certs_only([]);
        }
        builder
            .build()
            .map_err(|_| "TLS cannot be set up; are the system's CA certificates there?".to_owned())
    }
}

type Files = (Option<Vec<Certificate>>, Option<Identity>);

/// The connection's own CAs, and its client certificate.
fn files(tls: &UpstreamTls) -> Result<Files, String> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|cause| format!("{} cannot be read: {}", path.display(), cause.kind()))
    };
    let authorities = match &tls.ca {
        None => None,
        Some(path) => {
            let found = Certificate::from_pem_bundle(&read(path)?);
            Some(found.map_err(|_| format!("{} holds no PEM certificate", path.display()))?)
        }
    };
    let identity = match &tls.client_cert {
        None => None,
        Some((chain, key)) => {
            let pem = [read(chain)?, b"\n".to_vec(), read(key)?].concat();
            Some(
                Identity::from_pem(&pem)
                    .map_err(|_| format!("{} is no client certificate", chain.display()))?,
            )
        }
    };
    Ok((authorities, identity))
}

/// One bad address is enough: a name that has it among others is not to be trusted with a choice.
fn judge(addresses: &[SocketAddr], link_local_allowed: bool) -> Result<(), IpAddr> {
    let bad = addresses.iter().map(SocketAddr::ip).find(|address| is_link_local(*address));
    bad.filter(|_| !link_local_allowed).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_one_metadata_address_among_others_is_refused() {
        let addresses = ["203.0.113.9:443".parse().unwrap(), "169.254.169.254:443".parse().unwrap()];
        assert!(judge(&addresses, false).is_err());
        assert!(judge(&addresses, true).is_ok());
        assert!(judge(&addresses[..1], false).is_ok());
    }
}
