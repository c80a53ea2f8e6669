//! The feed: what changed after a cursor.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::feed::{Cursor, FeedRead};
use crate::names::{Namespace, ServiceSlug};

impl Store {
    /// The changes of these services of this owner after `cursor`, at most `limit`, oldest first; the cursor that
    /// comes back counts the changes of other services too. `None` as cursor: from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn feed_after(
        &self,
        owner: &Namespace,
        services: &[ServiceSlug],
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<FeedRead, StoreFault> {
        let _ = (owner, services, cursor, limit);
        unimplemented!()
    }

    /// Forgets changes that are older than 7 days, or more than a million behind; a reader that is still there asks
    /// for a snapshot.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_feed(&self, now: UnixTime) -> Result<(), StoreFault> {
        let _ = now;
        unimplemented!()
    }
}
