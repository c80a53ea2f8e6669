//! The master key, and where it comes from.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::files;
use super::key_fault::MasterKeyFault;
use super::key_id::MasterKeyId;
use super::seal::Key;
use super::text_source::TextSource;
use crate::secret::SecretString;

/// The key that everything in a vault hangs on: 32 bytes.
pub struct MasterKey(Key);

/// Where a master key comes from.
#[derive(Debug)]
#[non_exhaustive]
pub enum MasterKeySource {
    /// Standard base64 of 32 bytes.
    Key(TextSource),
    /// A passphrase; Argon2id makes the key of it, with a salt that the vault keeps.
    Passphrase(TextSource, PassphraseCost),
    /// A file of the vault's own, as base64 in mode 0600: made with a fresh key where neither it nor the vault is there.
    Generated(PathBuf),
    /// The key itself.
    Given(MasterKey),
}

/// What one guess of a passphrase costs (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PassphraseCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for PassphraseCost {
    /// The second choice of RFC 9106 §4: 64 MiB, 3 passes, 4 lanes.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

const A_KEY: &str = "a master key";
const A_PASSPHRASE: &str = "a passphrase";

/// How a passphrase becomes a key. It stands in the vault's header, so that the same passphrase gives the same key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Stretching {
    #[serde(flatten)]
    pub(super) cost: PassphraseCost,
    pub(super) salt: String,
}

impl MasterKey {
    /// From the bytes.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Key::new(bytes))
    }

    /// A fresh one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, MasterKeyFault> {
        Key::random().map(Self).map_err(|_| MasterKeyFault::NoRandom)
    }

    /// Its public name.
    #[must_use]
    pub fn id(&self) -> MasterKeyId {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"sigilum-master-key-v1")
            .chain_update(self.0.bytes())
            .finalize()
            .into();
        let mut id = [0; 8];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        MasterKeyId(id)
    }

    pub(super) fn key(&self) -> &Key {
        &self.0
    }

    /// Its base64, as [`MasterKeySource::Key`] reads it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.0.bytes()))
    }

    fn from_base64(text: &SecretString, place: &dyn fmt::Display) -> Result<Self, MasterKeyFault> {
        let not_a_key = |found: String| MasterKeyFault::NotAKey { place: place.to_string(), found };
        let mut bytes = BASE64_STANDARD.decode(text.expose()).map_err(|_| {
            not_a_key(format!("{} characters that are no base64", text.expose().chars().count()))
        })?;
        let key = <[u8; 32]>::try_from(bytes.as_slice())
            .map(|key| Self::from_bytes(Zeroizing::new(key)))
            .map_err(|_| not_a_key(format!("the base64 of {} bytes", bytes.len())));
        bytes.zeroize();
        key
    }

    /// By Argon2id.
    pub(super) fn from_passphrase(
        passphrase: &SecretString,
        salt: &[u8],
        cost: PassphraseCost,
    ) -> Result<Self, MasterKeyFault> {
        let PassphraseCost { memory_kib, passes, lanes } = cost;
        let refused = || MasterKeyFault::Cost { memory_kib, passes, lanes };
        // The costs may come from a file that another wrote: they must not take the machine down.
        if memory_kib > 1024 * 1024 || passes > 64 || lanes > 64 {
            return Err(refused());
        }
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| refused())?;
        let mut bytes = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose().as_bytes(), salt, bytes.as_mut_slice())
            .map_err(|_| refused())?;
        Ok(Self::from_bytes(bytes))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

impl MasterKeySource {
    /// For a vault that is not there yet. With a passphrase, also how the key was made of it.
    pub(super) fn create(&self) -> Result<(MasterKey, Option<Stretching>), MasterKeyFault> {
        match self {
            Self::Passphrase(source, cost) => {
                let mut salt = [0_u8; 16];
                getrandom::fill(&mut salt).map_err(|_| MasterKeyFault::NoRandom)?;
                let key = MasterKey::from_passphrase(&source.read(A_PASSPHRASE)?, &salt, *cost)?;
                Ok((key, Some(Stretching { cost: *cost, salt: BASE64_STANDARD.encode(salt) })))
            }
            Self::Generated(path) => {
                make_key_file(path)?;
                Ok((read_key_file(path)?, None))
            }
            Self::Key(_) | Self::Given(_) => Ok((self.plain()?, None)),
        }
    }

