//! How the feed of one group went lately; logged when that changes.

use super::fault::FeedFault;
use super::state::FeedFailure;

#[derive(Default)]
pub(super) struct Health {
    /// In a row.
    failures: u32,
    last: Option<(FeedFailure, Meanwhile)>,
}

/// What is true while something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meanwhile {
    /// The last claims serve until they are too old.
    Nothing,
    /// Claims are polled.
    Polled,
    /// The stream that is open is followed.
    Followed,
}

impl Health {
    pub(super) fn good(&mut self) {
        if self.last.is_some() {
            tracing::info!(failures = self.failures, "approved claims are received again");
        }
        *self = Self::default();
    }

    pub(super) fn bad(&mut self, fault: &FeedFault, meanwhile: Meanwhile) {
        let now = Some((fault.failure(), meanwhile));
        if self.last != now {
            match meanwhile {
                Meanwhile::Nothing => tracing::warn!(
                    %fault, "approved claims are not received; the last ones serve until they are too old"
                ),
                Meanwhile::Polled => {
                    tracing::warn!(%fault, "the stream of claims cannot be had; they are polled meanwhile");
                }
                Meanwhile::Followed => {
                    tracing::warn!(%fault, "another stream of claims cannot be had; the open one is followed");
                }
            }
        }
        self.failures = self.failures.saturating_add(1);
        self.last = now;
    }
}
