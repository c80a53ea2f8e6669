//! The local control plane's files: its database, and the secret that signs owner tokens. Whether it runs or not.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::place::variable;
use super::{Failure, private};
use crate::clock::{Clock, UnixTime};
use crate::control::domain::owner::Owner;
use crate::control::store::{DatabaseUrl, Store};
use crate::control::TokenKey;
use crate::names::Namespace;
use crate::secret::{SecretBytes, SecretString};

/// The variable that holds the secret.
pub(super) const SECRET_VARIABLE: &str = "JWT_SECRET";
/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// The local control plane's data directory.
#[derive(Debug)]
pub(super) struct LocalPlane {
    directory: PathBuf,
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
    /// At this directory. Nothing is made or read.
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Its SQLite file.
    pub(super) fn database(&self) -> PathBuf {
        self.directory.join("sigilum.db")
    }

    /// The key of owner tokens: `JWT_SECRET`, else that in the file `jwt-secret`, which is made where it is not there.
    pub(super) fn key(&self) -> Result<TokenKey, Failure> {
        let file = self.directory.join("jwt-secret");
        let key = match variable(SECRET_VARIABLE) {
            Some(secret) => token_key(secret).context("the variable JWT_SECRET"),
            None => secret_in(&file).and_then(token_key).with_context(|| file.display().to_string()),
        };
        key.map_err(|fault| {
            Failure::from(fault.context("unable to resolve JWT_SECRET"))
                .hint("export JWT_SECRET=<your-secret>, 32 characters at least")
        })
    }

    /// Makes the namespace and its owner where they are not there, and a token for the owner.
    pub(super) fn issue(&self, namespace: &Namespace, email: &str, ttl: Duration) -> Result<Issued, Failure> {
        make_directory(&self.directory)?;
        let key = self.key()?;
        issue(&DatabaseUrl::Sqlite(self.database()), &key, namespace, email, ttl)
    }
}

/// Makes the namespace and its owner in `database` where they are not there, and a token that holds for `ttl`.
pub(super) fn issue(
    database: &DatabaseUrl,
    key: &TokenKey,
    namespace: &Namespace,
    email: &str,
    ttl: Duration,
) -> Result<Issued, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = Clock::system().now();
    let owner = runtime.block_on(async {
        let store = Store::open(database).await?;
        store.add_owner(namespace, email, now).await
    })?;
    let token = key.issue(&owner, ttl, now);
    Ok(Issued { token, owner, expires_at: now.plus(ttl) })
}

/// From a secret's text; white space around it does not count.
pub(super) fn token_key(text: String) -> Result<TokenKey, anyhow::Error> {
    let text = Zeroizing::new(text);
    let bytes = SecretBytes::new(text.trim().as_bytes().to_vec());
    TokenKey::new(bytes).map_err(|_| anyhow::anyhow!("it has fewer than 32 characters"))
}

fn secret_in(file: &Path) -> Result<String, anyhow::Error> {
    if !file.exists() {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        let text: Zeroizing<String> = Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        private::write_new(file, format!("{}\n", text.as_str()).as_bytes()).map_err(Failure::into_error)?;
    }
    let mode = std::fs::metadata(file).context("it cannot be read")?.permissions().mode() & 0o777;
    anyhow::ensure!(
        mode & OTHERS == 0,
        "it has mode {mode:04o}, so others may sign owner tokens; type `chmod 600 {}`",
        file.display()
    );
    std::fs::read_to_string(file).context("it cannot be read")
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    Ok(made.with_context(|| format!("the directory {} cannot be made", directory.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_made_once_and_for_the_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("data/jwt-secret");
        let made = secret_in(&file).unwrap();
        assert_eq!(made.trim().len(), 64);
        assert_eq!(secret_in(&file).unwrap(), made);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "a draft was left");
    }

    #[test]
    fn secret_that_others_may_read_or_guess_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("jwt-secret");
        secret_in(&file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(secret_in(&file).unwrap_err().to_string().contains("chmod 600"));
        assert!(token_key(format!(" {} ", "a".repeat(31))).is_err());
    }
}
