//! What agents did, as gateways and services tell it.

use std::net::IpAddr;
use std::str::FromStr;

use crate::clock::UnixTime;
use crate::names::{Namespace, ServiceSlug, UsageEventId};
use crate::protocol::PublicKey;

/// One event. The lengths of its texts were held to the contract by whoever made it.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageEvent {
    /// Its id, unique among the events of one service owner: one that is there already changes nothing.
    pub id: UsageEventId,
    /// The agent's namespace.
    pub namespace: Namespace,
    /// The service.
    pub service: ServiceSlug,
    /// The agent's key.
    pub public_key: PublicKey,
    /// Who triggered it.
    pub subject: String,
    /// The agent's name.
    pub agent_id: Option<String>,
    /// `http` or `mcp`.
    pub protocol: String,
    /// What was done, as in `proxy.request`.
    pub action: String,
    /// `success`, `rejected` or `error`.
    pub outcome: String,
    /// The status that the agent got.
    pub status_code: Option<u16>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// Bytes of the answer's body.
    pub response_bytes: Option<u64>,
    /// The method.
    pub request_method: Option<String>,
    /// The path at the provider, without its query.
    pub request_path: Option<String>,
    /// Where the agent called from.
    pub remote_ip: Option<IpAddr>,
}

/// How usage is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageSort {
    /// `recent`: who was last active first.
    #[default]
    Recent,
    /// `calls_desc`: who called most first.
    CallsDesc,
    /// `subject_asc`: by name.
    SubjectAsc,
}

/// What one subject did on one service with one key.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRow {
    /// Who.
    pub subject: String,
    /// The agent's name.
    pub agent_id: Option<String>,
    /// The agent's key.
    pub public_key: PublicKey,
    /// The service.
    pub service: ServiceSlug,
    /// Who owns the service, and so told of the calls.
    pub service_owner: Namespace,
    /// Calls in all.
    pub calls: u64,
    /// Of these, such as did not succeed.
    pub errors: u64,
    /// Bytes of answers.
    pub response_bytes: u64,
    /// Milliseconds that they took, together.
    pub duration_ms: u64,
    /// When the first was told of.
    pub first_at: UnixTime,
    /// When the last was told of.
    pub last_at: UnixTime,
    /// How the last went.
    pub last: LastCall,
}

/// How the last call of a row went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastCall {
    /// `http` or `mcp`.
    pub protocol: String,
    /// What was done.
    pub action: String,
    /// `success`, `rejected` or `error`.
    pub outcome: String,
    /// The status that the agent got.
    pub status_code: Option<u16>,
}

/// What became of events that were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageTaken {
    /// New ones.
    pub accepted: usize,
    /// Such as were there already; they changed nothing.
    pub duplicates: usize,
    /// Such as name a namespace or a service that does not stand; nobody could look at them.
    pub ignored: usize,
}

/// The word is none that usage is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be recent, calls_desc or subject_asc")]
pub struct NotAUsageSort;

impl FromStr for UsageSort {
    type Err = NotAUsageSort;

    fn from_str(word: &str) -> Result<Self, NotAUsageSort> {
        match word {
            "recent" => Ok(Self::Recent),
            "calls_desc" => Ok(Self::CallsDesc),
            "subject_asc" => Ok(Self::SubjectAsc),
            _ => Err(NotAUsageSort),
        }
    }
}
