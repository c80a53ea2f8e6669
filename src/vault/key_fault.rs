//! Why there is no master key.

use std::io;
use std::path::PathBuf;

use super::key_id::MasterKeyId;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyFault {
    /// The variable is not set, or not UTF-8.
    #[error("the environment variable {0} is not set; it must hold {1}")]
    Env(String, &'static str),
    /// The file cannot be read.
    #[error("the file {path} with {what} cannot be read: {cause}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What it must hold.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// The key's file is not there, and the vault is.
    #[error(
        "the vault is there and its key file {path} is not; put the file with key {wanted} back, since a new key could not open the vault"
    )]
    FileGone {
        /// The file.
        path: PathBuf,
        /// The key that the vault wants.
        wanted: MasterKeyId,
    },
    /// The command cannot be run, fails, or takes too long.
    #[error("the command {program} that prints {what} {fault}")]
    Command {
        /// The program.
        program: String,
        /// What it must print.
        what: &'static str,
        /// What happened.
        fault: String,
    },
    /// The text is not a key.
    #[error(
        "{place} holds {found}; a master key is the base64 of 32 random bytes, as `openssl rand -base64 32` prints it"
    )]
    NotAKey {
        /// Where the text comes from.
        place: String,
        /// What is there instead, without showing it.
        found: String,
    },
    /// There is no passphrase.
    #[error("{place}: {fault}")]
    Unusable {
        /// Where the text comes from.
        place: String,
        /// What is wrong.
        fault: crate::secret::SecretFault,
    },
    /// The vault wants a passphrase and was given a key, or the other way round.
    #[error("the vault's master key {wanted} is made from {is}, and {given} is configured")]
    OtherSort {
        /// The key that the vault wants.
        wanted: MasterKeyId,
        /// What it is made from.
        is: &'static str,
        /// What is configured.
        given: &'static str,
    },
    /// Argon2id cannot work with these costs.
    #[error(
        "a passphrase cannot cost {memory_kib} KiB, {passes} passes and {lanes} lanes; at least 8 KiB a lane and one pass, at most 1 GiB, 64 passes and 64 lanes"
    )]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes, so no key can be made")]
    NoRandom,
}
