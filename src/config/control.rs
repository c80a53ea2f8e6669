//! The control plane's settings, which stand in environment variables alone, and the secrets that it makes for itself.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use zeroize::Zeroizing;

use super::Environment as Variables;
use super::environment;
use super::fault::{Fault, FaultKind, Faults};
use super::sections::{leads_home, plain_url, socket_address};
use super::sentence::holds;
use super::tree::Place;
use crate::control::store::DatabaseUrl;
use crate::control::{ControlConfig, Environment, Limits, Sealer, TokenKey};
use crate::identity::files::{self, ReadFault};
use crate::secret::{SecretBytes, SecretString};

/// The SQLite database's name in the data directory.
pub const DATABASE: &str = "sigilum.db";
/// The name of the file whose text signs owner tokens, in the data directory.
pub const JWT_SECRET_FILE: &str = "jwt-secret";
/// The name of the file that holds the sealing key in base64, in the data directory.
pub const SEALING_KEY_FILE: &str = "sealing-key";

/// The least length of `JWT_SECRET`, in bytes: the output of HS256's hash (RFC 7518, section 3.2).
const LEAST_JWT_SECRET: usize = 32;
/// The least length of `SIGILUM_TEST_SEED_TOKEN`, in characters.
const LEAST_SEED_TOKEN: usize = 16;
const KEY_BYTES: usize = 32;
const DAY: u64 = 86_400;
const DRAIN: Duration = Duration::from_secs(10);

/// What counts where no variable says otherwise.
#[derive(Debug, Clone)]
pub struct ControlDefaults {
    /// Where it listens: the address of a flag goes before the variable.
    pub listen: Option<SocketAddr>,
    /// Where the database and the generated secrets are, unless `SIGILUM_API_DATA_DIR` names another place.
    pub data_dir: PathBuf,
}

/// Reads the control plane's settings from `env`. Without `DATABASE_URL` the database is a SQLite file in the data
/// directory, and the secrets that no variable holds are made there at the first start: files 0600 in a directory 0700.
/// What is worth a look stands beside the settings.
///
/// # Errors
/// All faults: each names the variable, what it takes and, unless that is a secret, what it holds.
pub fn control_config(
    env: Variables<'_>,
    defaults: &ControlDefaults,
) -> Result<(ControlConfig, Vec<Fault>), Faults> {
    let mut r = Reader { env, faults: Vec::new() };
    let data_dir = r.text("SIGILUM_API_DATA_DIR").map_or_else(|| defaults.data_dir.clone(), PathBuf::from);
    let database = database(&mut r, &data_dir);
    let shared = matches!(database, Some(DatabaseUrl::Postgres(_)));
    let words =
        [("local", Environment::Local), ("test", Environment::Test), ("production", Environment::Production)];
    // Who runs a database server runs it for others, unless they say that they do not.
    let usual = if shared { Environment::Production } else { Environment::Local };
    let environment = r
        .parsed("SIGILUM_ENVIRONMENT", |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, it)| *it).ok_or_else(|| holds("local, test or production", text))
        })
        .unwrap_or(usual);
    let listen = r.parsed("SIGILUM_API_LISTEN", socket_address);
    let listen = defaults.listen.or(listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8787)));
    let public_url = r.parsed("SIGILUM_API_PUBLIC_URL", public_url);
    let dashboard_url = r.parsed("SIGILUM_DASHBOARD_URL", plain_url);
    let allowed_origins = r.list("SIGILUM_API_ALLOWED_ORIGINS", origin);
    let trusted_proxies = r.list("SIGILUM_API_TRUSTED_PROXY_CIDRS", |text| {
        text.parse().map_err(|_| holds("networks between commas, such as 10.0.0.0/8", text))
    });
    let webhooks_to_private = r.flag("WEBHOOK_ALLOW_PRIVATE_TARGETS");
    let token_ttl = r.parsed("SIGILUM_OWNER_TOKEN_TTL_SECONDS", seconds).unwrap_or(7 * DAY);
    let limits = limits(&mut r);
    let test_seed = test_seed(&mut r, environment);
    warn_of_the_way(&mut r, environment, public_url.as_ref());
    // The secrets last: nothing is made on disk for a start that fails for another reason.
    let otherwise = match (shared, r.has_failed()) {
        (true, _) => Unset::Fault,
        (false, true) => Unset::Nothing,
        (false, false) => Unset::MadeIn(&data_dir),
    };
    let token_key = token_key(&mut r, otherwise);
    let sealer = sealer(&mut r, otherwise);
    match (database, token_key, sealer) {
        (Some(database), Some(token_key), Some(sealer)) if !r.has_failed() => Ok((
            ControlConfig {
                listen,
                public_url,
                dashboard_url,
                database,
                token_key,
                sealer,
                token_ttl: Duration::from_secs(token_ttl),
                allowed_origins,
                trusted_proxies,
                webhooks_to_private,
                environment,
                test_seed,
                limits,
                drain: DRAIN,
            },
            r.faults,
        )),
        _ => Err(Faults::new(Path::new("environment"), r.faults)),
    }
}

