//! A connection as the data plane runs it: its credential, its endpoints and its limits.

use std::sync::Arc;

use tokio::sync::watch;

use super::limits::Gate;
use super::pem::UpstreamFileFault;
use super::upstream::Upstream;
use crate::clock::UnixTime;
use crate::connections::{Connection, Credential, LiveConnection, Sending};
use crate::policy::{RotationPolicy, RotationState};

/// A connection in service. Its background work ends when it is dropped.
#[derive(Debug)]
pub(super) struct Provider {
    live: Arc<LiveConnection>,
    pub(super) upstream: Upstream,
    pub(super) gate: Gate,
    retired: watch::Sender<bool>,
}

impl Provider {
    pub(super) fn new(live: Arc<LiveConnection>) -> Result<Self, UpstreamFileFault> {
        let upstream = Upstream::new(live.config())?;
        let gate = Gate::new(live.config().limits);
        Ok(Self { live, upstream, gate, retired: watch::Sender::new(false) })
    }

    pub(super) fn config(&self) -> &Connection {
        self.live.config()
    }

    pub(super) fn credential(&self) -> Result<Option<Arc<Credential>>, String> {
        self.live.credential()
    }

    /// The credential for a request that keeps the [`Sending`] until its head is written.
    pub(super) fn lend(&self) -> Result<Option<(Arc<Credential>, Sending)>, String> {
        self.live.lend()
    }

    /// Whether its secret is due to be replaced.
    pub(super) fn rotation(&self, policy: RotationPolicy, now: UnixTime) -> RotationState {
        policy.judge(self.live.last_rotated_at(), self.config().rotation_interval_days, now)
    }

    pub(super) fn refresh(&self) -> bool {
        self.live.refresh()
    }

    /// Whether this is the running form of `live`.
    pub(super) fn is_of(&self, live: &Arc<LiveConnection>) -> bool {
        Arc::ptr_eq(&self.live, live)
    }

    /// Resolves and probes its endpoints in the background, as long as it is in service.
    pub(super) fn watch(this: &Arc<Self>) {
        let (upstream, retired) = (this.upstream.clone(), this.retired.subscribe());
        tokio::spawn(async move { upstream.watch(retired).await });
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.retired.send_replace(true);
    }
}
