//! Where a local stack keeps its things, and what its parts are told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::life::Serving;
use super::super::workspace::{self, Workspace};
use super::super::{Failure, Global, owner_token, private};
use super::Args;
use crate::clock::Clock;
use crate::config::{ControlDefaults, Mode, Settings, process_environment};
use crate::identity::Home;
use crate::names::Namespace;

const LOCAL: &str = "local";
const DEMO: &str = "demo";
const DATA: &str = ".local";
/// Enough for a try, whatever the machine's limit of open files is.
const DEMO_CONNECTIONS: usize = 256;
/// Where the control plane has no stream: on one machine asking is cheap.
const REFRESH: Duration = Duration::from_secs(1);

/// Where a local stack keeps its things.
pub(super) struct Site {
    demo: bool,
    pub(super) namespace: Namespace,
    /// Holds `api-data` and `gateway-data`.
    data: PathBuf,
    /// Holds the identities of agents.
    home: PathBuf,
}

/// The workspace's file as a demo wrote it. When this is dropped, it is put back as it was.
pub(super) struct Lent {
    former: Option<Vec<u8>>,
    kept: PathBuf,
}

impl Site {
    /// In the current directory. The demo is apart from what is there.
    pub(super) fn of(demo: bool, global: &Global) -> Result<Self, Failure> {
        let workspace = Path::new(private::WORKSPACE);
        if demo {
            let place = workspace.join(DEMO);
            let namespace = global.namespace()?.map_or_else(|| DEMO.parse(), Ok)?;
            return Ok(Self { demo, namespace, home: place.join("home"), data: place });
        }
        let namespace = match global.namespace()? {
            Some(namespace) => namespace,
            None => match Workspace::read()?.filter(|stack| !stack.is_apart()) {
                Some(stack) => stack.namespace.parse()?,
                None => usual_namespace(&Home::at(workspace), global)?,
            },
        };
        Ok(Self { demo, namespace, home: workspace.to_owned(), data: DATA.into() })
    }

    /// A file of the demo's own.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// The agents' identities.
    pub(super) fn home(&self) -> Home {
        Home::at(&self.home)
    }

    /// The owner's address.
    pub(super) fn email(&self) -> String {
        owner_token::email(None, &self.namespace)
    }

    /// Makes the identity of the workspace's namespace where there is none.
    pub(super) fn make_identity(&self) -> Result<(), Failure> {
        let home = self.home();
        if !home.namespaces()?.contains(&self.namespace) {
            home.create(&self.namespace, &Clock::system(), false)?;
        }
        Ok(())
    }

    /// What the control plane reads: of a demo nothing of the environment, else all but the place of its data.
    pub(super) fn control_variable(&self, name: &str) -> Option<String> {
        match name {
            _ if self.demo => None,
            "SIGILUM_API_DATA_DIR" | "SIGILUM_API_LISTEN" => None,
            _ => process_environment(name),
        }
    }

    pub(super) fn control_defaults(&self, args: &Args) -> ControlDefaults {
        ControlDefaults { listen: Some(args.api_listen), data_dir: self.data.join("api-data") }
    }

    /// The gateway's settings, its control plane at `api`.
    pub(super) fn settings(&self, args: &Args, api: &str) -> Result<Settings, Failure> {
        // The vault's place is kept as it is named, whatever becomes of the current directory.
        let data = std::path::absolute(self.data.join("gateway-data"))?;
        let home = data.join("home");
        let text = |path: &Path| path.to_str().map(str::to_owned);
        let environment = |name: &str| match name {
            "GATEWAY_DATA_DIR" => text(&data),
            "GATEWAY_SIGILUM_HOME" => text(&home),
            "GATEWAY_SIGILUM_NAMESPACE" => Some(self.namespace.to_string()),
            "GATEWAY_ADDR" => Some(args.listen.to_string()),
            "SIGILUM_REGISTRY_URL" => Some(api.to_owned()),
            _ if self.demo => None,
            _ => process_environment(name),
        };
        let mut settings = Settings::defaults(Mode::OssLocal, &environment)?;
        settings.admin.address = args.admin_listen;
        if self.demo {
            settings.gateway.limits.connections = DEMO_CONNECTIONS;
        }
        if let Some(feed) = &mut settings.feed {
            feed.refresh = feed.refresh.min(REFRESH);
        }
        Ok(settings)
    }

    /// Tells the other commands where the stack is. What a demo says of itself is gone with it.
    pub(super) fn write_workspace(&self, serving: &Serving) -> Result<Option<Lent>, Failure> {
        let lent = if self.demo { Some(self.lend()?) } else { None };
        let api = serving.control_plane.clone().unwrap_or_default();
        let gateway = serving.gateway.first().cloned().unwrap_or_default();
        let admin = serving.admin.clone().unwrap_or_default();
        let mut workspace = Workspace::new(&self.namespace, &api, &gateway, &admin);
        workspace.data_dir.clone_from(&self.data);
        workspace.home = self.demo.then(|| self.home.clone());
        workspace.write()?;
        Ok(lent)
    }

    /// Keeps what the file says now. A demo that was killed has left its own file, and beside it what it had kept.
    fn lend(&self) -> Result<Lent, Failure> {
        let kept = self.file("former-workspace.json");
        let left = Workspace::read().ok().flatten().is_some_and(|workspace| workspace.data_dir == self.data);
        let former = std::fs::read(if left { kept.clone() } else { workspace_file() }).ok();
        match &former {
            Some(bytes) => private::write(&kept, bytes)?,
            None => drop(std::fs::remove_file(&kept)),
        }
        Ok(Lent { former, kept })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let file = workspace_file();
        let put_back = match &self.former {
            None => std::fs::remove_file(&file).map_err(Failure::from),
            Some(bytes) => private::write(&file, bytes),
        };
        match put_back {
            Ok(()) => drop(std::fs::remove_file(&self.kept)),
            Err(_) => tracing::warn!(file = %file.display(), "the workspace's file could not be put back"),
        }
    }
}

fn workspace_file() -> PathBuf {
    workspace::file("workspace.json")
}

/// The namespace of the only identity in the workspace, or else in the home; else `local`.
fn usual_namespace(workspace: &Home, global: &Global) -> Result<Namespace, Failure> {
    let home = global.home().map_or_else(|_| Ok(Vec::new()), |home| home.namespaces());
    for found in [workspace.namespaces()?, home?] {
        if let [only] = found.as_slice() {
            return Ok(only.clone());
        }
        if let [first, ..] = found.as_slice() {
            let all = found.iter().map(Namespace::as_str).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!("there are several identities: {all}"))
                .hint(format!("choose one, as in --namespace {first}")));
        }
    }
    Ok(LOCAL.parse()?)
}
