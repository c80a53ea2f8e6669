//! Usage events, and what they add up to.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::usage::{UsageEvent, UsageRow, UsageSort};
use crate::names::Namespace;

impl Store {
    /// Takes events, in one transaction; gives how many were new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_usage(&self, events: &[UsageEvent]) -> Result<usize, StoreFault> {
        let _ = events;
        unimplemented!()
    }

    /// What the namespace's agents did, a row for each (subject, key, service), and how many rows there are in all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage_of(
        &self,
        namespace: &Namespace,
        sort: UsageSort,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<UsageRow>, u64), StoreFault> {
        let _ = (namespace, sort, limit, offset);
        unimplemented!()
    }

    /// Forgets the events that are older than 90 days; the sums stay.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_usage(&self, now: UnixTime) -> Result<(), StoreFault> {
        let _ = now;
        unimplemented!()
    }
}
