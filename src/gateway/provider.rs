//! A connection as the data plane runs it: its credential, its endpoints and its limits.

use std::sync::Arc;

use super::limits::Gate;
use super::upstream::{Upstream, UpstreamFileFault};
use crate::connections::{Connection, Credential, LiveConnection};

/// A connection in service.
#[derive(Debug)]
pub(super) struct Provider {
    live: Arc<LiveConnection>,
    pub(super) upstream: Upstream,
    pub(super) gate: Gate,
}

impl Provider {
    pub(super) fn new(live: Arc<LiveConnection>) -> Result<Self, UpstreamFileFault> {
        let upstream = Upstream::new(live.config())?;
        let gate = Gate::new(live.config().limits);
        Ok(Self { live, upstream, gate })
    }

    pub(super) fn config(&self) -> &Connection {
        self.live.config()
    }

    pub(super) fn credential(&self) -> Result<Option<Arc<Credential>>, String> {
        self.live.credential()
    }

    pub(super) fn refresh(&self) -> bool {
        self.live.refresh()
    }
}
