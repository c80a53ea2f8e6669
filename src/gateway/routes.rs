//! The connections in service: one immutable table, swapped whole when they change, read without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::join_all;

use super::pem::UpstreamFileFault;
use super::provider::Provider;
use super::upstream::Upstream;
use crate::connections::{Connection, LiveConnection};
use crate::names::ConnectionId;

/// A connection that cannot be put into service.
#[derive(Debug, thiserror::Error)]
#[error("connection {id}: {fault}")]
pub struct ProviderFault {
    /// The connection.
    pub id: ConnectionId,
    /// What is wrong with one of its files.
    pub fault: UpstreamFileFault,
}

/// The table of connections. Clones share it; a change is visible to the next request.
#[derive(Debug, Clone, Default)]
pub struct Routes(Arc<ArcSwap<HashMap<String, Arc<Provider>>>>);

impl Routes {
    /// Puts exactly these connections into service. One that stands already keeps its upstream connections, its health
    /// and its limits; a new one is resolved first. One that cannot be used is left out of service, and the rest go on.
    ///
    /// Must be called inside a Tokio runtime that stays, since endpoints are resolved and probed in the background.
    ///
    /// # Errors
    /// The first connection whose files cannot be used.
    pub async fn replace(
        &self,
        connections: impl IntoIterator<Item = Arc<LiveConnection>>,
    ) -> Result<(), ProviderFault> {
        let standing = self.0.load_full();
        let mut next = HashMap::new();
        let mut new = Vec::new();
        let mut fault = None;
        for live in connections {
            let id = live.config().id.clone();
            let kept = standing.get(id.as_str()).filter(|provider| provider.is_of(&live));
            let provider = match kept {
                Some(provider) => Arc::clone(provider),
                None => {
                    let provider = match Provider::new(live) {
                        Ok(provider) => Arc::new(provider),
                        Err(unusable) => {
                            fault.get_or_insert(ProviderFault { id, fault: unusable });
                            continue;
                        }
                    };
                    new.push(Arc::clone(&provider));
                    provider
                }
            };
            next.insert(id.as_str().to_owned(), provider);
        }
        join_all(new.iter().map(|provider| provider.upstream.resolve())).await;
        new.iter().for_each(Provider::watch);
        self.0.store(Arc::new(next));
        fault.map_or(Ok(()), Err)
    }

    /// Looks whether these could be put into service, and changes nothing. Reads their files.
    ///
    /// # Errors
    /// The first connection whose files cannot be used.
    pub fn check<'a>(connections: impl IntoIterator<Item = &'a Connection>) -> Result<(), ProviderFault> {
        connections.into_iter().try_for_each(|connection| {
            let checked = Upstream::new(connection).map(drop);
            checked.map_err(|fault| ProviderFault { id: connection.id.clone(), fault })
        })
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Provider>> {
        self.0.load().get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Provider>> {
        self.0.load().values().cloned().collect()
    }
}