    /// For a vault that wants the key `wanted`, made by `stretching` where it came from a passphrase. Whether the key
    /// is the right one is the caller's to ask.
    pub(super) fn read(
        &self,
        wanted: MasterKeyId,
        stretching: Option<&Stretching>,
    ) -> Result<MasterKey, MasterKeyFault> {
        match (self, stretching) {
            (Self::Passphrase(source, _), Some(Stretching { cost, salt })) => {
                let salt = BASE64_STANDARD.decode(salt).unwrap_or_default();
                MasterKey::from_passphrase(&source.read(A_PASSPHRASE)?, &salt, *cost)
            }
            (Self::Passphrase(..), None) => {
                Err(MasterKeyFault::OtherSort { wanted, is: "a key's bytes", given: A_PASSPHRASE })
            }
            (_, Some(_)) => Err(MasterKeyFault::OtherSort { wanted, is: A_PASSPHRASE, given: "a key" }),
            (Self::Generated(path), None) => match read_key_file(path) {
                Err(MasterKeyFault::File { path, cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                    Err(MasterKeyFault::FileGone { path, wanted })
                }
                read => read,
            },
            (Self::Key(_) | Self::Given(_), None) => self.plain(),
        }
    }

    fn plain(&self) -> Result<MasterKey, MasterKeyFault> {
        match self {
            Self::Key(source) | Self::Passphrase(source, _) => {
                MasterKey::from_base64(&source.read(A_KEY)?, source)
            }
            Self::Generated(path) => read_key_file(path),
            Self::Given(key) => Ok(MasterKey(key.0.share())),
        }
    }
}

/// A file that stands is kept: of two first starts at once, both use the same key.
fn make_key_file(path: &Path) -> Result<(), MasterKeyFault> {
    if path.exists() {
        return Ok(());
    }
    let text = Zeroizing::new(format!("{}\n", MasterKey::generate()?.to_base64().as_str()));
    let made = files::make_parent(path).and_then(|()| files::write_new(path, text.as_bytes()));
    match made {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            Err(MasterKeyFault::File { path: path.to_owned(), what: A_KEY, cause })
        }
        _ => Ok(()),
    }
}

fn read_key_file(path: &Path) -> Result<MasterKey, MasterKeyFault> {
    let source = TextSource::File(path.to_owned());
    MasterKey::from_base64(&source.read(A_KEY)?, &source)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, TextSource) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        std::fs::write(&path, text).unwrap();
        (place, TextSource::File(path))
    }

    fn sentence(text: &str) -> String {
        let (place, source) = file(text);
        let fault = MasterKeySource::Key(source).create().err().unwrap().to_string();
        fault.replace(place.path().to_str().unwrap(), "PLACE")
    }

    #[test]
    fn key_is_the_same_from_file_and_command() {
        let text = MasterKey::generate().unwrap().to_base64();
        let (_place, source) = file(&text);
        let (from_file, _) = MasterKeySource::Key(source).create().unwrap();
        let command = ["echo", text.as_str()].map(OsString::from).to_vec();
        let (from_command, _) = MasterKeySource::Key(TextSource::Command(command)).create().unwrap();
        assert_eq!(from_file.id(), from_command.id());
        assert_eq!(from_file.id().to_string().parse(), Ok(from_file.id()));
    }

    #[test]
    fn text_that_is_no_key_is_said_and_not_shown() {
        assert_eq!(
            sentence("hunter2!"),
            "the file PLACE/key holds 8 characters that are no base64; a master key is the base64 of 32 random bytes, as `openssl rand -base64 32` prints it"
        );
        assert!(sentence("c2hvcnQ=").starts_with("the file PLACE/key holds the base64 of 5 bytes;"));
        assert_eq!(sentence("\n"), "the file PLACE/key: the secret is empty");
    }

    #[test]
    fn command_that_fails_or_is_not_there_is_named() {
        for (words, expected) in [
            (vec!["false"], "the command false that prints a master key failed with exit status: 1"),
            (
                vec!["/nowhere/agent"],
                "the command /nowhere/agent that prints a master key cannot be run: No such file or directory (os error 2)",
            ),
            (vec![], "the command  that prints a master key is empty"),
        ] {
            let words = words.into_iter().map(OsString::from).collect();
            let fault = MasterKeySource::Key(TextSource::Command(words)).create().err().unwrap();
            assert_eq!(fault.to_string(), expected);
        }
    }

    #[test]
    fn passphrase_gives_the_same_key_with_its_salt_and_another_without() {
        let (_place, source) = file("correct horse");
        let cost = PassphraseCost { memory_kib: 64, passes: 1, lanes: 1 };
        let source = MasterKeySource::Passphrase(source, cost);
        let (key, stretching) = source.create().unwrap();
        assert_eq!(source.read(key.id(), stretching.as_ref()).unwrap().id(), key.id());
        assert_ne!(source.create().unwrap().0.id(), key.id());
    }

    #[test]
    fn costs_that_would_take_the_machine_down_are_refused() {
        let cost = PassphraseCost { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        let passphrase = SecretString::new("correct horse".into()).unwrap();
        let fault = MasterKey::from_passphrase(&passphrase, &[0; 16], cost).err().unwrap();
        assert!(matches!(fault, MasterKeyFault::Cost { memory_kib: u32::MAX, .. }));
    }

    #[test]
    fn debug_shows_a_name_and_no_key() {
        let key = MasterKey::from_bytes(Zeroizing::new([7; 32]));
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
    }
}
