//! Webhooks and their deliveries: what is told, when it is tried again, and when it is given up.

use std::time::Duration;

use http::HeaderName;
use serde_json::json;
use url::Url;

use super::claim::ClaimRecord;
use crate::clock::UnixTime;
use crate::names::{ClaimId, DeliveryId, ServiceId, WebhookId};

/// A delivery that fails so long after its change is given up.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Deliveries that may wait for one webhook; a further one is dropped, and counted with the webhook.
pub const MOST_WAITING: usize = 10_000;
/// Attempts at one webhook at once.
pub const AT_ONCE_PER_WEBHOOK: usize = 4;
/// Attempts at all webhooks of one owner at once, so that receivers that keep their callers waiting hold up nobody else's
/// deliveries.
pub const AT_ONCE_PER_OWNER: usize = 16;
/// Failures in a row after which a webhook is left alone for a while.
pub const FAILURES_UNTIL_PAUSE: u64 = 5;
/// The first wait between two attempts of a delivery, at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two attempts of a delivery.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How long a webhook is left alone at first.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest that it is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What a webhook is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WebhookEvent {
    /// `request.submitted`
    Submitted,
    /// `request.approved`
    Approved,
    /// `request.rejected`
    Rejected,
    /// `request.revoked`
    Revoked,
    /// `request.expired`
    Expired,
}

/// A webhook, without its secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookRecord {
    /// Its id.
    pub id: WebhookId,
    /// The service.
    pub service_id: ServiceId,
    /// Where deliveries go.
    pub url: Url,
    /// What it is told of; never empty.
    pub events: Vec<WebhookEvent>,
    /// The name of a header that goes with each delivery, its value being a secret.
    pub auth_header: Option<String>,
    /// When it was made.
    pub created_at: UnixTime,
    /// Attempts that failed in a row.
    pub failures: u64,
    /// Until when no attempt is made, since too many failed in a row; then one is, to see.
    pub paused_until: Option<UnixTime>,
    /// Deliveries that were not queued, since [`MOST_WAITING`] waited.
    pub dropped: u64,
    /// Deliveries that were given up.
    pub given_up: u64,
}

/// A webhook to be made. Secrets are sealed by whoever holds the sealing key, before they come here.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWebhook {
    /// Where deliveries go.
    pub url: Url,
    /// What it is told of.
    pub events: Vec<WebhookEvent>,
    /// The signing secret, sealed, as text.
    pub sealed_secret: String,
    /// The header that goes with each delivery, and its value, sealed.
    pub auth: Option<(String, String)>,
}

/// A delivery that is due and was leased to the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct DueDelivery {
    /// Its id, the same at every attempt.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook: WebhookRecord,
    /// The signing secret, sealed.
    pub sealed_secret: String,
    /// The value of `auth_header`, sealed.
    pub sealed_auth_value: Option<String>,
    /// What it tells.
    pub event: WebhookEvent,
    /// The claim that it is about: deliveries of one claim to one webhook go in order.
    pub claim: ClaimId,
    /// The body, as it was made with the change.
    pub body: String,
    /// Attempts made before this one.
    pub attempts: u32,
    /// When the change was made; 24 h later the delivery is given up.
    pub created_at: UnixTime,
    /// When the lease runs out. It tells this lease from any other one.
    pub leased_until: UnixTime,
}

impl WebhookEvent {
    /// All, in the order of the contract.
    pub const ALL: [Self; 5] =
        [Self::Submitted, Self::Approved, Self::Rejected, Self::Revoked, Self::Expired];

    /// As the contract writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Submitted => "request.submitted",
            Self::Approved => "request.approved",
            Self::Rejected => "request.rejected",
            Self::Revoked => "request.revoked",
            Self::Expired => "request.expired",
        }
    }

    /// From the contract's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.word() == word)
    }
}

/// The header cannot go with deliveries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("takes the name of a header such as Authorization or X-Api-Key, and none that delivery itself sets")]
pub struct NotAnAuthHeader;

