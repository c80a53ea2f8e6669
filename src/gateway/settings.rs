//! What the data plane needs to know to run, valid by construction.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::connections::RequestLimits;
use crate::policy::RotationPolicy;
use crate::protocol::Freshness;

/// The data plane's own configuration.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// The only peers whose `Forwarded` and `X-Forwarded-*` count.
    pub trusted_proxies: Vec<IpNet>,
    /// How far `created` may lie from now.
    pub freshness: Freshness,
    /// Limits on what comes in.
    pub limits: Limits,
    /// What is done about secrets that are due to be replaced.
    pub rotation: RotationPolicy,
    /// How long running requests may go on after a signal to stop.
    pub drain: Duration,
    /// Proxy threads; `None`: one for each core.
    pub threads: Option<usize>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its address; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS, or plain.
    pub tls: Option<TlsConfig>,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM files (chain, key), chosen by SNI; the first is the default.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// PEM file of the CAs that sign clients' certificates; there unless `client_auth` is none.
    pub client_ca: Option<PathBuf>,
    /// The oldest version accepted.
    pub min_version: TlsVersion,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for, and verified where given.
    Optional,
    /// One is needed.
    Required,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    V1_2,
    /// 1.3.
    V1_3,
}

/// Limits on what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections at once; a further one is answered 503 `OVERLOADED` and closed.
    pub connections: usize,
    /// Requests at once; a further one is answered 503 `OVERLOADED`.
    pub requests_in_flight: usize,
    /// A request's head, in bytes.
    pub header_bytes: usize,
    /// For a whole request head.
    pub header_timeout: Duration,
    /// A request's body, in bytes.
    pub body_max_bytes: u64,
    /// What is held back of a body until its digest is proven, in bytes.
    pub body_window_bytes: usize,
    /// The least rate of a request body, in bytes a second.
    pub body_min_rate_bytes: u64,
    /// For each namespace with an approved claim.
    pub per_namespace: RequestLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            requests_in_flight: 20_000,
            header_bytes: 64 * 1024,
            header_timeout: Duration::from_secs(10),
            body_max_bytes: 100 * 1024 * 1024,
            body_window_bytes: 1024 * 1024,
            body_min_rate_bytes: 1024,
            per_namespace: RequestLimits::default(),
        }
    }
}
