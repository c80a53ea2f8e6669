//! Where a connection leads: endpoints resolved and probed in the background, one chosen for each attempt.

use std::collections::{BTreeSet, HashMap, hash_map::DefaultHasher};
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use pingora_core::protocols::ALPN;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::tls::CaType;
use pingora_core::server::ShutdownWatch;
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions, Scheme};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::HttpHealthCheck;
use pingora_load_balancing::selection::{Consistent, RoundRobin};
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::connections::{BaseUrl, Connection, Endpoint, HealthCheck, LoadBalancing, Retries};

/// How often names are resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// For one resolution.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// Streams on one HTTP/2 connection to an upstream.
const H2_STREAMS: usize = 100;
/// Endpoints looked at for one choice.
const CHOICES: usize = 256;

/// A PEM file of a connection that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct UpstreamFileFault {
    path: PathBuf,
    what: &'static str,
}

/// The endpoints of one connection.
pub(super) struct Upstream {
    balancer: Balancer,
    base_path: String,
    https: bool,
    group_key: u64,
    options: PeerOptions,
    client_cert: Option<Arc<CertKey>>,
    retries: RetryBudget,
    /// Names need resolving again and again, addresses once.
    named: bool,
    probed: bool,
}

enum Balancer {
    RoundRobin(LoadBalancer<RoundRobin>),
    Consistent(LoadBalancer<Consistent>),
}

/// What an attempt needs to know of its endpoint besides the address.
#[derive(Debug)]
pub(super) struct EndpointFacts {
    /// The `Host` header.
    pub(super) authority: HeaderValue,
    server_name: String,
}

/// An endpoint chosen for one attempt.
pub(super) struct Choice {
    pub(super) peer: Box<HttpPeer>,
    pub(super) facts: Arc<EndpointFacts>,
}

impl Upstream {
    pub(super) fn new(config: &Connection) -> Result<Self, UpstreamFileFault> {
        let first = config.endpoints.first().map(|endpoint| &endpoint.url);
        let https = first.is_some_and(BaseUrl::is_https);
        let mut options = PeerOptions::new();
        options.connection_timeout = Some(config.timeouts.connect);
        options.total_connection_timeout = Some(config.timeouts.connect);
        options.read_timeout = Some(config.timeouts.read);
        options.write_timeout = Some(config.timeouts.read);
        options.idle_timeout = Some(config.timeouts.idle);
        options.alpn = if https { ALPN::H2H1 } else { ALPN::H1 };
        options.max_h2_streams = H2_STREAMS;
        options.ca = config.tls.ca.as_ref().map(authorities).transpose()?;
        let client_cert = config.tls.client_cert.as_ref().map(client_certificate).transpose()?;
        let resolver = Resolver::new(&config.endpoints, config.tls.server_name.as_deref());
        let named = resolver.endpoints.iter().any(|endpoint| endpoint.literal.is_none());
        let mut backends = Backends::new(Box::new(resolver));
        if let (Some(check), Some(first)) = (&config.health_check, first) {
            backends.set_health_check(Box::new(probe(check, first, config, &options)));
        }
        let interval = config.health_check.as_ref().map(|check| check.interval);
        let balancer = match config.load_balancing {
            LoadBalancing::RoundRobin => Balancer::RoundRobin(balancer(backends, named, interval)),
            LoadBalancing::Consistent => Balancer::Consistent(balancer(backends, named, interval)),
        };
        Ok(Self {
            balancer,
            base_path: first.map_or_else(String::new, |url| url.path().to_owned()),
            https,
            group_key: group_key(config),
            options,
            client_cert,
            retries: RetryBudget::new(config.retries),
            named,
            probed: interval.is_some(),
        })
    }

    /// The path of the base URL.
    pub(super) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Resolves the endpoints for the first time. What cannot be resolved is tried again in the background.
    pub(super) async fn resolve(&self) {
        let update = async {
            match &self.balancer {
                Balancer::RoundRobin(balancer) => balancer.update().await,
                Balancer::Consistent(balancer) => balancer.update().await,
            }
        };
        let _ = tokio::time::timeout(RESOLVE_WITHIN, update).await;
    }

    /// Resolves and probes until `shutdown`; returns at once where there is nothing to do.
    pub(super) async fn watch(&self, shutdown: ShutdownWatch) {
        if !self.named && !self.probed {
            return;
        }
        match &self.balancer {
            Balancer::RoundRobin(balancer) => balancer.run(shutdown, None).await,
            Balancer::Consistent(balancer) => balancer.run(shutdown, None).await,
        }
    }

