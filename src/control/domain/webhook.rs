//! Webhooks and their deliveries.

use url::Url;

use crate::clock::UnixTime;
use crate::names::{ClaimId, DeliveryId, ServiceId, WebhookId};

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
