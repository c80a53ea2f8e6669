//! Everything that the gateway refuses or fails at, before it has a status.

use crate::claims::Registration;
use crate::clock::UnixTime;
use crate::policy::Denied;
use crate::protocol;
use crate::replay::ReplayFault;

use super::head::HeadFault;
use super::path::PathFault;

/// Why a request is not proxied, or did not come back. The sentences are what a client reads.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Head(HeadFault),
    #[error("the request head is larger than this gateway takes")]
    HeadTooLarge,
    #[error("the request head did not arrive in time")]
    HeaderTimeout,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("there is nothing here; requests to a provider go to /proxy/<connection id>/<path>")]
    NotFound,
    #[error("this method is not served here")]
    MethodNotAllowed,
    #[error("{0}")]
    Path(PathFault),
    #[error("no connection has this id; ask the gateway's operator which ones there are")]
    ConnectionNotFound,
    #[error("this connection is disabled; ask the gateway's operator to enable it")]
    ConnectionDisabled,
    #[error("{0}")]
    Signature(protocol::Refusal),
    #[error("{}", Denied::ClaimRequired)]
    ClaimRequired(Registration),
    #[error("{}", Denied::ScopeDenied)]
    ScopeDenied,
    #[error("too many claims were submitted in the last minute; retry later")]
    ClaimSubmitRateLimited { retry_after_secs: u64 },
    #[error("the gateway has not heard from its control plane for too long to decide; retry later")]
    ClaimsUnavailable,
    #[error(
        "the gateway's control plane refuses to tell it the approved claims; tell the gateway's operator"
    )]
    ClaimsLookupFailed,
    #[error("{0}")]
    Replay(ReplayFault),
    #[error("the body is not the one whose content-digest was signed")]
    DigestMismatch,
    #[error("the request body is larger than {max_bytes} bytes")]
    BodyTooLarge { max_bytes: u64 },
    #[error(
        "this connection takes no body that cannot be verified before it is sent on: at most {window_bytes} bytes"
    )]
    BodyUnverifiable { window_bytes: u64 },
    #[error("the request body arrived too slowly")]
    BodyTimeout,
    #[error("there were too many requests; retry later")]
    RateLimited { retry_after_secs: u64 },
    #[error("the gateway is at its limit; retry later")]
    Overloaded,
    #[error("the gateway is not ready: it waits for {0}")]
    NotReady(&'static str),
    #[error("the provider's secret cannot be read; tell the gateway's operator")]
    SecretUnreadable,
    #[error(
        "the provider's secret was due to be replaced at {since}; tell the gateway's operator to rotate it"
    )]
    RotationRequired { since: UnixTime },
    #[error("the provider's answer holds the secret that it was sent, and is kept back")]
    SecretReflected,
    #[error("the provider could not be reached, or broke the exchange off")]
    Upstream(UpstreamFault),
    #[error("the provider did not answer in time")]
    UpstreamTimeout,
    #[error("no endpoint of the provider is available; retry later")]
    UpstreamUnavailable,
    #[error("the gateway failed at this request")]
    Internal,
}

/// What went wrong towards the upstream; also the `class` label of its metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamFault {
    Connect,
    Tls,
    Reset,
    Protocol,
    Other,
}

impl UpstreamFault {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }
}

impl From<protocol::Refusal> for Refusal {
    fn from(refusal: protocol::Refusal) -> Self {
        Self::Signature(refusal)
    }
}

impl From<ReplayFault> for Refusal {
    fn from(fault: ReplayFault) -> Self {
        Self::Replay(fault)
    }
}

impl From<PathFault> for Refusal {
    fn from(fault: PathFault) -> Self {
        Self::Path(fault)
    }
}
