//! The control plane whose database and whose secret are at hand, whether it runs or not: it makes owners, and signs
//! tokens for them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::place::Place;
use super::{Exit, Failure, workspace};
use crate::clock::{Clock, UnixTime};
use crate::config::{ControlDefaults, Faults, owner_access};
use crate::control::TokenKey;
use crate::control::domain::owner::Owner;
use crate::control::store::{DatabaseUrl, Store, StoreFault};
use crate::names::Namespace;
use crate::secret::SecretString;

/// Variables that say where the database is, so that the data directory need not be there.
const ELSEWHERE: [&str; 2] = ["DATABASE_URL", "SIGILUM_API_DATA_DIR"];

/// A control plane's database, and the key of its owner tokens.
pub(super) struct LocalPlane {
    database: DatabaseUrl,
    key: TokenKey,
}

/// A token that was made.
#[derive(Debug)]
pub(super) struct Issued {
    /// It.
    pub(super) token: SecretString,
    /// Whose it is.
    pub(super) owner: Owner,
    /// When it ends.
    pub(super) expires_at: UnixTime,
}

impl LocalPlane {
    /// The one that belongs to `place`, unless variables name another; its secret is made where there is none yet.
    pub(super) fn new(place: &Place) -> Result<Self, Failure> {
        if !ELSEWHERE.iter().any(|name| place.control_variable(name).is_some()) {
            workspace::need_own_ground()?;
        }
        let defaults = ControlDefaults { listen: None, data_dir: place.api_data() };
        let (database, key) =
            owner_access(&|name| place.control_variable(name), &defaults).map_err(unresolved)?;
        if let DatabaseUrl::Sqlite(file) = &database {
            make_parent(file)?;
        }
        Ok(Self { database, key })
    }

    /// The same, where there is one; nothing is made then.
    pub(super) fn there(place: &Place) -> Result<Option<Self>, Failure> {
        let elsewhere = |name: &&str| place.control_variable(name).is_some();
        if place.api_data().exists() || ELSEWHERE.iter().any(elsewhere) {
            Self::new(place).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The key of owner tokens.
    pub(super) fn key(&self) -> &TokenKey {
        &self.key
    }

    /// Whether it has this namespace.
    pub(super) fn has(&self, namespace: &Namespace) -> Result<bool, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(async { Store::open(&self.database).await?.namespace(namespace).await });
        Ok(found.map_err(|fault| self.unusable(fault))?.is_some())
    }

    /// Makes the namespace and its owner where they are not there, and a token that holds for `ttl`.
    pub(super) fn issue(&self, namespace: &Namespace, email: &str, ttl: Duration) -> Result<Issued, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let now = Clock::system().now();
        let owner = runtime.block_on(async {
            let store = Store::open(&self.database).await?;
            store.add_owner(namespace, email, now).await
        });
        let owner = owner.map_err(|fault| self.unusable(fault))?;
        let token = self.key.issue(&owner, ttl, now);
        Ok(Issued { token, owner, expires_at: now.plus(ttl) })
    }

    fn unusable(&self, fault: StoreFault) -> Failure {
        let exit =
            if matches!(fault, StoreFault::Unavailable(_)) { Exit::NotReachable } else { Exit::Failed };
        Failure::new(exit, of_database(anyhow::Error::new(fault), database_file(&self.database)))
    }
}

/// The file of a database that is one. The URL of a server holds a password, and is not shown.
pub(super) fn database_file(database: &DatabaseUrl) -> Option<&Path> {
    match database {
        DatabaseUrl::Sqlite(file) => Some(file),
        DatabaseUrl::Postgres(_) => None,
    }
}

/// Says which file it is that is at fault.
pub(super) fn of_database(fault: anyhow::Error, file: Option<&Path>) -> anyhow::Error {
    match file {
        Some(file) => fault.context(file.display().to_string()),
        None => fault,
    }
}

/// Says what to type where it is the secret that is missing.
fn unresolved(faults: Faults) -> Failure {
    let secret = faults.all().iter().any(|fault| fault.path == "JWT_SECRET");
    let fault = anyhow::Error::new(faults);
    if secret {
        Failure::from(fault.context("unable to resolve JWT_SECRET"))
            .hint("export JWT_SECRET=<your-secret>, at least 32 characters")
    } else {
        fault.into()
    }
}

fn make_parent(file: &Path) -> Result<(), Failure> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    Ok(made.with_context(|| format!("the directory {} cannot be made", directory.display()))?)
}
