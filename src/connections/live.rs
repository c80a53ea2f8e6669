//! Connections as the data plane uses them: the secret read, what is injected made ready.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Connection, SecretUnreadable};
use crate::names::ConnectionId;
use crate::secret::SecretString;

/// A connection and the present value of its secret.
#[derive(Debug)]
pub struct LiveConnection {
    /// As configured.
    pub config: Connection,
    secret: Option<Result<SecretString, SecretUnreadable>>,
}

impl LiveConnection {
    /// Reads the secret of `config` now.
    #[must_use]
    pub fn open(config: Connection) -> Self {
        let secret = config.secret.as_ref().map(super::SecretSource::read);
        Self { config, secret }
    }

    /// The secret; `Ok(None)` where nothing is injected.
    ///
    /// # Errors
    /// Why it could not be read.
    pub fn secret(&self) -> Result<Option<&SecretString>, &SecretUnreadable> {
        self.secret.as_ref().map(Result::as_ref).transpose()
    }
}

/// All connections, swapped whole.
#[derive(Debug)]
pub struct Connections(ArcSwap<HashMap<ConnectionId, Arc<LiveConnection>>>);

impl Connections {
    /// From what is configured. A secret that cannot be read leaves its connection without one: it answers
    /// `SECRET_UNREADABLE`, the rest go on.
    #[must_use]
    pub fn new(connections: impl IntoIterator<Item = LiveConnection>) -> Self {
        Self(ArcSwap::from_pointee(index(connections)))
    }

    /// The connection of this id, with or without life.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<LiveConnection>> {
        let id: ConnectionId = id.parse().ok()?;
        self.0.load().get(&id).cloned()
    }

    /// All of them, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<LiveConnection>> {
        self.0.load().values().cloned().collect()
    }
}

fn index(connections: impl IntoIterator<Item = LiveConnection>) -> HashMap<ConnectionId, Arc<LiveConnection>> {
    connections.into_iter().map(|live| (live.config.id.clone(), Arc::new(live))).collect()
}