    /// Chooses a healthy endpoint that is not `tried` where there is another. `key` decides for consistent balancing.
    pub(super) async fn choose(
        &self,
        key: &[u8],
        tried: Option<&EndpointFacts>,
        h1_only: bool,
    ) -> Option<Choice> {
        let backend = match self.select(key, tried) {
            Some(backend) => backend,
            // A name that could not be resolved when it was last tried.
            None if self.named && self.is_empty() => {
                self.resolve().await;
                self.select(key, tried)?
            }
            None => return None,
        };
        let facts = backend.ext.get::<Arc<EndpointFacts>>().cloned()?;
        let mut options = self.options.clone();
        if h1_only {
            options.alpn = ALPN::H1;
        }
        let peer = HttpPeer {
            _address: backend.addr,
            scheme: if self.https { Scheme::HTTPS } else { Scheme::HTTP },
            sni: if self.https { facts.server_name.clone() } else { String::new() },
            proxy: None,
            client_cert_key: self.client_cert.clone(),
            group_key: self.group_key,
            options,
        };
        Some(Choice { peer: Box::new(peer), facts })
    }

    fn select(&self, key: &[u8], tried: Option<&EndpointFacts>) -> Option<Backend> {
        let fresh = |backend: &Backend, healthy: bool| {
            let same = |tried: &EndpointFacts| {
                backend.ext.get::<Arc<EndpointFacts>>().is_some_and(|facts| std::ptr::eq(&**facts, tried))
            };
            healthy && !tried.is_some_and(same)
        };
        let choose = |accept: &dyn Fn(&Backend, bool) -> bool| match &self.balancer {
            Balancer::RoundRobin(balancer) => balancer.select_with(key, CHOICES, accept),
            Balancer::Consistent(balancer) => balancer.select_with(key, CHOICES, accept),
        };
        choose(&fresh).or_else(|| choose(&|_, healthy| healthy))
    }

    fn is_empty(&self) -> bool {
        match &self.balancer {
            Balancer::RoundRobin(balancer) => balancer.backends().get_backend().is_empty(),
            Balancer::Consistent(balancer) => balancer.backends().get_backend().is_empty(),
        }
    }

    pub(super) fn retries(&self) -> &RetryBudget {
        &self.retries
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("base_path", &self.base_path)
            .field("https", &self.https)
            .finish_non_exhaustive()
    }
}

fn balancer<S>(backends: Backends, named: bool, probe_every: Option<Duration>) -> LoadBalancer<S>
where
    S: pingora_load_balancing::selection::BackendSelection + 'static,
    S::Iter: pingora_load_balancing::selection::BackendIter,
{
    let mut balancer = LoadBalancer::from_backends(backends);
    balancer.update_frequency = named.then_some(RESOLVE_EVERY);
    balancer.health_check_frequency = probe_every;
    balancer.parallel_health_check = true;
    balancer
}

/// Upstream connections are shared within one connection alone: another owner's never carries its requests.
fn group_key(config: &Connection) -> u64 {
    let mut hasher = DefaultHasher::new();
    config.id.hash(&mut hasher);
    config.tls.hash(&mut hasher);
    hasher.finish()
}

fn probe(
    check: &HealthCheck,
    first: &BaseUrl,
    config: &Connection,
    options: &PeerOptions,
) -> HttpHealthCheck {
    let mut probe = HttpHealthCheck::new(&first.authority(), first.is_https());
    probe.consecutive_success = check.healthy;
    probe.consecutive_failure = check.unhealthy;
    probe.peer_template.sni =
        if first.is_https() { server_name(first, config.tls.server_name.as_deref()) } else { String::new() };
    probe.peer_template.options.ca = options.ca.clone();
    probe.reuse_connection = true;
    // The path was parsed by the configuration; one that is refused here leaves `/`.
    let _ = probe.req.set_raw_path(check.path.as_bytes());
    probe.validator = Some(Box::new(|head| {
        if head.status.is_success() {
            Ok(())
        } else {
            pingora_core::Error::e_explain(
                pingora_core::ErrorType::HTTPStatus(head.status.as_u16()),
                "health check",
            )
        }
    }));
    probe
}

fn server_name(url: &BaseUrl, configured: Option<&str>) -> String {
    // Never empty: Pingora would not verify the certificate then.
    configured.filter(|name| !name.is_empty()).unwrap_or(url.host()).to_owned()
}

/// Resolves names; a name that fails keeps the addresses it had.
struct Resolver {
    endpoints: Vec<Resolvable>,
    known: std::sync::Mutex<HashMap<usize, Vec<SocketAddr>>>,
}

