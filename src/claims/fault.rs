//! Why claims are not received.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use super::control_plane::{CallFault, is_passing};
use super::state::FeedFailure;
use crate::names::ConnectionId;

/// Why a reading of the feed failed, or its stream ended. The last good state stays in force until it is too old.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedFault {
    /// The control plane could not be asked.
    #[error(transparent)]
    Call(#[from] CallFault),
    /// It answers with another status than 200.
    #[error("the control plane answers {status}{} for the claims of {service}", Code(.code.as_deref()))]
    Status {
        /// The service asked for.
        service: ConnectionId,
        /// The status.
        status: StatusCode,
        /// The code of its error envelope.
        code: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It answers 200, and not with a page of claims.
    #[error(
        "the control plane's page of claims of {service} is not what it should be, at line {line}, column {column}"
    )]
    Unreadable {
        /// The service asked for.
        service: ConnectionId,
        /// The line of the JSON text, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// More pages are announced, and the next one does not go on where the last one ended.
    #[error("the control plane's pages of claims of {service} do not go on at offset {offset}")]
    NoProgress {
        /// The service asked for.
        service: ConnectionId,
        /// Where the page should have begun.
        offset: usize,
    },
    /// More claims than may be held.
    #[error(
        "there are more than {most} approved claims; raise GATEWAY_CLAIMS_CACHE_MAX_APPROVED or ask for fewer services"
    )]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// The control plane gives pages of claims, and no stream.
    #[error(
        "the control plane has no stream of claims, and control_plane.claims.source is stream; write auto or poll"
    )]
    NoStream,
    /// It refuses the stream.
    #[error("the control plane answers {status}{} for the stream of claims", Code(.code.as_deref()))]
    StreamStatus {
        /// The status.
        status: StatusCode,
        /// The code of its error envelope.
        code: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It answers 200, and not with a stream of events.
    #[error("the control plane's stream of claims is not text/event-stream")]
    NoEvents,
    /// The stream ended, or its connection broke.
    #[error("the stream of claims was cut: {0}")]
    Cut(String),
    /// The stream's heart stands still.
    #[error("the stream of claims was silent for {secs} s")]
    Silent {
        /// How long.
        secs: u64,
    },
    /// A line or an event of the stream has no end.
    #[error("{what} of the stream of claims has more than {most_bytes} bytes")]
    TooLong {
        /// `a line` or `an event`.
        what: &'static str,
        /// The limit.
        most_bytes: usize,
    },
    /// The stream holds a field that is no UTF-8.
    #[error("an event of the stream of claims is not UTF-8")]
    NotUtf8,
    /// An event withdraws a claim, and which one cannot be read.
    #[error("an event that withdraws a claim cannot be read; all claims are read anew")]
    Withdrawal,
    /// An event's id is no cursor.
    #[error("an event's id is not 1 to 128 visible ASCII characters, as a cursor is")]
    Cursor,
    /// More events than are kept before the stream has caught up.
    #[error("more than {most} events came before the first heartbeat; all claims are read anew")]
    Backlog {
        /// The limit.
        most: usize,
    },
    /// The control plane no longer knows what came after the cursor.
    #[error("the control plane asks for all claims to be read anew")]
    SnapshotRequired,
}

struct Code<'a>(Option<&'a str>);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " {code}"))
    }
}

impl FeedFault {
    /// Whether the control plane is out of reach or in trouble, or refuses and cannot be understood.
    #[must_use]
    pub fn failure(&self) -> FeedFailure {
        match self {
            Self::Call(CallFault::Unreachable { .. })
            | Self::Cut(_)
            | Self::Silent { .. }
            | Self::SnapshotRequired => FeedFailure::Unreachable,
            Self::Status { status, code, .. } | Self::StreamStatus { status, code, .. }
                if is_passing(*status, code.as_deref()) =>
            {
                FeedFailure::Unreachable
            }
            _ => FeedFailure::Refused,
        }
    }

    /// Whether this service is not there: whoever had it has deleted it, and all its claims with it.
    pub(super) fn is_no_service(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::NOT_FOUND, code: Some(code), .. } if code == NO_SERVICE)
    }

    /// Whether the control plane answers like one that has no stream. The same answer says of a service that it is not
    /// there.
    pub(super) fn is_no_stream(&self) -> bool {
        match self {
            Self::NoStream => true,
            Self::StreamStatus { status, code, .. } => {
                matches!(status.as_u16(), 404 | 405 | 501) && code.as_deref() != Some(NO_SERVICE)
            }
            _ => false,
        }
    }

    /// Whether the way to the control plane is good as far as is known, and pages may be had where a stream is not.
    pub(super) fn is_of_the_stream(&self) -> bool {
        match self {
            Self::Call(_)
            | Self::Status { .. }
            | Self::Unreadable { .. }
            | Self::NoProgress { .. }
            | Self::TooMany { .. } => false,
            Self::NoStream
            | Self::StreamStatus { .. }
            | Self::NoEvents
            | Self::Cut(_)
            | Self::Silent { .. }
            | Self::TooLong { .. }
            | Self::NotUtf8
            | Self::Withdrawal
            | Self::Cursor
            | Self::Backlog { .. }
            | Self::SnapshotRequired => true,
        }
    }

    /// When the control plane wants to be asked again, where it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::StreamStatus { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the cursor is of no more use: what it leads to would fail again, or is not there.
    pub(super) fn needs_pages(&self) -> bool {
        match self {
            Self::Call(_) | Self::Cut(_) | Self::Silent { .. } => false,
            Self::StreamStatus { .. } => self.failure() == FeedFailure::Refused && !self.is_no_stream(),
            _ => true,
        }
    }
}

/// What the control plane says of a service that is not there.
const NO_SERVICE: &str = "SERVICE_NOT_FOUND";
