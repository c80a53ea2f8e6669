//! A claim's record, its life, and what may be asked of it.

use std::net::IpAddr;

use crate::clock::UnixTime;
use crate::names::{ClaimId, Namespace, ServiceId, ServiceSlug};
use crate::policy::Scope;
use crate::protocol::PublicKey;

/// Where a claim is in its life. `Pending` goes to any other; `Approved` to `Revoked` or `Expired`; the others are ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimStatus {
    /// The owner has not decided.
    Pending,
    /// In force.
    Approved,
    /// The owner said no, or a limit or rule did.
    Rejected,
    /// Taken back.
    Revoked,
    /// Its time is over: 24 h pending, or `expires_at`.
    Expired,
}

/// One claim, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRecord {
    /// Its id.
    pub id: ClaimId,
    /// The agent's namespace, whose owner decides.
    pub namespace: Namespace,
    /// The agent's key.
    pub public_key: PublicKey,
    /// The service.
    pub service_id: ServiceId,
    /// The service's slug.
    pub service: ServiceSlug,
    /// Who owns the service.
    pub service_owner: Namespace,
    /// Who triggered it.
    pub subject: String,
    /// The agent's name in requests.
    pub agent_id: Option<String>,
    /// The agent's name for people.
    pub agent_name: Option<String>,
    /// Where the agent called from.
    pub agent_ip: IpAddr,
    /// Where it is in its life.
    pub status: ClaimStatus,
    /// What it allows; empty: everything on the service.
    pub scopes: Vec<Scope>,
    /// When it was submitted.
    pub created_at: UnixTime,
    /// When it was approved.
    pub approved_at: Option<UnixTime>,
    /// When the last decision was made: approved, rejected, revoked or expired.
    pub decided_at: Option<UnixTime>,
    /// Who decided: an owner's e-mail address, `auto` or `limit`.
    pub decided_by: Option<String>,
    /// From when on it no longer holds. Of a pending one: what was asked for.
    pub expires_at: Option<UnixTime>,
    /// The owner who approved first, where two are needed and one has.
    pub first_approver: Option<String>,
}

/// A claim that is asked for. The lengths of its texts were held to the contract by whoever made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The agent's namespace.
    pub namespace: Namespace,
    /// The agent's key.
    pub public_key: PublicKey,
    /// The service: found through the service API key's owner and the slug.
    pub service_id: ServiceId,
    /// Who triggered it; the namespace where it was not said.
    pub subject: String,
    /// The agent's name in requests.
    pub agent_id: Option<String>,
    /// The agent's name for people.
    pub agent_name: Option<String>,
    /// Where the agent called from.
    pub agent_ip: IpAddr,
    /// What is asked for; empty: what the owner's `defaultScopes` say.
    pub scopes: Vec<Scope>,
    /// How long it is to hold, in seconds; `None`: what the owner's `defaultClaimTtl` says.
    pub ttl_seconds: Option<u64>,
    /// Never twice for one namespace.
    pub nonce: String,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// A new claim, pending, or approved by the owner's rules, or rejected by a limit (`decided_by` `limit`).
    Made(ClaimRecord),
    /// A pending or approved claim for (namespace, key, service) stands already.
    Standing(ClaimRecord),
}

/// What an owner decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Approve, with an end and scopes; `None` leaves what was submitted.
    Approve {
        /// From when on it no longer holds: `Some(None)` is without end.
        expires_at: Option<Option<UnixTime>>,
        /// What it allows; an empty list is everything.
        scopes: Option<Vec<Scope>>,
    },
    /// Say no to a pending one.
    Reject,
    /// Take back an approved one (or a pending one).
    Revoke,
}

/// Which claims of a namespace are listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClaimFilter {
    /// Only those.
    pub status: Option<ClaimStatus>,
    /// Only this service's.
    pub service: Option<ServiceSlug>,
    /// At most so many, 1 to 1,000.
    pub limit: usize,
    /// Skip so many.
    pub offset: usize,
}

/// Why a claim is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimFault {
    /// No claim of the caller's namespace has this id.
    #[error("there is no claim {0} in this namespace")]
    NotFound(ClaimId),
    /// No such namespace.
    #[error("there is no namespace {0}")]
    NoNamespace(Namespace),
    /// No such service: it was removed meanwhile.
    #[error("there is no service {0}")]
    NoService(ServiceId),
    /// The submission's nonce was used before.
    #[error("the nonce was used before; make a new one for each submission")]
    NonceReplay,
    /// The decision does not follow from where the claim is.
    #[error("the claim is {} and can not be {wanted}", .status.word())]
    Transition {
        /// Where it is.
        status: ClaimStatus,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The end lies in the past.
    #[error("expires_at {0} is in the past; give a later one, or none")]
    EndInPast(UnixTime),
    /// One more would be more than the namespace's or the service's limit.
    #[error("{what} is limited to {most}, and that many are approved; revoke one first or raise the limit")]
    Limit {
        /// What is counted, as in "the number of agents on one service".
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// Two owners must approve, and it was the same one twice.
    #[error("this namespace wants a second approver; {0} has approved already")]
    SecondApprover(String),
}

impl ClaimStatus {
    /// As the contract writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// From the contract's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Rejected, Self::Revoked, Self::Expired]
            .into_iter()
            .find(|status| status.word() == word)
    }
}
