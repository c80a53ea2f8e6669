//! Namespaces and their owners.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::names::Namespace;

/// A namespace that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct NamespaceRecord {
    /// Its name.
    pub namespace: Namespace,
    /// When it was made.
    pub created_at: UnixTime,
    /// The owner's policy.
    pub settings: OwnerSettings,
}

/// One of a namespace's owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// A stable id, the `sub` of the owner's tokens: `usr_` and 32 hexadecimal digits.
    pub id: String,
    /// The namespace.
    pub namespace: Namespace,
    /// The owner's e-mail address.
    pub email: String,
    /// When it was added.
    pub created_at: UnixTime,
}

/// The owner's policy (`PATCH /v1/auth/settings`), in the contract's names. What is not sent stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OwnerSettings {
    /// Pending claims at most; a further one is rejected. 20.
    pub max_pending_limit: u32,
    /// Whether claims of `trustedServices` are approved at once.
    pub auto_approve_trusted: bool,
    /// Services: `slug` for one that the owner itself has, or that only one owner has; `namespace/slug` for another's.
    /// Anyone may give a service any slug.
    pub trusted_services: Vec<String>,
    /// Whether claims of agents in `trustedIPRanges` are approved at once. The address is what the service says, so it
    /// counts only on services that the owner has or trusts.
    #[serde(rename = "autoApproveIP")]
    pub auto_approve_ip: bool,
    /// Networks such as `10.0.0.0/8`.
    #[serde(rename = "trustedIPRanges")]
    pub trusted_ip_ranges: Vec<IpNet>,
    /// Whether pending claims expire after 24 h.
    pub auto_expire: bool,
    /// Seconds that an approved claim holds where nobody said; `None`: without end.
    pub default_claim_ttl: Option<u64>,
    /// What an approved claim allows where nobody said; empty: everything.
    pub default_scopes: Vec<String>,
    /// Whether two different owners must approve.
    pub require_second_approver: bool,
    /// Approved agents on one service at most. 100,000.
    pub max_agents_per_service: u64,
    /// Services with an approved claim at most. 1,000.
    pub max_services: u64,
}

impl Default for OwnerSettings {
    fn default() -> Self {
        Self {
            max_pending_limit: 20,
            auto_approve_trusted: false,
            trusted_services: Vec::new(),
            auto_approve_ip: false,
            trusted_ip_ranges: Vec::new(),
            auto_expire: true,
            default_claim_ttl: None,
            default_scopes: Vec::new(),
            require_second_approver: false,
            max_agents_per_service: 100_000,
            max_services: 1_000,
        }
    }
}
