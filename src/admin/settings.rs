//! What the admin sidecar needs to know to run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::connections::SecretSource;

/// The admin sidecar's own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Who is let in.
    pub access: Access,
    /// Where the admin token is read from; there always with [`Access::Token`].
    pub token: Option<SecretSource>,
    /// Origins (`https://host:port`) that a browser's request may come from, besides none at all.
    pub allowed_origins: Vec<String>,
    /// Hosts (`name` or `name:port`) that a request may name, besides loopback ones.
    pub allowed_hosts: Vec<String>,
    /// Whether `/api/admin/*` and `/metrics` are answered on the data port too.
    pub on_data_port: bool,
    /// For one whole admin request.
    pub timeout: Duration,
}

/// Who is let in to the admin sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Callers from this machine.
    Loopback,
    /// Callers with the admin token.
    Token,
    /// Either.
    #[default]
    Hybrid,
}

impl Default for AdminSettings {
    /// `127.0.0.1:38101`, loopback or token, no token, 20 s.
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 38_101),
            access: Access::default(),
            token: None,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            on_data_port: false,
            timeout: Duration::from_secs(20),
        }
    }
}
