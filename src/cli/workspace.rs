//! The local workspace: `.sigilum-workspace` in the current directory, and what its `workspace.json` says about the
//! local stack.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Failure, private};
use crate::names::Namespace;

/// The workspace's directory, in the current one.
pub(crate) const DIRECTORY: &str = ".sigilum-workspace";
/// Where the local stack keeps its data, where nothing else is said.
const DATA: &str = ".local";
const VERSION: u32 = 1;

/// What the local stack is, as `sigilum up` writes it down. Relative paths begin at the current directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Workspace {
    version: u32,
    /// The namespace whose owner works here.
    pub(crate) namespace: String,
    /// Where the control plane is.
    pub(crate) api_url: String,
    /// Where the gateway's data plane is.
    pub(crate) gateway_url: String,
    /// Where the gateway's admin API is.
    pub(crate) admin_url: String,
    /// Where the data is: `api-data` and `gateway-data` in it.
    pub(crate) data_dir: PathBuf,
    /// The directory that holds identities; the workspace itself where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) home: Option<PathBuf>,
}

impl Workspace {
    /// A stack with the defaults' places.
    pub(crate) fn new(namespace: &Namespace, api_url: &str, gateway_url: &str, admin_url: &str) -> Self {
        Self {
            version: VERSION,
            namespace: namespace.to_string(),
            api_url: api_url.to_owned(),
            gateway_url: gateway_url.to_owned(),
            admin_url: admin_url.to_owned(),
            data_dir: DATA.into(),
            home: None,
        }
    }

    /// Of the current directory, where there is one.
    pub(crate) fn read() -> Result<Option<Self>, Failure> {
        Self::read_in(Path::new(""))
    }

    /// Writes it into the current directory.
    pub(crate) fn write(&self) -> Result<PathBuf, Failure> {
        let path = file("workspace.json");
        let json = serde_json::to_string_pretty(self)?;
        private::write(&path, format!("{json}\n").as_bytes())?;
        Ok(path)
    }

    /// The directory that holds identities.
    pub(crate) fn home(&self) -> &Path {
        self.home.as_deref().unwrap_or(Path::new(DIRECTORY))
    }

    /// Whether it is a stack apart from the directory's own, such as a demo, which looks at no variable.
    pub(crate) fn is_apart(&self) -> bool {
        self.data_dir != Path::new(DATA)
    }

    /// Where the control plane keeps its database and its keys.
    pub(crate) fn api_data(&self) -> PathBuf {
        self.data_dir.join("api-data")
    }

    /// The gateway's `data_dir`, with its vault.
    pub(crate) fn gateway_data(&self) -> PathBuf {
        self.data_dir.join("gateway-data")
    }

    fn read_in(directory: &Path) -> Result<Option<Self>, Failure> {
        let path = directory.join(file("workspace.json"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let cause = anyhow::Error::from(error);
                return Err(cause.context(format!("{} cannot be read", path.display())).into());
            }
        };
        let read = serde_json::from_str::<Self>(&text)
            .with_context(|| format!("{} is not what `sigilum up` writes", path.display()));
        let hint = "remove it, and `sigilum up` writes a new one";
        let workspace = read.map_err(|fault| Failure::from(fault).hint(hint))?;
        if workspace.version == VERSION {
            return Ok(Some(workspace));
        }
        let sentence = anyhow::anyhow!(
            "{} has version {}; this sigilum reads version {VERSION}",
            path.display(),
            workspace.version
        );
        Err(Failure::from(sentence).hint(hint))
    }
}

/// A file of the workspace.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Where the control plane of this directory keeps its data: as the workspace says, else `.local/api-data`.
pub(crate) fn api_data(workspace: Option<&Workspace>) -> PathBuf {
    workspace.map_or_else(|| Path::new(DATA).join("api-data"), Workspace::api_data)
}

/// Where the gateway of this directory keeps its data: as the workspace says, else `.local/gateway-data`.
pub(crate) fn gateway_data(workspace: Option<&Workspace>) -> PathBuf {
    workspace.map_or_else(|| Path::new(DATA).join("gateway-data"), Workspace::gateway_data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Option<Workspace>, Failure> {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join(DIRECTORY)).unwrap();
        std::fs::write(place.path().join(file("workspace.json")), text).unwrap();
        Workspace::read_in(place.path())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let workspace = Workspace::new(&"alice".parse().unwrap(), "http://a:1", "http://g:2", "http://d:3");
        let read = written(&serde_json::to_string(&workspace).unwrap()).unwrap().unwrap();
        assert_eq!(read, workspace);
        assert_eq!(read.home(), Path::new(".sigilum-workspace"));
        assert_eq!(read.api_data(), Path::new(".local/api-data"));
    }

    #[test]
    fn directory_without_one_is_no_fault() {
        let place = tempfile::tempdir().unwrap();
        assert!(Workspace::read_in(place.path()).unwrap().is_none());
    }

    #[test]
    fn another_version_and_what_is_no_json_are_refused() {
        let json =
            r#"{"version":2,"namespace":"a","api_url":"a","gateway_url":"g","admin_url":"d","data_dir":"x"}"#;
        assert!(written(json).is_err());
        assert!(written("{").is_err());
    }
}
