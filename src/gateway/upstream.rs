//! Where a connection leads: endpoints resolved and probed in the background, one chosen for each attempt.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::protocols::ALPN;
use pingora_core::server::ShutdownWatch;
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions, Scheme};
use pingora_core::utils::tls::CertKey;
use pingora_load_balancing::selection::{Consistent, RoundRobin};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};

use super::pem::{UpstreamFileFault, authorities, client_certificate};
use super::probe::Probe;
use super::resolver::{EndpointFacts, Resolver};
use super::retries::RetryBudget;
use crate::connections::{BaseUrl, Connection, LoadBalancing};

/// How often names are resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// For one resolution.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// Streams on one HTTP/2 connection to an upstream.
const H2_STREAMS: usize = 100;
/// Endpoints looked at for one choice.
const CHOICES: usize = 256;

/// The endpoints of one connection. Clones share them.
#[derive(Clone)]
pub(super) struct Upstream(Arc<Inner>);

struct Inner {
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
        let resolver = Resolver::new(config);
        let named = resolver.has_names();
        let mut backends = Backends::new(Box::new(resolver));
        if let Some(check) = &config.health_check {
            let probe = Probe::new(check, config, &options, client_cert.as_ref());
            backends.set_health_check(Box::new(probe));
        }
        let interval = config.health_check.as_ref().map(|check| check.interval);
        let balancer = match config.load_balancing {
            LoadBalancing::RoundRobin => Balancer::RoundRobin(balancer(backends, named, interval)),
            LoadBalancing::Consistent => Balancer::Consistent(balancer(backends, named, interval)),
        };
        Ok(Self(Arc::new(Inner {
            balancer,
            base_path: first.map_or_else(String::new, |url| url.path().to_owned()),
            https,
            group_key: group_key(config),
            options,
            client_cert,
            retries: RetryBudget::new(config.retries),
            named,
            probed: interval.is_some(),
        })))
    }

    /// The path of the base URL.
    pub(super) fn base_path(&self) -> &str {
        &self.0.base_path
    }

    /// Resolves the endpoints for the first time. What cannot be resolved is tried again in the background.
    pub(super) async fn resolve(&self) {
        let update = async {
            match &self.0.balancer {
                Balancer::RoundRobin(balancer) => balancer.update().await,
                Balancer::Consistent(balancer) => balancer.update().await,
            }
        };
        let _ = tokio::time::timeout(RESOLVE_WITHIN, update).await;
    }

    /// Resolves and probes until `shutdown`; returns at once where there is nothing to do.
    pub(super) async fn watch(&self, shutdown: ShutdownWatch) {
        if !self.0.named && !self.0.probed {
            return;
        }
        match &self.0.balancer {
            Balancer::RoundRobin(balancer) => balancer.run(shutdown, None).await,
            Balancer::Consistent(balancer) => balancer.run(shutdown, None).await,
        }
    }

    /// Chooses a healthy endpoint; one that was `tried` or is shunned only where there is no other. `key` decides for
    /// consistent balancing.
    pub(super) async fn choose(
        &self,
        key: &[u8],
        tried: Option<&EndpointFacts>,
        h1_only: bool,
        now: Instant,
    ) -> Option<Choice> {
        let backend = match self.select(key, tried, now) {
            Some(backend) => backend,
            // A name that could not be resolved when it was last tried.
            None if self.0.named && self.is_empty() => {
                self.resolve().await;
                self.select(key, tried, now)?
            }
            None => return None,
        };
        let facts = backend.ext.get::<Arc<EndpointFacts>>().cloned()?;
        let mut options = self.0.options.clone();
        if h1_only {
            options.alpn = ALPN::H1;
        }
        let peer = HttpPeer {
            _address: backend.addr,
            scheme: if self.0.https { Scheme::HTTPS } else { Scheme::HTTP },
            sni: if self.0.https { facts.server_name.to_string() } else { String::new() },
            proxy: None,
            client_cert_key: self.0.client_cert.clone(),
            group_key: self.0.group_key,
            options,
        };
        Some(Choice { peer: Box::new(peer), facts })
    }

    fn select(&self, key: &[u8], tried: Option<&EndpointFacts>, now: Instant) -> Option<Backend> {
        let facts = |backend: &Backend| backend.ext.get::<Arc<EndpointFacts>>().cloned();
        let fresh = |backend: &Backend| {
            !tried.is_some_and(|tried| facts(backend).is_some_and(|facts| std::ptr::eq(&*facts, tried)))
        };
        let welcome = |backend: &Backend| !facts(backend).is_some_and(|facts| facts.is_shunned(now));
        let choose = |accept: &dyn Fn(&Backend, bool) -> bool| match &self.0.balancer {
            Balancer::RoundRobin(balancer) => balancer.select_with(key, CHOICES, accept),
            Balancer::Consistent(balancer) => balancer.select_with(key, CHOICES, accept),
        };
        choose(&|backend, healthy| healthy && fresh(backend) && welcome(backend))
            .or_else(|| choose(&|backend, healthy| healthy && fresh(backend)))
            .or_else(|| choose(&|_, healthy| healthy))
    }

    fn is_empty(&self) -> bool {
        match &self.0.balancer {
            Balancer::RoundRobin(balancer) => balancer.backends().get_backend().is_empty(),
            Balancer::Consistent(balancer) => balancer.backends().get_backend().is_empty(),
        }
    }

    pub(super) fn retries(&self) -> &RetryBudget {
        &self.0.retries
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("base_path", &self.0.base_path)
            .field("https", &self.0.https)
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
