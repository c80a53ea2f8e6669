//! All settings, each module's in its own type.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::fault::Fault;
use super::reference::Reference;
use crate::admin::AdminSettings;
use crate::claims::{FeedConfig, RegistrarConfig};
use crate::connections::{Connection, SecretSource};
use crate::gateway::GatewayConfig;
use crate::names::Namespace;
use crate::policy::Claim;
use crate::replay::MemoryConfig;
use crate::telemetry::LogConfig;
use crate::usage::UsageConfig;
use crate::vault::VaultOptions;

/// A whole configuration, every part of it right. Secrets stand in it by reference only.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The mode, which has set defaults.
    pub mode: Mode,
    /// Where the gateway keeps what it writes.
    pub data_dir: PathBuf,
    /// The gateway's own identity.
    pub identity: IdentityChoice,
    /// The data plane.
    pub gateway: GatewayConfig,
    /// The provider connections.
    pub connections: Vec<Connection>,
    /// The gateway's own vault; `None`: it has none.
    pub vault: Option<VaultOptions>,
    /// The JSON file of the service catalog; the built-in one where `None`.
    pub service_catalog: Option<PathBuf>,
    /// The approved claims of the file: `static-<n>-<service>`, `n` being the entry's index.
    pub static_claims: Vec<Claim>,
    /// The service API key of the services that have none of their own.
    pub service_api_key: Option<SecretSource>,
    /// The feed of approved claims; `None` without a control plane or with `control_plane.claims.source: none`.
    pub feed: Option<FeedConfig>,
    /// Registration of callers without a claim; `None` without a control plane or when switched off.
    pub registrar: Option<RegistrarConfig>,
    /// Usage told to the control plane; `None` without one or when switched off.
    pub usage: Option<UsageConfig>,
    /// The replay store.
    pub replay: MemoryConfig,
    /// The admin sidecar.
    pub admin: AdminSettings,
    /// Log lines.
    pub log: LogConfig,
    /// Whether identities are logged as they are instead of as fingerprints.
    pub log_identities_plain: bool,
    /// Whether allowed requests are logged as well as refused ones.
    pub log_proxy_requests: bool,
    /// What is worth a look.
    pub warnings: Vec<Fault>,
    pub(super) references: Vec<Reference>,
}

impl Settings {
    /// Looks whether the files and secrets that the settings name are there. Files that the gateway cannot
    /// start without give errors, secrets warnings: only what needs them fails.
    #[must_use]
    pub fn examine(&self, env: super::Environment<'_>) -> Vec<Fault> {
        self.references.iter().filter_map(|reference| reference.examine(env)).collect()
    }
}

/// Whose setting up the defaults fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// With a control plane that someone else runs.
    Managed,
    /// On an enterprise's own machines.
    Enterprise,
    /// On one machine, for its user.
    #[default]
    OssLocal,
}

impl Mode {
    pub(super) const WORDS: [(&str, Self); 3] =
        [("managed", Self::Managed), ("enterprise", Self::Enterprise), ("oss-local", Self::OssLocal)];
}

/// The text is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mode; it is managed, enterprise or oss-local")]
pub struct NotAMode(String);

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, mode)| *mode).ok_or_else(|| NotAMode(text.to_owned()))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Managed => "managed",
            Self::Enterprise => "enterprise",
            Self::OssLocal => "oss-local",
        })
    }
}

/// Which identity the gateway has, as far as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentityChoice {
    /// The namespace; the only one that exists where `None`.
    pub namespace: Option<Namespace>,
    /// The directory of identities; `~/.sigilum` where `None`.
    pub home: Option<PathBuf>,
}

/// The data directory where none is given: `$XDG_DATA_HOME/sigilum-gateway`, else
/// `$HOME/.local/share/sigilum-gateway`, else `/var/lib/sigilum-gateway`.
pub(super) fn default_data_dir(env: super::Environment<'_>) -> PathBuf {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| Path::new("/var/lib").to_owned())
        .join("sigilum-gateway")
}