/// The name of a header that an owner wants with each delivery: not one that frames the message, that names its host or
/// content, or that we set ourselves.
///
/// # Errors
/// When it is no name of a header, or one of those.
pub fn auth_header(text: &str) -> Result<HeaderName, NotAnAuthHeader> {
    const REFUSED: [&str; 9] = [
        "connection",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    ];
    const REFUSED_BEGINNINGS: [&str; 5] = ["content-", "proxy-", "sigilum-", "signature", "x-sigilum-"];
    let name = HeaderName::try_from(text).map_err(|_| NotAnAuthHeader)?;
    let begins = |beginning: &&str| name.as_str().starts_with(beginning);
    if text.len() > 128 || REFUSED.contains(&name.as_str()) || REFUSED_BEGINNINGS.iter().any(begins) {
        return Err(NotAnAuthHeader);
    }
    Ok(name)
}

/// How long until a delivery that was attempted `attempts` times is tried again: 1 s, 2 s, 4 s … 1 h, of which `random`
/// takes any part (full jitter), so that deliveries that failed together do not come back together.
#[must_use]
pub fn wait_after(attempts: u32, random: u64) -> Duration {
    let most = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(LONGEST_WAIT);
    let most_millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(random % most_millis + 1)
}

/// How long a webhook is left alone after `failures` in a row: not at all before the fifth, then 30 s, 1 min, 2 min …
/// 10 min.
#[must_use]
pub fn pause_after(failures: u64) -> Option<Duration> {
    let doublings = u32::try_from(failures.checked_sub(FAILURES_UNTIL_PAUSE)?).unwrap_or(u32::MAX);
    Some(FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE))
}

/// The body of a delivery, JSON. It is made once, with the change, and is the same at every attempt.
#[must_use]
pub fn delivery_body(
    id: &DeliveryId,
    event: WebhookEvent,
    webhook: &WebhookId,
    claim: &ClaimRecord,
    now: UnixTime,
) -> String {
    let scopes: Vec<String> = claim.scopes.iter().map(ToString::to_string).collect();
    json!({
        "delivery_id": id.as_str(),
        "event": event.word(),
        "webhook_id": webhook.as_str(),
        "created_at": now.to_string(),
        "claim": {
            "claim_id": claim.id.as_str(),
            "namespace": claim.namespace.as_str(),
            "public_key": claim.public_key.to_string(),
            "service": claim.service.as_str(),
            "subject": claim.subject,
            "agent_id": claim.agent_id,
            "agent_name": claim.agent_name,
            "agent_ip": claim.agent_ip.to_string(),
            "status": claim.status.word(),
            "scopes": scopes,
            "created_at": claim.created_at.to_string(),
            "approved_at": claim.approved_at.map(|at| at.to_string()),
            "expires_at": claim.expires_at.map(|at| at.to_string()),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_are_never_longer() {
        for (attempts, most_secs) in [(1, 1), (2, 2), (3, 4), (12, 2048), (13, 3600), (u32::MAX, 3600)] {
            let most_millis = most_secs * 1000;
            assert_eq!(wait_after(attempts, 0), Duration::from_millis(1), "{attempts}");
            assert_eq!(
                wait_after(attempts, most_millis - 1),
                Duration::from_millis(most_millis),
                "{attempts}"
            );
            assert_eq!(wait_after(attempts, most_millis), Duration::from_millis(1), "{attempts}");
        }
    }

    #[test]
    fn headers_that_frame_or_sign_a_delivery_are_no_auth_headers() {
        for name in ["Authorization", "X-Api-Key", "x-hook_token", "Cookie"] {
            assert_eq!(auth_header(name).unwrap().as_str(), name.to_ascii_lowercase());
        }
        for name in [
            "",
            "a b",
            "a:b",
            "a\r\nb",
            "é",
            "Host",
            "Connection",
            "Transfer-Encoding",
            "Content-Length",
            "Content-Type",
            "TE",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Authorization",
            "X-Sigilum-Signature",
            "x-sigilum-anything",
            "Signature",
            "Signature-Input",
            "Sigilum-Namespace",
            "Expect",
        ] {
            assert_eq!(auth_header(name), Err(NotAnAuthHeader), "{name}");
        }
        assert!(auth_header(&"a".repeat(129)).is_err());
    }

    #[test]
    fn pauses_begin_at_the_fifth_failure_and_double_up_to_ten_minutes() {
        assert_eq!([0, 1, 4].map(pause_after), [None; 3]);
        let secs =
            [5, 6, 7, 8, 9, 10, 1_000, u64::MAX].map(|failures| pause_after(failures).unwrap().as_secs());
        assert_eq!(secs, [30, 60, 120, 240, 480, 600, 600, 600]);
    }
}
