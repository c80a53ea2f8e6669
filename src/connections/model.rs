//! One model of a connection, from whichever source it came.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;

use super::SecretSource;
use super::fields::{self, PathTemplate};
use crate::names::ConnectionId;

/// A provider connection as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its id, also the service that claims name.
    pub id: ConnectionId,
    /// For people; the id where none is given.
    pub name: String,
    /// What is spoken with the upstream.
    pub protocol: Protocol,
    /// Where it leads; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How an endpoint is chosen.
    pub load_balancing: LoadBalancing,
    /// How endpoints are probed, where they are.
    pub health_check: Option<HealthCheck>,
    /// Stands between the base URL's path and the rest: empty, or `/…` without a slash at its end.
    pub path_prefix: String,
    /// What is injected.
    pub auth: Auth,
    /// Where the secret comes from; `None` only with [`Auth::None`].
    pub secret: Option<SecretSource>,
    /// Active or disabled.
    pub status: Status,
    /// After how many days the secret is to be replaced; 0: never.
    pub rotation_interval_days: u32,
    /// Whether it may lead to a link-local address, where clouds keep their metadata.
    pub allow_link_local: bool,
    /// Time limits towards the upstream.
    pub timeouts: Timeouts,
    /// Retries of what is safe to retry.
    pub retries: Retries,
    /// Limits for all callers of this connection together.
    pub limits: RequestLimits,
    /// TLS towards the upstream.
    pub tls: UpstreamTls,
    /// What happens to a body that does not fit the window.
    pub unverified_stream: BodyPolicy,
    /// What happens to an answer that holds the secret.
    pub reflection: Reflection,
}

impl Connection {
    /// A connection of this id with every default, which leads nowhere and injects nothing yet.
    #[must_use]
    pub fn named(id: ConnectionId) -> Self {
        Self {
            name: id.to_string(),
            id,
            protocol: Protocol::default(),
            endpoints: Vec::new(),
            load_balancing: LoadBalancing::default(),
            health_check: None,
            path_prefix: String::new(),
            auth: Auth::None,
            secret: None,
            status: Status::default(),
            rotation_interval_days: 0,
            allow_link_local: false,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            limits: RequestLimits::default(),
            tls: UpstreamTls::default(),
            unverified_stream: BodyPolicy::default(),
            reflection: Reflection::default(),
        }
    }
}

/// What is spoken with an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP, whatever it carries.
    #[default]
    Http,
    /// The Model Context Protocol over streamable HTTP.
    Mcp,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its base URL.
    pub url: BaseUrl,
    /// Its share, from 1.
    pub weight: u16,
}

/// `http` or `https`, a host, a port and a base path; no user, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

/// Why a text is not a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlFault {
    /// Not a URL at all.
    #[error("{0:?} is not a URL; write it as https://api.example.com/base")]
    Unreadable(String),
    /// Another scheme.
    #[error("the scheme must be http or https, not {0:?}")]
    Scheme(String),
    /// It holds a part that a base URL may not have.
    #[error("a base URL has no {0}; leave it out")]
    Part(&'static str),
}

impl BaseUrl {
    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, a name or an address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The base path: empty, or `/…` without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it names a link-local address, or one at which a cloud keeps its metadata and with them credentials. A
    /// name that only resolves to one is not seen here: see [`is_link_local`](super::is_link_local).
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        fields::is_link_local_host(&self.host)
    }

    /// The `Host` header: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let own = if self.https { 443 } else { 80 };
        if self.port == own { host } else { format!("{host}:{}", self.port) }
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlFault;

    fn from_str(text: &str) -> Result<Self, BaseUrlFault> {
        let url = url::Url::parse(text).map_err(|_| BaseUrlFault::Unreadable(text.to_owned()))?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(BaseUrlFault::Scheme(other.to_owned())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlFault::Part("user or password"));
        }
        if url.query().is_some() {
            return Err(BaseUrlFault::Part("query"));
        }
        if url.fragment().is_some() {
            return Err(BaseUrlFault::Part("fragment"));
        }
        let host = url.host_str().ok_or_else(|| BaseUrlFault::Unreadable(text.to_owned()))?;
        Ok(Self {
            https,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().unwrap_or(if https { 443 } else { 80 }),
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// What is injected into a request, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// A header of prefix and secret: `bearer` (default `Authorization`, `Bearer `) and `header_key` (no prefix).
    Header {
        /// The header's name.
        name: HeaderName,
        /// What stands before the secret; a secret that begins with it is not prefixed twice.
        prefix: String,
    },
    /// A query parameter; any value that the client sent is removed first.
    Query {
        /// The parameter's name (default `api_key`).
        param: String,
    },
    /// `Authorization: Basic base64(user:secret)`.
    Basic {
        /// The user.
        user: String,
    },
    /// `Authorization: Basic base64(secret)`, the secret being `user:password` whole.
    BasicPair,
    /// A part of the path, between the base path and the rest.
    Path {
        /// Its form, such as `/bot{secret}`.
        template: PathTemplate,
    },
    /// Nothing.
    None,
}

/// How an endpoint is chosen among healthy ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadBalancing {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// By a hash of the caller's namespace and key.
    Consistent,
}

/// An HTTP probe of each endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path to GET; 2xx is healthy.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// So many in a row make an endpoint healthy.
    pub healthy: usize,
    /// So many failures in a row make it unhealthy.
    pub unhealthy: usize,
}

/// Whether requests are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// They are.
    #[default]
    Active,
    /// 403 `CONNECTION_DISABLED`.
    Disabled,
}

/// Time limits towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// Between two reads of the answer, and until its head.
    pub read: Duration,
    /// For the whole exchange; `None`: no limit, as streams want it.
    pub total: Option<Duration>,
    /// How long an unused connection is kept; keep it below the upstream's own.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(120),
            total: None,
            idle: Duration::from_secs(50),
        }
    }
}

/// Retries: after a failed connect always, else only of an idempotent request whose kept connection was stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts at the most, the first included; from 1.
    pub attempts: usize,
    /// Retries as a share of this connection's requests, in percent; further ones are not made.
    pub budget_percent: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20 }
    }
}

/// Limits; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestLimits {
    /// Requests a second.
    pub requests_per_second: Option<std::num::NonZeroU32>,
    /// Requests at once.
    pub concurrent: Option<std::num::NonZeroU32>,
}

/// TLS towards the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UpstreamTls {
    /// PEM file of the CAs to trust for this connection, in place of the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of the client certificate's chain and key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The name to verify and to send as SNI; the host's where `None`.
    pub server_name: Option<String>,
}

/// What happens to a body that does not fit the window before its digest is known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyPolicy {
    /// Its beginning is sent on, its tail only when the digest holds.
    #[default]
    HoldTail,
    /// It is refused with 413.
    Refuse,
}

/// What happens to an answer in which the upstream sends the secret back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reflection {
    /// Whether it is masked in the answer's headers.
    pub mask_headers: bool,
    /// What is done where it stands in the body.
    pub body: BodyReflection,
}

impl Default for Reflection {
    fn default() -> Self {
        Self { mask_headers: true, body: BodyReflection::default() }
    }
}

/// What is done where the secret stands in a body that is not encoded (gzip and the like are not looked into).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyReflection {
    /// Bodies are not looked at.
    Off,
    /// It is covered with as many asterisks.
    #[default]
    Mask,
    /// The answer ends: 502 `SECRET_REFLECTED` where it has not begun.
    Block,
}
