//! Identity files on disk: `<home>/identities/<namespace>/identity.json`.
use std::path::{Path, PathBuf};
use crate::clock::Clock;
use crate::names::Namespace;
use crate::protocol::Identity;

/// The directory that holds identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);
/// What goes wrong with identity files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeFault {
    /// stub
    #[error("stub")]
    Stub,
}
impl Home {
    /// At this path.
    #[must_use]
    pub fn at(path: &Path) -> Self { Self(path.to_owned()) }
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path { &self.0 }
    /// Loads the identity of `namespace`.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or does not hold.
    pub fn load(&self, _namespace: &Namespace) -> Result<Identity, HomeFault> { unimplemented!() }
    /// The namespaces that have an identity here, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is not there holds none.
    pub fn namespaces(&self) -> Result<Vec<Namespace>, HomeFault> { unimplemented!() }
    /// Loads `wanted`, else the only one there is.
    ///
    /// # Errors
    /// None or several: says what was found and what to type.
    pub fn choose(&self, _wanted: Option<&Namespace>) -> Result<Identity, HomeFault> { unimplemented!() }
    /// Makes a new identity (random seed) and writes it: directories 0700, file 0600, replaced atomically, fsynced.
    /// An existing one is replaced only with `force`.
    ///
    /// # Errors
    /// When one stands and `force` is not given, or it cannot be written.
    pub fn create(&self, _namespace: &Namespace, _clock: &Clock, _force: bool) -> Result<Identity, HomeFault> { unimplemented!() }
}
