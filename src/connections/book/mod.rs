//! The book of connections: all that a gateway has, from its configuration and from its vault.

mod fault;

pub use fault::BookFault;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{
    Catalog, Connection, ConnectionPatch, ConnectionView, LiveConnection, NewConnection, NewVariable,
    Rotation, ServiceKeyView, TestOutcome, VariableView,
};
use crate::clock::{Clock, UnixTime};
use crate::names::{ConnectionId, SecretName};
use crate::protocol::sealed::{Sealed, SealingPublicKey};
use crate::secret::SecretString;
use crate::vault::Vault;

/// The one owner of a gateway's connections. Clones are the same book.
///
/// Its calls block, those that write for the length of some fsyncs: they belong on a blocking thread
/// (`tokio::task::spawn_blocking`), never on a proxy worker. The data plane reads a [`LiveConnection`] alone.
#[derive(Clone)]
pub struct Book(Arc<()>);

/// What a change came to.
#[derive(Debug)]
#[must_use = "the old secret may be in use until it is drained"]
pub struct Changed<T> {
    /// What was changed, as it is now.
    pub now: T,
    /// The secrets that were replaced.
    pub replaced: Drain,
}

/// Secrets that were replaced, and may still be on their way to an upstream.
#[derive(Debug, Default)]
#[must_use = "the old secret may be in use until it is drained"]
pub struct Drain(());

impl Drain {
    /// Waits until no request that took one of the old secrets is still about to write its head, for `at_most` at the
    /// longest. Gives whether that is so.
    pub async fn drained(self, at_most: Duration) -> bool {
        let _ = at_most;
        unimplemented!()
    }
}

impl Book {
    /// Opens the book: `configured` are the connections of the YAML, which stand before stored ones of the same id;
    /// `vault` holds the others. Makes the gateway's sealing key where the vault has none.
    ///
    /// A stored connection or secret that does not authenticate is no fault here: that connection alone answers
    /// `SECRET_UNREADABLE`.
    ///
    /// # Errors
    /// When the sealing key can be neither read nor made.
    pub fn open(configured: Vec<Connection>, vault: Option<Vault>, clock: Clock) -> Result<Self, BookFault> {
        let _ = vault;
        unimplemented!("{configured:?} {clock:?}")
    }

    /// Tells the book the gateway's id, for which secrets are sealed; the first one counts.
    #[must_use]
    pub fn of_gateway(self, gateway_id: &str) -> Self {
        unimplemented!("{gateway_id}")
    }

    /// Puts other connections of the YAML in place of the present ones: a reload. Those that did not change keep their
    /// [`LiveConnection`].
    ///
    /// # Errors
    /// As [`Book::open`].
    pub fn replace_configured(&self, configured: Vec<Connection>) -> Result<Drain, BookFault> {
        unimplemented!("{configured:?}")
    }

