//! Where a passphrase comes from.

use super::connection::secrets;
use super::{Failure, Io};
use crate::secret::SecretString;

/// One of them, or none.
#[derive(Debug, clap::Args)]
#[group(required = false, multiple = false)]
pub(super) struct Passphrase {
    /// Read the passphrase from an environment variable
    #[arg(long, value_name = "NAME")]
    passphrase_env: Option<String>,
    /// Read the passphrase from a file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<String>,
    /// Read the passphrase from standard input
    #[arg(long)]
    passphrase_stdin: bool,
}

impl Passphrase {
    /// Whether one is named.
    pub(super) fn is_named(&self) -> bool {
        self.passphrase_env.is_some() || self.passphrase_file.is_some() || self.passphrase_stdin
    }

    /// The passphrase, which must be named.
    pub(super) fn read(&self, io: &mut Io<'_>) -> Result<SecretString, Failure> {
        match (&self.passphrase_env, &self.passphrase_file) {
            (Some(name), _) => secrets::from_env(name),
            (_, Some(path)) => secrets::from_file(path),
            _ if self.passphrase_stdin => secrets::from_input("Passphrase", io),
            _ => Err(Failure::usage("a passphrase is needed").hint(
                "say where it is: --passphrase-env NAME, --passphrase-file FILE or --passphrase-stdin",
            )),
        }
    }
}
