//! What is told of the approved claims: to readiness, metrics and the admin API.

use std::time::Duration;

use crate::clock::UnixTime;
use crate::names::ConnectionId;

/// How the last try to receive claims failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedFailure {
    /// No answer, or one that says that the control plane itself is in trouble.
    Unreachable,
    /// The control plane refuses this gateway, or its answer cannot be read.
    Refused,
}

/// How claims are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClaimsSource {
    /// They are not: those of the configuration alone decide.
    #[default]
    None,
    /// They are asked for again and again.
    Poll,
    /// Changes are pushed.
    Stream,
}

impl ClaimsSource {
    /// `none`, `poll` or `stream`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Poll => "poll",
            Self::Stream => "stream",
        }
    }
}

/// What readiness, metrics and admin show of the index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClaimsState {
    /// The claims of all services that have a service API key were received once, but for those that the control plane
    /// refuses while it gives others; or no feed is configured.
    pub ready: bool,
    /// Claims held.
    pub entries: usize,
    /// Time since all claims were last known to be whole, of the service where that is longest ago; `None` without a
    /// feed, or where one service's claims were never received.
    pub age: Option<Duration>,
    /// How they are received; `Poll` where at least one service's are polled.
    pub source: ClaimsSource,
    /// Whether the control plane is heard for all services: the stream is open, or the last poll was answered well.
    pub connected: bool,
    /// When the control plane was last heard: an event or heartbeat of a stream, or a page that was polled.
    pub last_event_at: Option<UnixTime>,
    /// The services whose claims are not received, since no service API key is set for them.
    pub without_key: Vec<ConnectionId>,
    /// What stands in the way of one service's claims now, as a sentence.
    pub problem: Option<String>,
}

/// What is known of one service's claims.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceClaims {
    /// They were received once, so that an agent without one is refused as such.
    pub received: bool,
    /// Whether the control plane is heard for this service.
    pub connected: bool,
    /// What stands in the way now, as a sentence.
    pub problem: Option<String>,
}

/// What the feed tells of one service.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) source: ClaimsSource,
    pub(super) connected: bool,
    pub(super) last_event_at: Option<UnixTime>,
    pub(super) problem: Option<String>,
}
