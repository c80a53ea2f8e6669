//! The local workspace: `.sigilum-workspace` in the current directory, and what its `workspace.json` says about the
//! local stack.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::Failure;
use super::private::{self, WORKSPACE};
use super::quote::quote;
use super::walk::{GaveUp, Walk};
use crate::names::Namespace;

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
        self.home.as_deref().unwrap_or(Path::new(WORKSPACE))
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
        let place = directory.join(WORKSPACE);
        if place.is_symlink() {
            return Err(link_there(&place));
        }
        let (text, trouble) = match read_own(&path) {
            Ok(read) => read,
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
        let version = || match workspace.version {
            VERSION => None,
            other => Some(format!("has version {other}; this sigilum reads version {VERSION}")),
        };
        match version().or(trouble).or_else(|| workspace.leads_away(directory)) {
            None => Ok(Some(workspace)),
            Some(trouble) => Err(Failure::from(anyhow::anyhow!("{} {trouble}", path.display())).hint(hint)),
        }
    }

    /// What in it no local stack has written. Tokens and secrets go to where it says, and a directory may be anybody's:
    /// cloned, unpacked or shared.
    fn leads_away(&self, directory: &Path) -> Option<String> {
        let urls =
            [("api_url", &self.api_url), ("gateway_url", &self.gateway_url), ("admin_url", &self.admin_url)];
        let away = urls
            .into_iter()
            .find(|(_, url)| !is_here(url))
            .map(|(name, _)| format!("leads away: its {name} is not on this machine, and a local stack is"));
        let outside = |path: &Path| {
            path.components().any(|part| !matches!(part, Component::Normal(_))) || !is_inside(directory, path)
        };
        // What is in `data_dir` may be links of its own.
        let paths = [
            ("data_dir", Some(self.data_dir.clone())),
            ("data_dir/api-data", Some(self.api_data())),
            ("data_dir/gateway-data", Some(self.gateway_data())),
            ("home", self.home.clone()),
        ];
        away.or_else(|| {
            let (name, _) = paths.into_iter().find(|(_, path)| path.as_deref().is_some_and(outside))?;
            Some(format!("leads away: its {name} is not in this directory, and a local stack's is"))
        })
    }
}

/// The file's text, and what is wrong with whose it is: that of the file that was read, not of a path that could change
/// in between.
fn read_own(path: &Path) -> io::Result<(String, Option<String>)> {
    let mut file = private::open_own(path, OpenOptions::new().read(true))?;
    let mode = file.metadata()?.mode() & 0o777;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let trouble = (mode & 0o022 != 0)
        .then(|| format!("has mode {mode:04o}, so others could send your tokens anywhere"));
    Ok((text, trouble))
}

/// Whether `path` of `directory` is in it, whichever links are on the way; what is not there yet will be.
fn is_inside(directory: &Path, path: &Path) -> bool {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let whole = directory.join(path);
    let there = whole.ancestors().find(|part| part.symlink_metadata().is_ok()).unwrap_or(directory);
    match (there.canonicalize(), directory.canonicalize()) {
        (Ok(there), Ok(directory)) => there.starts_with(directory),
        _ => false,
    }
}

/// Refuses links in the places of the local stack, before anything is written there: a directory may have come from
/// anybody, and a link in it could have any file of the user's overwritten.
pub(crate) fn need_own_ground() -> Result<(), Failure> {
    // A stack that cannot be read leads nowhere: only the usual places are written to then.
    let apart = Workspace::read().ok().flatten().filter(Workspace::is_apart);
    let mut places = vec![PathBuf::from(WORKSPACE), api_data(None), gateway_data(None)];
    // A demo's data lie in the workspace itself.
    if let Some(apart) = apart.filter(|apart| !apart.data_dir.starts_with(WORKSPACE)) {
        places.extend([apart.api_data(), apart.gateway_data()]);
    }
    if let Some(link) = places.iter().flat_map(|place| place.ancestors()).find(|part| part.is_symlink()) {
        return Err(link_there(link));
    }
    for step in Walk::through(places) {
        match step {
            Ok((path, about)) if about.is_symlink() => return Err(link_there(&path)),
            Ok(_) => {}
            Err(GaveUp(at)) => {
                let sentence = anyhow::anyhow!(
                    "the search for symbolic links was given up at {}: more is there than a local stack makes, and what is written could go elsewhere",
                    at.display()
                );
                return Err(Failure::from(sentence).hint("move away what no local stack has made"));
            }
        }
    }
    Ok(())
}

