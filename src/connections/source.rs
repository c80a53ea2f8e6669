//! Secrets by reference: `env:NAME`, `file:/path` and `store`; and why one cannot be read.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroize;

use crate::names::ConnectionId;
use crate::secret::{SecretFault, SecretString};
use crate::vault::RecordFault;

/// Where a secret is read from. Holding it shows nothing of the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file, read again when it changes.
    File(PathBuf),
    /// The vault's entry of the connection; the [`Book`](super::Book) reads it.
    Store,
}

/// Why a secret could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretUnreadable {
    /// The variable is not set, or not UTF-8.
    #[error("the environment variable {0} is not set; set it before starting")]
    Env(String),
    /// The file cannot be read.
    #[error("the file {path} cannot be read: {kind}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        kind: std::io::ErrorKind,
    },
    /// The vault has none for this connection.
    #[error(
        "the vault has no secret {name} for the connection {connection}; set it with POST /api/admin/connections/{connection}/rotate"
    )]
    NotStored {
        /// The connection.
        connection: ConnectionId,
        /// The secret's name.
        name: String,
    },
    /// The secret is in a vault, and there is none.
    #[error("the secret is in the gateway's vault, and this gateway has none; set vault.master_key")]
    NoVault,
    /// The vault's record does not authenticate.
    #[error(transparent)]
    Vault(#[from] RecordFault),
    /// The connection's record is not what this version writes.
    #[error("the stored connection {0} cannot be read; delete it and make it anew")]
    Document(ConnectionId),
    /// The secret refers to a variable that is not there.
    #[error("the secret {name} refers to the credential variable {variable}, which is not set")]
    NoVariable {
        /// The secret's name.
        name: String,
        /// The variable.
        variable: String,
    },
    /// It cannot go where it is to go.
    #[error("the secret cannot be injected: {0}")]
    NotInjectable(&'static str),
    /// The connection was changed or removed after the request had come.
    #[error("the connection was changed or removed while the request was under way")]
    Withdrawn,
    /// It is there, and not usable.
    #[error("{source_name}: {fault}")]
    Unusable {
        /// The reference.
        source_name: String,
        /// What is wrong.
        fault: SecretFault,
    },
}

/// A secret is one line of text; a larger file is not one.
const LARGEST_BYTES: u64 = 64 * 1024;

impl SecretSource {
    /// Reads the secret.
    ///
    /// # Errors
    /// When it is not there or not usable, and of [`SecretSource::Store`] always. The error never holds the secret.
    pub fn read(&self) -> Result<SecretString, SecretUnreadable> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| SecretUnreadable::Env(name.clone()))?,
            Self::File(path) => read_file(path)
                .map_err(|error| SecretUnreadable::File { path: path.clone(), kind: error.kind() })?,
            Self::Store => return Err(SecretUnreadable::NoVault),
        };
        SecretString::new(text)
            .map_err(|fault| SecretUnreadable::Unusable { source_name: self.to_string(), fault })
    }
}

fn read_file(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(LARGEST_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > LARGEST_BYTES {
        text.zeroize();
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Store => f.write_str("store"),
        }
    }
}
