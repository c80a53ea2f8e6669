//! `PATCH /v1/auth/settings`: the owner's policy.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::patch;
use ipnet::IpNet;
use serde::Deserialize;

use super::auth::gone;
use super::body::{Change, Sent, list, scopes};
use super::owner::Owner;
use super::refusal::Refusal;
use super::{Route, audit};
use crate::control::ControlPlane;
use crate::control::domain::owner::OwnerSettings;
use crate::names::{NameError, Namespace, ServiceSlug};

/// Entries of a list at most.
const ENTRIES: usize = 256;
/// Pending claims that an owner may allow at most.
const PENDING: u32 = 10_000;
/// The greatest number of agents, and of services, that an owner may allow.
const MANY: u64 = 10_000_000;
/// The longest time to live, in seconds: ten years.
pub(super) const LONGEST_TTL: u64 = 10 * 365 * 24 * 3600;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/v1/auth/settings", patch(change))]
}

/// What may be sent; see [`OwnerSettings`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Sendable {
    max_pending_limit: Change<u32>,
    auto_approve_trusted: Change<bool>,
    trusted_services: Change<Vec<String>>,
    #[serde(rename = "autoApproveIP")]
    auto_approve_ip: Change<bool>,
    #[serde(rename = "trustedIPRanges")]
    trusted_ip_ranges: Change<Vec<String>>,
    auto_expire: Change<bool>,
    default_claim_ttl: Change<Option<u64>>,
    default_scopes: Change<Vec<String>>,
    require_second_approver: Change<bool>,
    max_agents_per_service: Change<u64>,
    max_services: Change<u64>,
}

/// A service that is trusted: `slug`, or `namespace/slug` for another owner's, in the form that claims are compared with.
struct Trusted(String);

impl FromStr for Trusted {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(Self(match text.split_once('/') {
            Some((namespace, slug)) => {
                format!("{}/{}", namespace.parse::<Namespace>()?, slug.parse::<ServiceSlug>()?)
            }
            None => text.parse::<ServiceSlug>()?.to_string(),
        }))
    }
}

async fn change(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Sent(sent): Sent<Sendable>,
) -> Result<Json<OwnerSettings>, Refusal> {
    let lay = |settings| sent.laid_over(settings);
    let changed = plane.store.change_settings(&owner.namespace, &owner.email, lay).await?;
    let (before, after) = changed.ok_or_else(|| gone(&owner))??;
    audit::changed(&owner, "settings.change", &owner.namespace, &differing(&before, &after));
    Ok(Json(after))
}

impl Sendable {
    /// The settings with what was sent in them.
    fn laid_over(&self, mut settings: OwnerSettings) -> Result<OwnerSettings, Refusal> {
        fn set<T: Copy>(place: &mut T, change: &Change<T>) {
            if let Change::Set(value) = change {
                *place = *value;
            }
        }
        set(&mut settings.max_pending_limit, &self.max_pending_limit);
        set(&mut settings.auto_approve_trusted, &self.auto_approve_trusted);
        set(&mut settings.auto_approve_ip, &self.auto_approve_ip);
        set(&mut settings.auto_expire, &self.auto_expire);
        set(&mut settings.default_claim_ttl, &self.default_claim_ttl);
        if self.require_second_approver == Change::Set(true) {
            settings.second_approver_waived_by = None;
        }
        set(&mut settings.require_second_approver, &self.require_second_approver);
        set(&mut settings.max_agents_per_service, &self.max_agents_per_service);
        set(&mut settings.max_services, &self.max_services);
        if settings.max_pending_limit > PENDING {
            return Err(Refusal::field("maxPendingLimit", &format_args!("takes at most {PENDING}")));
        }
        for (name, number) in
            [("maxAgentsPerService", settings.max_agents_per_service), ("maxServices", settings.max_services)]
        {
            if number > MANY {
                return Err(Refusal::field(name, &format_args!("takes at most {MANY}")));
            }
        }
        if settings.default_claim_ttl.is_some_and(|ttl| !(1..=LONGEST_TTL).contains(&ttl)) {
            let fault = format!("takes null, or 1 to {LONGEST_TTL} seconds");
            return Err(Refusal::field("defaultClaimTtl", &fault));
        }
        if let Change::Set(slugs) = &self.trusted_services {
            let trusted = list("trustedServices", slugs, ENTRIES)?;
            settings.trusted_services = trusted.into_iter().map(|Trusted(name)| name).collect();
        }
        if let Change::Set(ranges) = &self.trusted_ip_ranges {
            settings.trusted_ip_ranges = list::<IpNet>("trustedIPRanges", ranges, ENTRIES)?;
        }
        if let Change::Set(texts) = &self.default_scopes {
            scopes("defaultScopes", texts)?;
            settings.default_scopes.clone_from(texts);
        }
        Ok(settings)
    }
}

/// The settings that changed, by their names and new values.
fn differing(before: &OwnerSettings, after: &OwnerSettings) -> String {
    let object = |settings| serde_json::to_value(settings).unwrap_or_default();
    let (before, mut after) = (object(before), object(after));
    if let Some(after) = after.as_object_mut() {
        after.retain(|name, value| before.get(name) != Some(value));
    }
    after.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(body: &str) -> Result<OwnerSettings, Refusal> {
        let sent: Sendable = crate::json::read(body.as_bytes()).map_err(Refusal::from)?;
        sent.laid_over(OwnerSettings::default())
    }

    fn refused(body: &str) -> String {
        format!("{:?}", patched(body).expect_err(body))
    }

    #[test]
    fn what_is_not_sent_stays() {
        let settings =
            patched(r#"{"autoApproveIP":true,"trustedIPRanges":["10.0.0.0/8"],"defaultClaimTtl":60}"#)
                .unwrap();
        assert!(settings.auto_approve_ip && settings.auto_expire);
        assert_eq!(settings.trusted_ip_ranges, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(settings.default_claim_ttl, Some(60));
        let sent: Sendable = crate::json::read(br#"{"defaultClaimTtl":null}"#).unwrap();
        assert_eq!(sent.laid_over(settings).unwrap().default_claim_ttl, None);
    }

    #[test]
    fn fault_says_where_it_is() {
        assert!(refused(r#"{"maxPendingLimt":1}"#).contains("did you mean `maxPendingLimit`?"));
        assert!(refused(r#"{"autoApproveIp":true}"#).contains("did you mean `autoApproveIP`?"));
        assert!(refused(r#"{"defaultScopes":["*","get /a"]}"#).contains("defaultScopes[1]: "));
        assert!(refused(r#"{"trustedServices":["A b"]}"#).contains("trustedServices[0]: "));
        assert!(refused(r#"{"trustedServices":["openai","a/openai"]}"#).contains("trustedServices[1]: "));
        assert!(patched(r#"{"trustedServices":["openai","acme/openai"]}"#).is_ok());
        assert!(refused(r#"{"trustedIPRanges":["10.0.0.0/33"]}"#).contains("trustedIPRanges[0]: "));
        assert!(refused(r#"{"defaultClaimTtl":0}"#).contains("defaultClaimTtl: "));
        assert!(refused(r#"{"maxPendingLimit":10001}"#).contains("maxPendingLimit: "));
        assert!(refused(r#"{"maxServices":10000001}"#).contains("maxServices: "));
        assert!(refused(r#"{"autoExpire":null}"#).contains("autoExpire: "));
    }

    #[test]
    fn audit_has_what_differs() {
        let after = patched(r#"{"autoExpire":false}"#).unwrap();
        assert_eq!(differing(&OwnerSettings::default(), &after), r#"{"autoExpire":false}"#);
    }
}