fn link_there(link: &Path) -> Failure {
    let sentence = anyhow::anyhow!(
        "{} is a symbolic link, and nothing of a local stack is: what is written there would go elsewhere",
        link.display()
    );
    Failure::from(sentence).hint(format!("rm {}", quote(&link.display().to_string())))
}

/// Whether a URL leads to this machine: over loopback, or to an address that is its own. No name but `localhost` is
/// looked up, since who answers for it decides where it leads.
pub(super) fn is_here(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return text.is_empty() };
    let own = |address: IpAddr| address.is_loopback() || UdpSocket::bind((address, 0)).is_ok();
    match url.host() {
        Some(Host::Ipv4(address)) => own(address.into()),
        Some(Host::Ipv6(address)) => own(address.into()),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// A file of the workspace.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(WORKSPACE).join(name)
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
        std::fs::create_dir(place.path().join(WORKSPACE)).unwrap();
        std::fs::write(place.path().join(file("workspace.json")), text).unwrap();
        Workspace::read_in(place.path())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let workspace = Workspace::new(
            &"alice".parse().unwrap(),
            "http://127.0.0.1:1",
            "http://[::1]:2",
            "http://localhost:3",
        );
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
    fn what_leads_away_from_this_machine_and_directory_is_refused() {
        let with = |field: &str, value: &str| {
            let mut json = serde_json::json!({
                "version": 1, "namespace": "alice", "api_url": "http://127.0.0.1:1",
                "gateway_url": "http://127.0.0.1:2", "admin_url": "http://127.0.0.1:3", "data_dir": ".local",
            });
            json[field] = value.into();
            written(&json.to_string()).is_ok()
        };
        for field in ["api_url", "gateway_url", "admin_url"] {
            for away in [
                "https://evil.example",
                "http://192.0.2.1:8787",
                "http://127.0.0.1.evil.example",
                "http://localhost.evil.example",
                "http://127.0.0.1@192.0.2.1/",
                "http://[2001:db8::1]:8787",
                "file:///tmp",
                "nonsense",
            ] {
                assert!(!with(field, away), "{field}: {away}");
            }
            assert!(with(field, "http://LOCALHOST:1") && with(field, "http://127.0.0.2:1"));
        }
        for field in ["data_dir", "home"] {
            for away in ["/home/alice/.local", "../elsewhere", ".local/../../x"] {
                assert!(!with(field, away), "{field}: {away}");
            }
            assert!(with(field, ".sigilum-workspace/demo"));
        }
    }

    #[test]
    fn path_is_inside_where_it_really_leads() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("here");
        std::fs::create_dir_all(directory.join("real/below")).unwrap();
        for (link, to) in [("out", ".."), ("nowhere", "../gone"), ("in", "real")] {
            std::os::unix::fs::symlink(to, directory.join(link)).unwrap();
        }
        for (path, inside) in [
            ("real/below", true),
            ("real/later/x", true),
            ("in/below", true),
            ("out", false),
            ("out/x", false),
            ("nowhere", false),
        ] {
            assert_eq!(is_inside(&directory, Path::new(path)), inside, "{path}");
        }
    }

    #[test]
    fn file_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join(WORKSPACE)).unwrap();
        let path = place.path().join(file("workspace.json"));
        let alice = "alice".parse().unwrap();
        let workspace =
            Workspace::new(&alice, "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3");
        std::fs::write(&path, serde_json::to_string(&workspace).unwrap()).unwrap();
        for (mode, taken) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Workspace::read_in(place.path()).is_ok(), taken, "{mode:o}");
        }
    }

    #[test]
    fn another_version_and_what_is_no_json_are_refused() {
        let json =
            r#"{"version":2,"namespace":"a","api_url":"a","gateway_url":"g","admin_url":"d","data_dir":"x"}"#;
        assert!(written(json).is_err());
        assert!(written("{").is_err());
    }
}