struct Resolvable {
    host: String,
    port: u16,
    weight: usize,
    literal: Option<SocketAddr>,
    facts: Arc<EndpointFacts>,
}

impl Resolver {
    fn new(endpoints: &[Endpoint], configured_name: Option<&str>) -> Self {
        let endpoints =
            endpoints.iter().filter_map(|endpoint| Resolvable::new(endpoint, configured_name)).collect();
        Self { endpoints, known: std::sync::Mutex::default() }
    }

    fn remembered(&self, index: usize, fresh: Option<Vec<SocketAddr>>) -> Vec<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
        let facts = EndpointFacts {
            authority: HeaderValue::try_from(url.authority()).ok()?,
            server_name: server_name(url, configured_name),
        };
        Some(Self {
            host: url.host().to_owned(),
            port: url.port(),
            weight: usize::from(endpoint.weight.max(1)),
            literal: url.host().parse().ok().map(|ip| SocketAddr::new(ip, url.port())),
            facts: Arc::new(facts),
        })
    }

    async fn addresses(&self) -> Option<Vec<SocketAddr>> {
        if let Some(address) = self.literal {
            return Some(vec![address]);
        }
        let found: Vec<SocketAddr> =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await.ok()?.collect();
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
            let fresh = endpoint.addresses().await;
            for address in self.remembered(index, fresh) {
                let mut ext = Extensions::new();
                ext.insert(Arc::clone(&endpoint.facts));
                backends.insert(Backend { addr: PeerAddr::Inet(address), weight: endpoint.weight, ext });
            }
        }
        Ok((backends, HashMap::new()))
    }
}

fn authorities(path: &PathBuf) -> Result<Arc<CaType>, UpstreamFileFault> {
    let certificates = certificates(path)?;
    let wrapped: Vec<WrappedX509> =
        certificates.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect();
    Ok(Arc::from(wrapped))
}

/// The certificates of a PEM file in DER, each of them readable.
fn certificates(path: &PathBuf) -> Result<Vec<Vec<u8>>, UpstreamFileFault> {
    let fault = |what| UpstreamFileFault { path: path.clone(), what };
    let parsed: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let parsed = parsed.map_err(|_| fault("cannot be read as PEM certificates"))?;
    if parsed.is_empty() {
        return Err(fault("holds no PEM certificate"));
    }
    for der in &parsed {
        // Pingora's own parser panics at what it cannot read.
        let readable = std::panic::catch_unwind(|| WrappedX509::new(der.to_vec(), parse_x509)).is_ok();
        if !readable || rustls::server::ParsedCertificate::try_from(der).is_err() {
            return Err(fault("holds a certificate that cannot be parsed"));
        }
    }
    Ok(parsed.into_iter().map(|der| der.to_vec()).collect())
}

fn client_certificate((chain, key): &(PathBuf, PathBuf)) -> Result<Arc<CertKey>, UpstreamFileFault> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| UpstreamFileFault { path: key.clone(), what: "holds no PEM private key" })?;
    Ok(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
}

/// Keeps retries to a share of the requests, so that a failing upstream is not struck twice as hard.
#[derive(Debug)]
pub(super) struct RetryBudget {
    limits: Retries,
    requests: AtomicU64,
    retries: AtomicU64,
}

/// Retries that are always left, and the number of requests after which the past weighs half.
const BUDGET_FLOOR: u64 = 10;
const BUDGET_HORIZON: u64 = 1_000;

impl RetryBudget {
    fn new(limits: Retries) -> Self {
        Self { limits, requests: AtomicU64::new(0), retries: AtomicU64::new(0) }
    }

    pub(super) fn count_request(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed) >= BUDGET_HORIZON {
            self.requests.store(BUDGET_HORIZON / 2, Ordering::Relaxed);
            self.retries.store(self.retries.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }

    /// Whether an attempt may follow `attempts` of them; if so it is counted.
    pub(super) fn allows(&self, attempts: usize) -> bool {
        if attempts >= self.limits.attempts {
            return false;
        }
        let share = self.requests.load(Ordering::Relaxed) * u64::from(self.limits.budget_percent) / 100;
        let left = self.retries.load(Ordering::Relaxed) < share.max(BUDGET_FLOOR);
        if left {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_with_attempts_and_with_the_budget() {
        let budget = RetryBudget::new(Retries { attempts: 2, budget_percent: 20 });
        assert!(!budget.allows(2));
        let made = (0..100).filter(|_| budget.allows(1)).count();
        assert_eq!(made as u64, BUDGET_FLOOR);
        (0..100).for_each(|_| budget.count_request());
        assert!(budget.allows(1));
    }
}
