//! YAML and environment, made each module's own settings.
//!
//! A configuration is read whole and every fault in it is reported, with line, column and what would be
//! right. The environment is handed in as a function, so that nothing here depends on the process.

mod check;
mod control;
mod environment;
mod fault;
mod keys;
mod reader;
mod reference;
mod sections;
mod sentence;
mod settings;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use check::{CheckReport, Summary, check};
pub use control::{
    ControlDefaults, DATABASE, JWT_SECRET_FILE, SEALING_KEY_FILE, control_config, owner_access,
};
pub use fault::{Fault, FaultKind, Faults, Source};
pub use settings::{IdentityChoice, Mode, NotAMode, Settings};
pub use units::duration;

use fault::FaultKind::Error;
use reader::{Reader, Section};
use tree::{Node, Place, Value};

/// Looks an environment variable up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process. A variable that is not UTF-8 counts as not set.
#[must_use]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a configuration from the text of `file`, variables of `env` overriding it. Nothing that the text
/// names is opened: see [`Settings::examine`].
///
/// # Errors
/// All faults, where one of them is a failure.
pub fn load(text: &str, file: &Path, env: Environment<'_>) -> Result<Settings, Faults> {
    let (root, mut faults) = tree::parse(text);
    let Some(mut root) = root else { return Err(Faults::new(file, faults)) };
    faults.extend(environment::overlay(&mut root, env));
    read(&root, file, env, faults, true)
}

/// Reads the configuration at `path`, as [`load`] does.
///
/// # Errors
/// That the file cannot be read, or all faults in it.
pub fn load_file(path: &Path, env: Environment<'_>) -> Result<Settings, Faults> {
    match text_of(path) {
        Ok(text) => load(&text, path, env),
        Err(fault) => Err(Faults::new(path, vec![fault])),
    }
}

/// Where a gateway is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// Where it keeps what it writes.
    pub data_dir: PathBuf,
    /// Its admin listener; `None` where the file says it wrongly.
    pub admin: Option<SocketAddr>,
}

/// Reads where the gateway of the configuration at `path` is found, whatever else is wrong with the file.
///
/// # Errors
/// That the file cannot be read, is no YAML, or says its data directory wrongly.
pub fn whereabouts(path: &Path, env: Environment<'_>) -> Result<Whereabouts, Faults> {
    let text = text_of(path).map_err(|fault| Faults::new(path, vec![fault]))?;
    let (root, faults) = tree::parse(&text);
    let Some(mut root) = root else { return Err(Faults::new(path, faults)) };
    environment::overlay(&mut root, env);
    let root =
        &Section::open(&mut Reader::new(env, path, Vec::new()), Some(&root), String::new(), root.place);
    let mut of_directory = Reader::new(env, path, Vec::new());
    let data_dir = root.directory(&mut of_directory, "data_dir");
    if of_directory.has_failed() {
        return Err(Faults::new(path, of_directory.finish().0));
    }
    let admin = root.section(&mut of_directory, "admin");
    let mut of_address = Reader::new(env, path, Vec::new());
    let address =
        admin.parsed(&mut of_address, "address", "an IP address and a port", &sections::socket_address);
    let usual = || crate::admin::AdminSettings::default().address;
    Ok(Whereabouts {
        data_dir: data_dir.unwrap_or_else(|| settings::default_data_dir(env)),
        admin: (!of_address.has_failed()).then(|| address.unwrap_or_else(usual)),
    })
}

impl Settings {
    /// The settings without a file: the defaults of `mode`, variables of `env` overriding them.
    ///
    /// # Errors
    /// All faults in the variables, and what the mode needs and has not.
    pub fn defaults(mode: Mode, env: Environment<'_>) -> Result<Self, Faults> {
        let key = tree::Key { text: "mode".to_owned(), place: Place::Nowhere };
        let word = Node::new(Place::Nowhere, Value::Text(mode.to_string()));
        let mut root = Node::new(Place::Nowhere, Value::Map(vec![(key, word)]));
        let faults = environment::overlay(&mut root, env);
        read(&root, Path::new("defaults"), env, faults, false)
    }
}

