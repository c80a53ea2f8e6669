//! Which services the gateway serves, and the key that opens each at the control plane.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::connections::{Book, SecretSource, SecretUnreadable};
use crate::names::ConnectionId;
use crate::secret::SecretString;

/// The services whose claims the gateway wants, and their service API keys, as they are at each moment. Clones are the
/// same.
///
/// The key of a service is the one of the variable `SIGILUM_SERVICE_API_KEY_<ID>`, else the one that is stored in the
/// book, else the common one.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    of: Of,
    common: Option<SecretSource>,
    moved: watch::Sender<()>,
}

enum Of {
    Fixed(Vec<ConnectionId>),
    Book(Book),
}

/// What opens a service, without the key itself: enough to see which services share one, and when it changes.
pub(super) enum Opened {
    /// A key with this digest.
    By([u8; 32]),
    /// No key is set for it.
    Not,
    /// One is set, and cannot be read.
    Unreadable(SecretUnreadable),
}

impl Services {
    /// The connections of `book`, those that are made and deleted later too. `common` is the key of those without one
    /// of their own.
    #[must_use]
    pub fn of_book(book: Book, common: Option<SecretSource>) -> Self {
        Self::new(Of::Book(book), common)
    }

    /// Always these, and no stored key.
    #[must_use]
    pub fn fixed(services: Vec<ConnectionId>, common: SecretSource) -> Self {
        Self::new(Of::Fixed(services), Some(common))
    }

    fn new(of: Of, common: Option<SecretSource>) -> Self {
        Self(Arc::new(Inner { of, common, moved: watch::Sender::new(()) }))
    }

    /// Says that connections or stored keys may have changed: the feed looks at once. It costs little where nothing has.
    pub fn changed(&self) {
        self.0.moved.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.moved.subscribe()
    }

    /// Every service and what opens it. It blocks: files and the vault are read.
    pub(super) fn opened(&self) -> Vec<(ConnectionId, Opened)> {
        let ids = match &self.0.of {
            Of::Fixed(ids) => ids.clone(),
            Of::Book(book) => book.live().iter().map(|live| live.config().id.clone()).collect(),
        };
        let opened = |id: ConnectionId| {
            let opened = match self.key(&id) {
                Ok(Some(key)) => Opened::By(Sha256::digest(key.expose()).into()),
                Ok(None) => Opened::Not,
                Err(fault) => Opened::Unreadable(fault),
            };
            (id, opened)
        };
        ids.into_iter().map(opened).collect()
    }

    /// The service's key; `None` where none is set. It blocks.
    ///
    /// # Errors
    /// When one is set and cannot be read.
    pub(super) fn key(&self, service: &ConnectionId) -> Result<Option<SecretString>, SecretUnreadable> {
        let own = own_variable(service);
        // An empty variable counts as not set, which is how compose files leave them.
        if std::env::var(&own).is_ok_and(|value| !value.trim().is_empty()) {
            return SecretSource::Env(own).read().map(Some);
        }
        let stored = match &self.0.of {
            Of::Fixed(_) => None,
            Of::Book(book) => book.service_key(service),
        };
        match (stored, &self.0.common) {
            (Some(key), _) => Ok(Some(key)),
            (None, Some(common)) => common.read().map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("common", &self.0.common).finish_non_exhaustive()
    }
}

/// The variable that holds the key of one service.
fn own_variable(id: &ConnectionId) -> String {
    format!("SIGILUM_SERVICE_API_KEY_{}", id.as_str().to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_of_a_service_is_its_id_in_capitals() {
        assert_eq!(own_variable(&"open-ai2".parse().unwrap()), "SIGILUM_SERVICE_API_KEY_OPEN_AI2");
    }

    #[test]
    fn services_with_one_key_are_opened_alike_and_those_without_one_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let ids: Vec<ConnectionId> = vec!["openai".parse().unwrap(), "slack".parse().unwrap()];
        let services = Services::fixed(ids, SecretSource::File(file.clone()));
        assert!(services.opened().iter().all(|(_, opened)| matches!(opened, Opened::Unreadable(_))));
        let digests = |key: &str| {
            std::fs::write(&file, key).unwrap();
            let opened = services.opened().into_iter().map(|(_, opened)| match opened {
                Opened::By(digest) => digest,
                Opened::Not | Opened::Unreadable(_) => panic!("the key is there"),
            });
            opened.collect::<Vec<_>>()
        };
        let (first, second) = (digests("sk_live_first"), digests("sk_live_second"));
        assert!(first[0] == first[1] && second[0] == second[1] && first[0] != second[0]);
        let book = Book::open(Vec::new(), None, crate::clock::Clock::system()).unwrap();
        let none = Services::of_book(book, None);
        assert!(none.key(&"openai".parse().unwrap()).unwrap().is_none());
    }
}
