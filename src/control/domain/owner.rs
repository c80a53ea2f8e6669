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
    /// Services: `slug` for one that the owner itself has, or that only one owner had when it was written down;
    /// `namespace/slug` for another's. Anyone may give a service any slug.
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
    /// Whether two different owners must approve. It takes two as well to switch it off.
    pub require_second_approver: bool,
    /// The owner who wants it off, where another must agree; never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_approver_waived_by: Option<String>,
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
            second_approver_waived_by: None,
            max_agents_per_service: 100_000,
            max_services: 1_000,
        }
    }
}

impl OwnerSettings {
    /// This policy, as far as the one owner `by` of so many may put it in the place of `before`: what two must approve,
    /// one alone cannot make one's affair. Of several owners the first that wants no second approver is noted, and a
    /// different one switches it off.
    #[must_use]
    pub fn as_far_as(mut self, before: &Self, by: &str, owners: u64) -> Self {
        if !before.require_second_approver || owners < 2 {
            self.second_approver_waived_by = None;
        } else if !self.require_second_approver {
            let waived = self.second_approver_waived_by.take();
            if waived.is_none_or(|first| first.eq_ignore_ascii_case(by)) {
                self.require_second_approver = true;
                self.second_approver_waived_by = Some(by.to_owned());
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(wanted: bool) -> OwnerSettings {
        OwnerSettings { require_second_approver: wanted, ..OwnerSettings::default() }
    }

    #[test]
    fn one_of_several_owners_cannot_switch_the_second_approver_off() {
        let once = two(false).as_far_as(&two(true), "a@x", 2);
        assert!(once.require_second_approver);
        assert_eq!(once.second_approver_waived_by.as_deref(), Some("a@x"));
        let off = OwnerSettings { require_second_approver: false, ..once.clone() };
        let again = off.clone().as_far_as(&once, "A@x", 2);
        assert!(again.require_second_approver);
        let other = off.as_far_as(&once, "b@x", 2);
        assert_eq!((other.require_second_approver, other.second_approver_waived_by), (false, None));
    }

    #[test]
    fn only_owner_switches_it_off_and_any_owner_on() {
        assert!(!two(false).as_far_as(&two(true), "a@x", 1).require_second_approver);
        assert!(two(true).as_far_as(&two(false), "a@x", 2).require_second_approver);
        // What another setting becomes leaves the wish alone.
        let wished = two(false).as_far_as(&two(true), "a@x", 2);
        assert_eq!(wished.clone().as_far_as(&wished, "b@x", 2), wished);
    }
}