    /// The connections as the data plane uses them, for `Routes::replace`. One that did not change, or only in its
    /// secret, is the same `Arc` as before.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<LiveConnection>> {
        unimplemented!()
    }

    /// Counts the changes of [`Book::live`]: who put its connections into service does it again when this moves.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// Every connection, in order of id.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        unimplemented!()
    }

    /// One connection.
    ///
    /// # Errors
    /// [`BookFault::NotFound`].
    pub fn connection(&self, id: &ConnectionId) -> Result<ConnectionView, BookFault> {
        unimplemented!("{id}")
    }

    /// Makes a connection. A secret that refers to a variable which is not there is taken: the view's `problem` says
    /// so, and requests are answered with `SECRET_UNREADABLE` until the variable is set.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Exists`], [`BookFault::Invalid`], [`BookFault::Secret`],
    /// [`BookFault::Sealed`], [`BookFault::TooMany`], and the vault's.
    pub fn create(&self, new: NewConnection) -> Result<ConnectionView, BookFault> {
        unimplemented!("{new:?}")
    }

    /// Changes a connection. Where its secret is all that changes, the [`LiveConnection`] stays and the next request
    /// uses the new one.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], [`BookFault::ReadOnly`], and those of [`Book::create`].
    pub fn update(
        &self,
        id: &ConnectionId,
        patch: ConnectionPatch,
    ) -> Result<Changed<ConnectionView>, BookFault> {
        unimplemented!("{id} {patch:?}")
    }

    /// Removes a connection with its secrets. Requests that are still about to take its secret get none.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], [`BookFault::ReadOnly`], and the vault's.
    pub fn delete(&self, id: &ConnectionId) -> Result<Drain, BookFault> {
        unimplemented!("{id}")
    }

    /// Gives secrets new values, on disk when the call returns, and used by the next request. A connection of the YAML
    /// whose secret is `store` takes exactly one, `api_key`; others of the YAML are read-only.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], [`BookFault::ReadOnly`], and those of [`Book::create`].
    pub fn rotate(
        &self,
        id: &ConnectionId,
        rotation: Rotation,
    ) -> Result<Changed<ConnectionView>, BookFault> {
        unimplemented!("{id} {rotation:?}")
    }

    /// Keeps what a test came to; without a vault, in memory.
    ///
    /// # Errors
    /// [`BookFault::NotFound`], and the vault's.
    pub fn record_test(&self, id: &ConnectionId, outcome: TestOutcome) -> Result<ConnectionView, BookFault> {
        unimplemented!("{id} {outcome:?}")
    }

    /// Keeps what a discovery of an MCP server's tools found, at most 256 KiB of JSON; without a vault, in memory.
    ///
    /// # Errors
    /// [`BookFault::NotFound`], [`BookFault::Invalid`], and the vault's.
    pub fn record_discovery(
        &self,
        id: &ConnectionId,
        found: serde_json::Value,
    ) -> Result<ConnectionView, BookFault> {
        unimplemented!("{id} {found}")
    }

    /// The shared credential variables, in order of name.
    #[must_use]
    pub fn variables(&self) -> Vec<VariableView> {
        unimplemented!()
    }

    /// Sets a variable, whether or not it is there, and resolves every connection anew that refers to it.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Invalid`], [`BookFault::Sealed`], [`BookFault::TooMany`], and the vault's.
    /// A sealed value is sealed for the connection `-` and the variable's name.
    pub fn set_variable(&self, new: NewVariable) -> Result<Changed<VariableView>, BookFault> {
        unimplemented!("{new:?}")
    }

    /// Removes a variable.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NoVariable`], [`BookFault::VariableReferenced`], and the vault's.
    pub fn delete_variable(&self, key: &str) -> Result<(), BookFault> {
        unimplemented!("{key}")
    }

    /// The service catalog: the one that was stored, else the built-in one.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        unimplemented!()
    }

    /// Stores a catalog in place of the present one, once [`Catalog::from_json`] has read it.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], and the vault's.
    pub fn set_catalog(&self, catalog: Catalog) -> Result<Arc<Catalog>, BookFault> {
        unimplemented!("{catalog:?}")
    }

    /// Whether a service has an API key of its own at the control plane.
    ///
    /// # Errors
    /// [`BookFault::NotFound`].
    pub fn service_key_view(&self, id: &ConnectionId) -> Result<ServiceKeyView, BookFault> {
        unimplemented!("{id}")
    }

    /// Sets a service's API key.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], and the vault's.
    pub fn set_service_key(&self, id: &ConnectionId, key: SecretString) -> Result<ServiceKeyView, BookFault> {
        unimplemented!("{id} {key:?}")
    }

    /// A service's API key; `None` where it has none, or it does not authenticate.
    #[must_use]
    pub fn service_key(&self, id: &ConnectionId) -> Option<SecretString> {
        unimplemented!("{id}")
    }

    /// The public key that secrets are sealed to; `None` without a vault. `id()` is its `gateway_key_id`, `to_string()`
    /// its text.
    #[must_use]
    pub fn sealing_public(&self) -> Option<SealingPublicKey> {
        unimplemented!()
    }

    /// Opens a secret that was sealed to this gateway. [`SecretInput`](super::SecretInput) does it by itself.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Sealed`], [`BookFault::Secret`].
    pub fn open_sealed(
        &self,
        sealed: &Sealed,
        gateway_id: &str,
        connection: &ConnectionId,
        secret: &SecretName,
    ) -> Result<SecretString, BookFault> {
        unimplemented!("{sealed:?} {gateway_id} {connection} {secret}")
    }

    /// When the connection's secret was last replaced; for the rotation policy.
    #[must_use]
    pub fn last_rotated_at(&self, id: &ConnectionId) -> Option<UnixTime> {
        unimplemented!("{id}")
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Book(…)")
    }
}
