//! The control plane's parts, put together from its configuration.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::watch;
use url::Url;

use super::metrics::Metrics;
use super::nonces::Nonces;
use super::rates::Rates;
use super::relay::Relay;
use super::seal::Sealer;
use super::sole::{Sole, SoleFault};
use super::store::{DatabaseUrl, Store, StoreFault};
use super::streams::Streams;
use super::token::TokenKey;
use super::webhooks::resolver::Resolver;
use crate::clock::Clock;
use crate::secret::SecretString;

/// Where it runs, which decides what may be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Environment {
    /// One machine.
    #[default]
    Local,
    /// Tests.
    Test,
    /// For others.
    Production,
}

/// What is bounded, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Active keys of a service. 5.
    pub keys_per_service: u64,
    /// Webhooks of a service. 5.
    pub webhooks_per_service: u64,
    /// Services of an owner. 1,000.
    pub services_per_owner: u64,
    /// Bytes of a request's body. 1 MiB.
    pub body_bytes: usize,
    /// For a request's body to come whole. 15 s.
    pub body_time: Duration,
    /// Requests a second of one caller (owner, service key, or address), with a burst of ten times that; of a service key as
    /// many again that tell of usage. 50.
    pub requests_per_second: u32,
    /// Streams of claims at once. 10,000.
    pub streams: usize,
    /// Of these, for the services of one owner. 2,500.
    pub streams_per_owner: usize,
    /// Nonces of signed requests that are remembered at once on SQLite; one owner's keys may use a quarter of so many,
    /// whatever the database is. 2,000,000.
    pub nonces: usize,
    /// Connections at once. 20,000.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys_per_service: 5,
            webhooks_per_service: 5,
            services_per_owner: 1_000,
            body_bytes: 1024 * 1024,
            body_time: Duration::from_secs(15),
            requests_per_second: 50,
            streams: 10_000,
            streams_per_owner: 2_500,
            nonces: 2_000_000,
            connections: 20_000,
        }
    }
}

/// All that the control plane is told.
#[derive(Debug)]
pub struct ControlConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where others reach it, as in `https://sigilum.internal`; what it listens on where `None`. Signatures are proven
    /// against this origin, else against the request's `Host`.
    pub public_url: Option<Url>,
    /// Where owners approve; `approve_url` is made from it. `None`: there is no dashboard.
    pub dashboard_url: Option<Url>,
    /// The database.
    pub database: DatabaseUrl,
    /// Signs owner tokens.
    pub token_key: TokenKey,
    /// Seals the secrets of webhooks.
    pub sealer: Sealer,
    /// How long an owner token holds. 7 days.
    pub token_ttl: Duration,
    /// Origins whose pages may call (CORS).
    pub allowed_origins: Vec<String>,
    /// The only peers whose `Forwarded` and `X-Forwarded-*` count.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether webhooks may go to private and internal addresses (`WEBHOOK_ALLOW_PRIVATE_TARGETS`).
    pub webhooks_to_private: bool,
    /// Where it runs.
    pub environment: Environment,
    /// The token of `POST /v1/test/seed`; `None`: there is no such route.
    pub test_seed: Option<SecretString>,
    /// What is bounded.
    pub limits: Limits,
    /// How long a stop waits for what runs.
    pub drain: Duration,
}

/// Why the control plane cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlFault {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The SQLite file may not be served.
    #[error(transparent)]
    Sole(#[from] SoleFault),
    /// The address cannot be listened on.
    #[error("the control plane cannot listen on {address}: {cause}")]
    Bind {
        /// The address configured.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
}

/// The control plane's parts, which its API and its tasks share.
#[derive(Debug)]
pub struct ControlPlane {
    /// What it was told.
    pub config: ControlConfig,
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Paired gateways' sockets, and the commands to them.
    pub relay: Arc<Relay>,
    /// What is counted.
    pub metrics: Metrics,
    /// The callers' allowances.
    pub(super) rates: Rates,
    /// The nonces of signed requests.
    pub(super) nonces: Nonces,
    /// The open streams of the feed.
    pub(super) streams: Arc<Streams>,
    /// Finds webhooks' hosts.
    pub(super) resolver: Resolver,
    /// Holds `true` once it stops: streams and WebSockets end then.
    pub(super) stopping: watch::Sender<bool>,
    /// Keeps others from serving the same SQLite file.
    _sole: Option<Sole>,
}

impl ControlPlane {
    /// Opens the database.
    ///
    /// # Errors
    /// When it cannot be opened, or is a SQLite file that another process serves.
    pub async fn open(config: ControlConfig, clock: Clock) -> Result<Arc<Self>, ControlFault> {
        let sole = match &config.database {
            DatabaseUrl::Sqlite(file) => Some(Sole::of(file).await?),
            DatabaseUrl::Postgres(_) => None,
        };
        let store = Store::open(&config.database).await?;
        let nonces = Nonces::of(&config.database, config.limits.nonces, clock.now())?;
        let relay = Relay::new(store.clone(), clock.clone());
        Ok(Arc::new(Self {
            relay,
            rates: Rates::new(config.limits.requests_per_second),
            streams: Streams::new(config.limits.streams, config.limits.streams_per_owner),
            resolver: Resolver::system(config.webhooks_to_private),
            stopping: watch::Sender::new(false),
            metrics: Metrics::new(),
            config,
            store,
            clock,
            nonces,
            _sole: sole,
        }))
    }

    /// Whether what a proxy at this address says of its clients counts.
    #[must_use]
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// Holds `true` once the control plane stops. What would go on without end, such as a stream, ends then.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::secret::SecretBytes;

    /// A configuration in which all is switched on. Its database is to be replaced.
    pub(in crate::control) fn asking_for_everything() -> ControlConfig {
        ControlConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: None,
            dashboard_url: None,
            database: DatabaseUrl::Sqlite("never-opened.db".into()),
            token_key: TokenKey::new(SecretBytes::new(vec![1; 32])).unwrap(),
            sealer: Sealer::new(SecretBytes::new(vec![2; 32])).unwrap(),
            token_ttl: Duration::from_secs(60),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            webhooks_to_private: false,
            environment: Environment::Test,
            test_seed: Some(SecretString::new("seed-token".to_owned()).unwrap()),
            limits: Limits::default(),
            drain: Duration::from_secs(1),
        }
    }
}
