//! What agents did, as gateways and services tell it.

use std::net::IpAddr;

use crate::clock::UnixTime;
use crate::names::{Namespace, ServiceSlug, UsageEventId};
use crate::protocol::PublicKey;

/// One event. The lengths of its texts were held to the contract by whoever made it.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageEvent {
    /// Its id: one that is there already changes nothing.
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
    /// When the control plane took it.
    pub at: UnixTime,
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
    /// Calls in all.
    pub calls: u64,
    /// Of these, such as did not succeed.
    pub errors: u64,
    /// Bytes of answers.
    pub response_bytes: u64,
    /// The first call.
    pub first_at: UnixTime,
    /// The last call.
    pub last_at: UnixTime,
}