/// Finds what making owners and their tokens takes, where [`control_config`] does: the database, and the key of the tokens.
///
/// # Errors
/// All faults in the variables, and in the file in their place.
pub fn owner_access(
    env: Variables<'_>,
    defaults: &ControlDefaults,
) -> Result<(DatabaseUrl, TokenKey), Faults> {
    let mut r = Reader { env, faults: Vec::new() };
    let data_dir = r.text("SIGILUM_API_DATA_DIR").map_or_else(|| defaults.data_dir.clone(), PathBuf::from);
    let database = database(&mut r, &data_dir);
    let otherwise = match &database {
        Some(DatabaseUrl::Postgres(_)) => Unset::Fault,
        Some(DatabaseUrl::Sqlite(_)) => Unset::MadeIn(&data_dir),
        None => Unset::Nothing,
    };
    match (token_key(&mut r, otherwise), database) {
        (Some(key), Some(database)) => Ok((database, key)),
        _ => Err(Faults::new(Path::new("environment"), r.faults)),
    }
}

/// What is done for a secret that no variable holds.
#[derive(Clone, Copy)]
enum Unset<'d> {
    /// It is kept in a file of this directory, and made there at the first start.
    MadeIn(&'d Path),
    /// Nothing: the settings are refused for another reason.
    Nothing,
    /// It is told: replicas share it, so each must be given the same.
    Fault,
}

/// The variables, and what is wrong with them.
struct Reader<'e> {
    env: Variables<'e>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn text(&self, name: &'static str) -> Option<String> {
        environment::value(self.env, name)
    }

    fn secret(&self, name: &'static str) -> Option<Zeroizing<String>> {
        self.text(name).map(Zeroizing::new)
    }

    fn parsed<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        parse(&text).map_err(|message| self.error(name, message)).ok()
    }

    fn list<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let text = self.text(name).unwrap_or_default();
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.filter_map(|item| parse(item).map_err(|message| self.error(name, message)).ok()).collect()
    }

    fn flag(&mut self, name: &'static str) -> bool {
        let flag = |text: &str| environment::flag(text).ok_or_else(|| holds("true or false", text));
        self.parsed(name, flag).unwrap_or_default()
    }

    fn number(&mut self, name: &'static str, range: RangeInclusive<u64>, usual: u64) -> u64 {
        let number = |text: &str| {
            let found = text.parse().ok().filter(|number| range.contains(number));
            let takes = || format!("a whole number from {} to {}", range.start(), range.end());
            found.ok_or_else(|| holds(&takes(), text))
        };
        self.parsed(name, number).unwrap_or(usual)
    }

    fn error(&mut self, name: &'static str, message: impl Into<String>) {
        self.faults.push(Place::Variable(name).fault("", FaultKind::Error, message.into()));
    }

    fn warn(&mut self, name: &'static str, message: impl Into<String>) {
        self.faults.push(Place::Variable(name).fault("", FaultKind::Warning, message.into()));
    }

    fn has_failed(&self) -> bool {
        self.faults.iter().any(Fault::is_failure)
    }
}

