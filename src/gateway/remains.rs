//! What is known of an exchange that was let go in its middle, for the log and for its client.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};

use super::reject::{About, Verdict};
use crate::clock::UnixTime;
use crate::names::{ConnectionId, RequestId};
use crate::policy::Claim;
use crate::protocol::VerifiedSignature;

/// How a claim ended under an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The control plane gives it no more.
    Revoked,
    /// Its own end has come.
    Expired,
}

impl Ending {
    /// As a client is told the claim's status.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// An exchange whose claim was withdrawn under it.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) ending: Ending,
    pub(super) request_id: RequestId,
    pub(super) received: UnixTime,
    pub(super) started: Instant,
    pub(super) client: Option<IpAddr>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) claim: Option<Arc<Claim>>,
    pub(super) verified: Option<VerifiedSignature>,
    pub(super) method: Method,
    pub(super) path: String,
    /// The answer of the gateway itself, where it had begun one.
    pub(super) verdict: Option<Verdict>,
    /// The status of the upstream's answer, where it had come.
    pub(super) status: Option<StatusCode>,
    pub(super) upstream_began: Option<Instant>,
    pub(super) upstream_head: Option<Instant>,
    pub(super) upstream_last: Option<Instant>,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

impl Remains {
    /// Whether its client has had no answer yet, nor the beginning of one.
    pub(super) fn is_unanswered(&self) -> bool {
        self.status.is_none() && self.verdict.is_none()
    }

    /// What a refusal says of it.
    pub(super) fn about(&self) -> About<'_> {
        About {
            request_id: &self.request_id,
            received: self.received,
            connection: self.connection.as_ref().map_or("", ConnectionId::as_str),
        }
    }
}
