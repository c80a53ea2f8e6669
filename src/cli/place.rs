//! Where a command works: in which mode, for which namespace, against which control plane and which gateway. A flag says
//! it, else a variable, else the workspace of the current directory, else the mode's default.

use std::path::{Path, PathBuf};

use url::Url;

use super::workspace::{self, Workspace};
use super::{Exit, Failure, Global};
use crate::config::{Mode, process_environment};
use crate::identity::{Home, HomeFault};
use crate::names::Namespace;
use crate::protocol::Identity;

/// The control plane of the local stack.
const LOCAL_API: &str = "http://127.0.0.1:8787";
/// The control plane of managed mode.
const MANAGED_API: &str = "https://api.sigilum.id";
/// The gateway's data port, which hands admin requests on where `admin.on_data_port` is on.
const LOCAL_GATEWAY: &str = "http://127.0.0.1:38100";
/// The gateway's admin listener.
const LOCAL_ADMIN: &str = "http://127.0.0.1:38101";

/// Where a command works.
#[derive(Debug)]
pub(super) struct Place {
    mode: Mode,
    /// Of the local stack; in another mode there is none.
    workspace: Option<Workspace>,
}

impl Place {
    /// `--mode`, else `SIGILUM_MODE`, else `oss-local` in a directory with a workspace, else `managed`.
    pub(super) fn here(mode: Option<Mode>) -> Result<Self, Failure> {
        let workspace = Workspace::read()?;
        let mode = match (mode, variable("SIGILUM_MODE")) {
            (Some(mode), _) => mode,
            (None, Some(word)) => {
                let mode = word.parse::<Mode>();
                mode.map_err(|fault| Failure::usage(format!("SIGILUM_MODE: {fault}")))?
            }
            (None, None) if workspace.is_some() => Mode::OssLocal,
            (None, None) => Mode::Managed,
        };
        Ok(Self { mode, workspace: workspace.filter(|_| mode == Mode::OssLocal) })
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the control plane is this machine's own, and its database may be opened.
    pub(super) fn is_local(&self) -> bool {
        self.mode == Mode::OssLocal
    }

    /// `--home`, else `SIGILUM_HOME`, else the workspace's, else `~/.sigilum`.
    pub(super) fn home(&self, global: &Global) -> Result<Home, Failure> {
        match (global.given_home(), &self.workspace) {
            (None, Some(workspace)) => Ok(Home::at(workspace.home())),
            _ => global.home(),
        }
    }

    /// What was said of the namespace: by `--namespace`, `SIGILUM_NAMESPACE`, `GATEWAY_SIGILUM_NAMESPACE` or the
    /// workspace.
    pub(super) fn said_namespace(&self, global: &Global) -> Result<Option<Namespace>, Failure> {
        if let Some(namespace) = global.namespace()? {
            return Ok(Some(namespace));
        }
        let said = variable("GATEWAY_SIGILUM_NAMESPACE")
            .or_else(|| self.workspace.as_ref().map(|workspace| workspace.namespace.clone()));
        said.map(|text| text.parse()).transpose().map_err(|fault: crate::names::NameError| fault.into())
    }

    /// Whether this is the namespace of the workspace.
    pub(super) fn is_own(&self, namespace: &Namespace) -> bool {
        self.workspace.as_ref().is_some_and(|workspace| workspace.namespace == namespace.as_str())
    }

    /// The namespace that was said, else that of the only identity there is.
    pub(super) fn namespace(&self, global: &Global) -> Result<Namespace, Failure> {
        if let Some(namespace) = self.said_namespace(global)? {
            return Ok(namespace);
        }
        match self.home(global)?.choose(None) {
            Ok(identity) => Ok(identity.namespace().clone()),
            Err(fault @ (HomeFault::NoneThere { .. } | HomeFault::Several { .. })) => {
                Err(Failure::usage(format!("which namespace is meant is not said: {fault}"))
                    .hint("start the local stack of this directory with `sigilum up`, or name the namespace with --namespace NAMESPACE"))
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// The identity that signs: of `--home` or `SIGILUM_HOME`, where one is said; else the workspace's, the one of its
    /// own namespace unless another is named; else one of `~/.sigilum`.
    pub(super) fn identity(&self, global: &Global) -> Result<Identity, Failure> {
        let named = global.namespace()?;
        let Some(workspace) = self.workspace.as_ref().filter(|_| global.given_home().is_none()) else {
            return Ok(global.home()?.choose(named.as_ref())?);
        };
        let home = Home::at(workspace.home());
        let there = home.namespaces()?;
        match named {
            Some(named) if there.contains(&named) => Ok(home.load(&named)?),
            Some(named) => Ok(global.home()?.choose(Some(&named))?),
            None => match there.iter().find(|namespace| namespace.as_str() == workspace.namespace) {
                Some(own) => Ok(home.load(own)?),
                None => Ok(global.home()?.choose(None)?),
            },
        }
    }

    /// The base URL of the gateway's data plane: the workspace's, else the default.
    pub(super) fn gateway_url(&self) -> &str {
        self.workspace.as_ref().map_or(LOCAL_GATEWAY, |workspace| &workspace.gateway_url)
    }

    /// The control plane's base URL: `--api-url`, else `SIGILUM_REGISTRY_URL`, `SIGILUM_API_URL`, as a gateway takes them,
    /// the workspace's, or the mode's.
    pub(super) fn api_url(&self, flag: Option<&str>) -> Result<Url, Failure> {
        let said = flag
            .map(str::to_owned)
            .or_else(|| variable("SIGILUM_REGISTRY_URL"))
            .or_else(|| variable("SIGILUM_API_URL"))
            .or_else(|| self.workspace.as_ref().map(|workspace| workspace.api_url.clone()));
        match (said, self.mode) {
            (Some(text), _) => base_url(&text),
            (None, Mode::OssLocal) => base_url(LOCAL_API),
            (None, Mode::Managed) => base_url(MANAGED_API),
            (None, Mode::Enterprise) => {
                Err(Failure::usage("which control plane is meant is not said, and enterprise mode has none")
                    .hint("name it with --api-url URL, or set SIGILUM_API_URL"))
            }
        }
    }

    /// The base URL of the gateway's admin API: `--gateway-admin-url` or `GATEWAY_ADMIN_URL`, which `flag` holds both,
    /// else the workspace's, else the default.
    pub(super) fn admin_url(&self, flag: Option<&str>) -> String {
        let workspace = self.workspace.as_ref().map(|workspace| workspace.admin_url.as_str());
        flag.filter(|text| !text.is_empty()).or(workspace).unwrap_or(LOCAL_GATEWAY).to_owned()
    }

    /// The base URL of the gateway's admin listener, whose data port may not hand admin requests on: the flag or variable,
    /// else the workspace's, else the default.
    pub(super) fn own_admin_url(&self, flag: Option<&str>) -> String {
        let workspace = self.workspace.as_ref().map(|workspace| workspace.admin_url.as_str());
        flag.filter(|text| !text.is_empty()).or(workspace).unwrap_or(LOCAL_ADMIN).to_owned()
    }

    /// Where the local control plane keeps its database and its keys.
    pub(super) fn api_data(&self) -> PathBuf {
        workspace::api_data(self.workspace.as_ref())
    }

    /// A variable as the local control plane was given it: `sigilum up` keeps its data where the workspace says.
    pub(super) fn control_variable(&self, name: &str) -> Option<String> {
        match &self.workspace {
            Some(workspace) if workspace.is_apart() => None,
            Some(_) if name == "SIGILUM_API_DATA_DIR" => None,
            _ => process_environment(name),
        }
    }
}

/// `--openclaw-home`, else `OPENCLAW_HOME`, else `~/.openclaw`.
pub(super) fn openclaw_home(flag: Option<&Path>) -> Result<PathBuf, Failure> {
    flag.map(Path::to_owned)
        .or_else(|| variable("OPENCLAW_HOME").map(PathBuf::from))
        .or_else(|| std::env::home_dir().map(|user| user.join(".openclaw")))
        .ok_or_else(|| {
            Failure::usage("this user has no home directory").hint("name OpenClaw's with --openclaw-home DIR")
        })
}

/// A variable of the environment; an empty one is none.
pub(super) fn variable(name: &str) -> Option<String> {
    process_environment(name).filter(|value| !value.trim().is_empty())
}

fn base_url(text: &str) -> Result<Url, Failure> {
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text).ok().filter(plain).ok_or_else(|| {
        let sentence =
            "the control plane's URL must be http or https with a host, without user, query and fragment";
        Failure::new(Exit::Usage, anyhow::anyhow!(sentence)).hint("write it as https://sigilum.example")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_that_could_carry_a_secret_or_has_no_host_is_refused() {
        for text in ["ftp://h", "http://u:p@h", "https://h/?q", "https://h/#f", "h:8787", ""] {
            assert!(base_url(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(base_url("https://h/base").unwrap().as_str(), "https://h/base");
    }

    #[test]
    fn mode_decides_about_the_control_plane_that_nobody_named() {
        let of = |mode| Place { mode, workspace: None }.api_url(Some("")).is_ok();
        assert!(!of(Mode::Managed), "an empty flag is no URL");
        let local = Place { mode: Mode::OssLocal, workspace: None };
        assert_eq!(local.admin_url(Some("")), LOCAL_GATEWAY);
    }
}