/// What an operator may want otherwise. The others bound what a process holds, and go with its size.
fn limits(r: &mut Reader<'_>) -> Limits {
    let usual = Limits::default();
    let rate = r.number("SIGILUM_API_MAX_REQUESTS_PER_SECOND", 1..=100_000, usual.requests_per_second.into());
    Limits {
        keys_per_service: r.number("SIGILUM_API_MAX_KEYS_PER_SERVICE", 1..=1_000, usual.keys_per_service),
        webhooks_per_service: r.number(
            "SIGILUM_API_MAX_WEBHOOKS_PER_SERVICE",
            0..=1_000,
            usual.webhooks_per_service,
        ),
        services_per_owner: r.number(
            "SIGILUM_API_MAX_SERVICES_PER_OWNER",
            1..=100_000,
            usual.services_per_owner,
        ),
        requests_per_second: u32::try_from(rate).unwrap_or(usual.requests_per_second),
        ..usual
    }
}

/// What is worth a look about how others reach it.
fn warn_of_the_way(r: &mut Reader<'_>, environment: Environment, public_url: Option<&Url>) {
    if environment == Environment::Production && public_url.is_none() {
        r.warn(
            "SIGILUM_API_PUBLIC_URL",
            "is not set, so signatures are proven against each request's Host; set it to the URL that others call",
        );
    }
    if public_url.is_some_and(|url| url.scheme() == "http" && !leads_home(url)) {
        r.warn("SIGILUM_API_PUBLIC_URL", "is http: tokens and keys travel in the clear; use https");
    }
}

/// No sentence repeats the URL, which may hold a password.
fn database(r: &mut Reader<'_>, data_dir: &Path) -> Option<DatabaseUrl> {
    const NAME: &str = "DATABASE_URL";
    let Some(text) = r.secret(NAME) else { return Some(DatabaseUrl::Sqlite(data_dir.join(DATABASE))) };
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.is_empty() && !path.contains('?') {
            return Some(DatabaseUrl::Sqlite(PathBuf::from(path)));
        }
    }
    let is_postgres = Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "postgres" | "postgresql") && (url.has_host() || url.query().is_some())
    });
    match SecretString::new(text.to_string()) {
        Ok(url) if is_postgres => Some(DatabaseUrl::Postgres(url)),
        _ => {
            r.error(
                NAME,
                "takes postgres://user:password@host/database or sqlite:/path/to/file; unset it for SQLite in SIGILUM_API_DATA_DIR",
            );
            None
        }
    }
}

/// An origin: what clients sign against holds no path.
fn public_url(text: &str) -> Result<Url, String> {
    let url = plain_url(text)?;
    if url.path() == "/" {
        Ok(url)
    } else {
        Err(holds("a URL without a path, such as https://sigilum.internal", text))
    }
}

fn origin(text: &str) -> Result<String, String> {
    let takes = "origins between commas, such as https://dashboard.example.com";
    let url = plain_url(text).map_err(|_| holds(takes, text))?;
    let origin = url.origin().ascii_serialization();
    if origin == text.trim_end_matches('/') { Ok(origin) } else { Err(holds(takes, text)) }
}

fn seconds(text: &str) -> Result<u64, String> {
    let range = 60..=366 * DAY;
    let found = text.parse().ok().filter(|seconds| range.contains(seconds));
    found.ok_or_else(|| holds("whole seconds from 60 to 31622400", text))
}