fn text_of(path: &Path) -> Result<String, Fault> {
    let whole = |message: String| Place::Nowhere.fault("", Error, message);
    let file = std::fs::File::open(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    let most = tree::LARGEST_BYTES as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| whole(format!("cannot be read: {error}")))?;
    if bytes.len() > tree::LARGEST_BYTES {
        return Err(whole(format!("is larger than the {} bytes that are read", tree::LARGEST_BYTES)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() + 1;
        Place::File { line, column }.fault("", Error, "is not UTF-8 here; save it as UTF-8".to_owned())
    })
}

/// Reads every section, those that others depend on first.
fn read(
    root: &Node,
    file: &Path,
    env: Environment<'_>,
    faults: Vec<Fault>,
    providers_required: bool,
) -> Result<Settings, Faults> {
    let mut reader = Reader::new(env, file, faults);
    let r = &mut reader;
    let root = &Section::open(r, Some(root), String::new(), root.place);
    let mode = root.choice(r, "mode", &Mode::WORDS).unwrap_or_default();
    let identity = identity(r, root);
    let data_dir = root.directory(r, "data_dir").unwrap_or_else(|| settings::default_data_dir(env));
    let admin = sections::admin(r, root, mode);
    let listeners = sections::listeners(r, root, admin.address);
    let trusted_proxies = sections::trusted_proxies(r, root);
    let freshness = sections::verification(r, root);
    let replay = sections::replay(r, root, freshness);
    let (limits, registrations_per_minute, threads) = sections::limits(r, root);
    let vault = sections::vault(r, root, mode == Mode::OssLocal || !providers_required, &data_dir);
    let rotation = sections::rotation(r, root);
    let service_catalog = root.file(r, "service_catalog");
    let providers = sections::providers(r, root, providers_required, vault.is_some());
    let static_claims = sections::claims(r, root, &providers.ids, vault.is_some());
    let sections::ControlPlane { service_api_key, feed, registrar, usage } =
        sections::control_plane(r, root, mode, vault.is_some(), registrations_per_minute);
    let (log, log_identities_plain, log_proxy_requests) = sections::telemetry(r, root);
    let shutdown = root.section(r, "shutdown");
    let drain = shutdown.duration(r, "drain", std::time::Duration::ZERO..=sections::HOUR);
    sections::later_variables(r, mode);
    let settings = Settings {
        mode,
        data_dir,
        identity,
        gateway: crate::gateway::GatewayConfig {
            listeners,
            trusted_proxies,
            freshness,
            limits,
            rotation,
            drain: drain.unwrap_or(std::time::Duration::from_secs(15)),
            threads,
        },
        connections: providers.connections,
        vault,
        service_catalog,
        static_claims,
        service_api_key,
        feed,
        registrar,
        usage,
        replay,
        admin,
        log,
        log_identities_plain,
        log_proxy_requests,
        warnings: Vec::new(),
        references: Vec::new(),
    };
    if !r.has_failed() {
        warn_of_combinations(r, root, &settings);
    }
    finish(settings, reader, file)
}

fn identity(reader: &mut Reader<'_>, root: &Section<'_>) -> IdentityChoice {
    let section = root.section(reader, "identity");
    IdentityChoice {
        namespace: section.parsed(reader, "namespace", "a namespace", &|text| {
            text.parse().map_err(|error: crate::names::NameError| error.to_string())
        }),
        home: section.directory(reader, "home"),
    }
}

/// Combinations that are right and seldom meant.
fn warn_of_combinations(reader: &mut Reader<'_>, root: &Section<'_>, settings: &Settings) {
    let public = |listener: &&crate::gateway::ListenerConfig| !listener.address.ip().is_loopback();
    if let (true, Some(listener)) =
        (settings.admin.on_data_port, settings.gateway.listeners.iter().find(public))
    {
        let message = format!(
            "admin.on_data_port is on, and {} is reached from other machines: /metrics and /api/admin are too; \
             write on_data_port: false unless that is meant",
            listener.address
        );
        reader.warn(root.place_of("listeners"), "listeners", message);
    }
    if settings.feed.is_none() && settings.static_claims.is_empty() && !settings.connections.is_empty() {
        let message =
            "no claim can ever be approved: there is neither control_plane.url nor a claim in claims.static";
        root.warn(reader, "providers", message);
    }
}

fn finish(mut settings: Settings, reader: Reader<'_>, file: &Path) -> Result<Settings, Faults> {
    let (mut faults, references) = reader.finish();
    if faults.iter().any(Fault::is_failure) {
        return Err(Faults::new(file, faults));
    }
    fault::sort(&mut faults);
    settings.warnings = faults;
    settings.references = references;
    Ok(settings)
}
