//! Names of endpoints, resolved again and again.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::HeaderValue;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::{Backend, Extensions};

use crate::connections::{BaseUrl, Connection, Endpoint, is_link_local};

/// An address that took no connection is passed over for so long, where there is another.
const SHUNNED_FOR: Duration = Duration::from_secs(5);

/// What an attempt needs to know of its endpoint besides the address.
#[derive(Debug)]
pub(super) struct EndpointFacts {
    /// The `Host` header.
    pub(super) authority: HeaderValue,
    pub(super) server_name: Arc<str>,
    shunned_until: Mutex<Option<Instant>>,
}

impl EndpointFacts {
    /// It took no connection: others come first for a while, so that retries are not spent on it.
    pub(super) fn shun(&self, now: Instant) {
        *self.shunned_until.lock().unwrap_or_else(PoisonError::into_inner) = now.checked_add(SHUNNED_FOR);
    }

    pub(super) fn is_shunned(&self, now: Instant) -> bool {
        self.shunned_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

/// Resolves names; a name that fails keeps the addresses it had.
pub(super) struct Resolver {
    endpoints: Vec<Resolvable>,
    known: Mutex<HashMap<usize, Vec<SocketAddr>>>,
    /// Whether a name may lead to this machine's own link, where clouds keep their credentials.
    link_local: bool,
}

struct Resolvable {
    host: String,
    port: u16,
    weight: usize,
    literal: Option<SocketAddr>,
    authority: HeaderValue,
    server_name: Arc<str>,
}

impl Resolver {
    pub(super) fn new(connection: &Connection) -> Self {
        let name = connection.tls.server_name.as_deref();
        let endpoints =
            connection.endpoints.iter().filter_map(|endpoint| Resolvable::new(endpoint, name)).collect();
        Self { endpoints, known: Mutex::default(), link_local: connection.allow_link_local }
    }

    /// Whether a name is among the endpoints, which can change its addresses.
    pub(super) fn has_names(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.literal.is_none())
    }

    fn remembered(&self, index: usize, fresh: Option<Vec<SocketAddr>>) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match fresh {
            Some(fresh) => {
                known.insert(index, fresh.clone());
                fresh
            }
            None => known.get(&index).cloned().unwrap_or_default(),
        }
    }
}

impl Resolvable {
    fn new(endpoint: &Endpoint, configured_name: Option<&str>) -> Option<Self> {
        let url = &endpoint.url;
        Some(Self {
            host: url.host().to_owned(),
            port: url.port(),
            weight: usize::from(endpoint.weight.max(1)),
            literal: url.host().parse().ok().map(|ip| SocketAddr::new(ip, url.port())),
            authority: HeaderValue::try_from(url.authority()).ok()?,
            server_name: server_name(url, configured_name).into(),
        })
    }

    /// The balancer keeps them as long as the addresses stay the same.
    fn facts(&self) -> Arc<EndpointFacts> {
        Arc::new(EndpointFacts {
            authority: self.authority.clone(),
            server_name: Arc::clone(&self.server_name),
            shunned_until: Mutex::default(),
        })
    }

    async fn addresses(&self, link_local: bool) -> Option<Vec<SocketAddr>> {
        if let Some(address) = self.literal {
            return Some(vec![address]);
        }
        let allowed = |address: &SocketAddr| link_local || !is_link_local(address.ip());
        let found: Vec<SocketAddr> =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await.ok()?.filter(allowed).collect();
        // Where both families are offered, IPv4 alone: a machine without IPv6 routes is common.
        let v4: Vec<SocketAddr> = found.iter().copied().filter(SocketAddr::is_ipv4).collect();
        let chosen = if v4.is_empty() { found } else { v4 };
        (!chosen.is_empty()).then_some(chosen)
    }
}

#[async_trait]
impl ServiceDiscovery for Resolver {
    async fn discover(&self) -> pingora_core::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let fresh = endpoint.addresses(self.link_local).await;
            for address in self.remembered(index, fresh) {
                let mut ext = Extensions::new();
                ext.insert(endpoint.facts());
                backends.insert(Backend { addr: PeerAddr::Inet(address), weight: endpoint.weight, ext });
            }
        }
        Ok((backends, HashMap::new()))
    }
}

/// The name to verify an endpoint's certificate by.
pub(super) fn server_name(url: &BaseUrl, configured: Option<&str>) -> String {
    // Never empty: Pingora would not verify the certificate then.
    configured.filter(|name| !name.is_empty()).unwrap_or(url.host()).to_owned()
}
