//! The book of connections: all that a gateway has, from its configuration and from its vault.

mod fault;
mod keys;
mod page;
mod paired;
mod records;
mod stored;
mod turn;
mod variables;
mod write;

#[cfg(test)]
mod tests;

pub use fault::BookFault;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::sync::watch;

use self::page::Page;
use self::paired::Hand;
use self::records::Records;
use super::live::Retired;
use super::{Catalog, Connection, ConnectionView, LiveConnection, VariableView};
use crate::clock::Clock;
use crate::names::ConnectionId;
use crate::protocol::sealed::SealingKey;
use crate::vault::Vault;

/// The one owner of a gateway's connections. Clones are the same book.
///
/// Its calls block, those that write for the length of some fsyncs: they belong on a blocking thread
/// (`tokio::task::spawn_blocking`), never on a proxy worker. The data plane reads a [`LiveConnection`] alone.
#[derive(Clone)]
pub struct Book(Arc<Shelf>, Hand);

/// What all clones of a book share.
struct Shelf {
    vault: Option<Vault>,
    clock: Clock,
    gateway_id: OnceLock<String>,
    sealing: Option<SealingKey>,
    /// Held by who writes, over the write to the vault and the new page; readers never wait for it.
    writing: Mutex<()>,
    /// Held by who looks whether a seal is used up, and uses it up.
    seals: Mutex<()>,
    page: ArcSwap<Page>,
    changes: watch::Sender<u64>,
}

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
pub struct Drain(Vec<Retired>);

impl Drain {
    /// Waits until no request that took one of the old secrets is still about to write its head, for `at_most` at the
    /// longest. Gives whether that is so.
    pub async fn drained(self, at_most: Duration) -> bool {
        let all = join_all(self.0.into_iter().map(|retired| retired.drained(at_most))).await;
        all.into_iter().all(|drained| drained)
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
    /// When there is no sealing key and the vault does not take a new one.
    pub fn open(configured: Vec<Connection>, vault: Option<Vault>, clock: Clock) -> Result<Self, BookFault> {
        let sealing = vault.as_ref().map(keys::sealing).transpose()?;
        let page = Page {
            configured: BTreeMap::new(),
            entries: BTreeMap::new(),
            variables: vault.as_ref().map(|vault| Records(vault).variables()).unwrap_or_default(),
            stored_catalog: vault.as_ref().and_then(keys::stored_catalog),
            default_catalog: Arc::new(Catalog::built_in().clone()),
        };
        let shelf = Shelf {
            vault,
            clock,
            gateway_id: OnceLock::new(),
            sealing,
            writing: Mutex::new(()),
            seals: Mutex::new(()),
            page: ArcSwap::from_pointee(page),
            changes: watch::Sender::new(0),
        };
        let book = Self(Arc::new(shelf), Hand::Operator);
        let stored = book.0.vault.as_ref().map(|vault| Records(vault).ids()).unwrap_or_default();
        book.0.configure(configured, stored);
        Ok(book)
    }

    /// Puts a catalog in place of the built-in one, where none was stored.
    #[must_use]
    pub fn with_catalog(self, catalog: Catalog) -> Self {
        self.0.edit(|page| page.default_catalog = Arc::new(catalog));
        self
    }

    /// Tells the book the gateway's id, for which secrets are sealed; the first one counts.
    #[must_use]
    pub fn of_gateway(self, gateway_id: &str) -> Self {
        // The first one counts.
        let _ = self.0.gateway_id.set(gateway_id.to_owned());
        self
    }

    /// The same book as a paired control plane may change it, which carries other people's secrets and is not to get any:
    /// it takes secrets sealed alone and each seal once, takes no reference to a variable, and lets no secret that is
    /// kept go another way than before.
    #[must_use]
    pub fn paired(&self) -> Self {
        Self(Arc::clone(&self.0), Hand::ControlPlane)
    }

    /// Puts other connections of the YAML in place of the present ones: a reload. Those that did not change keep their
    /// [`LiveConnection`].
    pub fn replace_configured(&self, configured: Vec<Connection>) {
        let _writing = self.0.write();
        self.0.configure(configured, Vec::new());
    }

    /// The connections as the data plane uses them, for `Routes::replace`. One that did not change, or only in its
    /// secret, is the same `Arc` as before.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<LiveConnection>> {
        self.0.page.load().entries.values().map(|entry| Arc::clone(&entry.live)).collect()
    }

    /// Counts the changes of [`Book::live`]: who put its connections into service does it again when this moves.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Every connection, in order of id.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        self.0.page.load().entries.values().map(|entry| entry.view()).collect()
    }

    /// One connection.
    ///
    /// # Errors
    /// [`BookFault::NotFound`].
    pub fn connection(&self, id: &ConnectionId) -> Result<ConnectionView, BookFault> {
        self.0.view(id)
    }

    /// The shared credential variables, in order of name.
    #[must_use]
    pub fn variables(&self) -> Vec<VariableView> {
        let page = self.0.page.load();
        page.variables.keys().filter_map(|key| page.variable(key)).collect()
    }

    /// The service catalog: the one that was stored, else the one of [`Book::with_catalog`], else the built-in one.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        let page = self.0.page.load();
        Arc::clone(page.stored_catalog.as_ref().unwrap_or(&page.default_catalog))
    }
}

impl Shelf {
    /// Changes the page in what is not a connection.
    fn edit(&self, edit: impl FnOnce(&mut Page)) {
        let _writing = self.write();
        let mut page = Page::clone(&self.page.load());
        edit(&mut page);
        self.page.store(Arc::new(page));
    }

    fn write(&self) -> MutexGuard<'_, ()> {
        // A panic between the vault's write and the new page leaves an older page, which the next write mends.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vault(&self) -> Result<&Vault, BookFault> {
        self.vault.as_ref().ok_or(BookFault::NoVault)
    }

    fn view(&self, id: &ConnectionId) -> Result<ConnectionView, BookFault> {
        let page = self.page.load();
        page.entries.get(id).map(|entry| entry.view()).ok_or_else(|| BookFault::NotFound(id.clone()))
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("connections", &self.0.page.load().entries.len()).finish_non_exhaustive()
    }
}
