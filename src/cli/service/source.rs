//! Where the secret of an upstream comes from.

use super::super::connection::secrets::{from_env, from_file, from_input, warn_of_typed};
use super::super::{Failure, Io};
use crate::secret::SecretString;

/// One of them, or none.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// The secret itself, where other users and the shell's history see it
    #[arg(long, value_name = "VALUE", group = "source")]
    upstream_secret: Option<String>,
    /// Read it from an environment variable
    #[arg(long, value_name = "NAME", group = "source")]
    upstream_secret_env: Option<String>,
    /// Read it from a file
    #[arg(long, value_name = "FILE", group = "source")]
    upstream_secret_file: Option<String>,
    /// Read it from standard input
    #[arg(long, group = "source")]
    upstream_secret_stdin: bool,
}

impl Source {
    /// The secret; `None` where no source is named.
    pub(super) fn read(&self, io: &mut Io<'_>) -> Result<Option<SecretString>, Failure> {
        if let Some(typed) = &self.upstream_secret {
            warn_of_typed(io)?;
            return Ok(Some(SecretString::new(typed.clone())?));
        }
        match (&self.upstream_secret_env, &self.upstream_secret_file) {
            (Some(name), _) => from_env(name).map(Some),
            (_, Some(path)) => from_file(path).map(Some),
            _ if self.upstream_secret_stdin => from_input("Secret of the upstream", io).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether one is named.
    pub(super) fn is_named(&self) -> bool {
        self.upstream_secret.is_some()
            || self.upstream_secret_env.is_some()
            || self.upstream_secret_file.is_some()
            || self.upstream_secret_stdin
    }
}