fn test_seed(r: &mut Reader<'_>, environment: Environment) -> Option<SecretString> {
    const ENABLE: &str = "ENABLE_TEST_SEED_ENDPOINT";
    const TOKEN: &str = "SIGILUM_TEST_SEED_TOKEN";
    let token = r.secret(TOKEN);
    if !r.flag(ENABLE) {
        if token.is_some() {
            r.warn(TOKEN, "has no effect without ENABLE_TEST_SEED_ENDPOINT=true");
        }
        return None;
    }
    if environment == Environment::Production {
        r.error(ENABLE, "is for tests only and refused with SIGILUM_ENVIRONMENT=production; unset it");
        return None;
    }
    let long_enough = token.filter(|token| token.chars().count() >= LEAST_SEED_TOKEN);
    let token = long_enough.and_then(|token| SecretString::new(token.to_string()).ok());
    if token.is_none() {
        r.error(TOKEN, format!("is needed with {ENABLE}: at least {LEAST_SEED_TOKEN} characters"));
    }
    token
}

fn token_key(r: &mut Reader<'_>, otherwise: Unset<'_>) -> Option<TokenKey> {
    const NAME: &str = "JWT_SECRET";
    let (text, whence) = secret_of(r, NAME, otherwise, JWT_SECRET_FILE, "at least 32 bytes of text")?;
    if text.len() < LEAST_JWT_SECRET {
        let bytes = text.len();
        r.error(NAME, format!("takes at least {LEAST_JWT_SECRET} bytes of text; {whence} has {bytes}"));
        return None;
    }
    TokenKey::new(SecretBytes::new(text.as_bytes().to_vec())).ok()
}

fn sealer(r: &mut Reader<'_>, otherwise: Unset<'_>) -> Option<Sealer> {
    const NAME: &str = "SIGILUM_API_SEALING_KEY";
    let (text, whence) = secret_of(r, NAME, otherwise, SEALING_KEY_FILE, "the base64 of 32 bytes")?;
    let key = STANDARD.decode(text.as_bytes()).ok().map(SecretBytes::new);
    let sealer = key.and_then(|key| Sealer::new(key).ok());
    if sealer.is_none() {
        let takes = "takes the base64 of 32 bytes, as `openssl rand -base64 32` prints it";
        r.error(NAME, format!("{takes}; {whence} holds something else"));
    }
    sealer
}

/// The secret, and where it is from: the variable itself, or a file.
fn secret_of(
    r: &mut Reader<'_>,
    name: &'static str,
    otherwise: Unset<'_>,
    file: &str,
    takes: &str,
) -> Option<(Zeroizing<String>, String)> {
    if let Some(text) = r.secret(name) {
        return Some((text, "it".to_owned()));
    }
    match otherwise {
        Unset::Nothing => None,
        Unset::Fault => {
            r.error(name, format!("is needed with DATABASE_URL, the same at every replica: {takes}"));
            None
        }
        Unset::MadeIn(directory) => {
            let path = directory.join(file);
            let used = kept(&path);
            let whence = path.display().to_string();
            let used = used.map_err(|error| {
                r.error(name, format!("is not set, and {whence} cannot be used in its place: {error}"));
            });
            used.ok().map(|text| (text, whence))
        }
    }
}

/// The text of a file of the owner's own; base64 of 32 random bytes, where it has to be made.
fn kept(path: &Path) -> io::Result<Zeroizing<String>> {
    match files::read(path) {
        Ok(text) => Ok(Zeroizing::new(text.trim().to_owned())),
        Err(ReadFault::Open(mode)) => {
            let sentence =
                format!("others may read it (mode {mode:04o}); type `chmod 600 {}`", path.display());
            Err(io::Error::other(sentence))
        }
        Err(ReadFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(ReadFault::Io(error)) => Err(error),
    }
}

/// Of two that start at once, both get what the first one made.
fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let text = Zeroizing::new(STANDARD.encode(key.as_slice()));
    let path = std::path::absolute(path)?;
    if let Some(directory) = path.parent() {
        files::make_directory(directory)?;
    }
    match files::write(&path, &Zeroizing::new(format!("{}\n", text.as_str())), false) {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => kept(&path),
        Err(error) => Err(error),
    }
}
