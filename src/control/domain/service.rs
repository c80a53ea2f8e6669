//! Services and their API keys.

use crate::clock::UnixTime;
use crate::names::{ApiKeyId, Namespace, ServiceId, ServiceSlug};

/// How agents reach a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceMode {
    /// It verifies requests itself.
    Native,
    /// Through a gateway.
    Gateway,
}

/// A service, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRecord {
    /// Its id.
    pub id: ServiceId,
    /// Who owns it.
    pub owner: Namespace,
    /// Its slug, unique per owner.
    pub slug: ServiceSlug,
    /// Its name for people, 1 to 128 characters.
    pub name: String,
    /// Its domain, 1 to 253 characters.
    pub domain: String,
    /// What it is, up to 1,024 characters.
    pub description: String,
    /// How agents reach it.
    pub mode: ServiceMode,
    /// Where its gateway sends requests, as far as the owner said: for showing alone.
    pub upstream_url: Option<String>,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it was changed.
    pub updated_at: UnixTime,
}

/// What may change of a service; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceChange {
    /// Its name.
    pub name: Option<String>,
    /// Its domain.
    pub domain: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// How agents reach it.
    pub mode: Option<ServiceMode>,
    /// Where its gateway sends requests.
    pub upstream_url: Option<Option<String>>,
}

/// A service API key. The key itself is shown once, when it is made, and kept nowhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKeyRecord {
    /// Its id.
    pub id: ApiKeyId,
    /// The service it belongs to.
    pub service_id: ServiceId,
    /// A name for people.
    pub name: String,
    /// Its beginning, for recognizing it: `sk_live_` and 4 digits.
    pub prefix: String,
    /// Whether it opens all services of the owner, and not this one alone: for gateways that serve many.
    pub all_services: bool,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<UnixTime>,
}

/// Who calls with a service API key.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceCaller {
    /// The key.
    pub key: ApiKeyId,
    /// The service that it belongs to.
    pub service: ServiceRecord,
    /// Whether it opens all services of that owner.
    pub all_services: bool,
}

/// Why a service is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceFault {
    /// No service of the caller's has this id.
    #[error("there is no such service of this owner")]
    NotFound,
    /// The owner has a service of this slug.
    #[error("this owner has a service {0} already; choose another slug")]
    SlugTaken(ServiceSlug),
    /// One more would be too many.
    #[error("{what} is limited to {most}; delete one first")]
    Limit {
        /// What is counted, as in "the number of active keys of a service".
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// No such key or webhook.
    #[error("there is no such {0} of this service")]
    NoSuch(&'static str),
}

impl ServiceMode {
    /// As the contract writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Gateway => "gateway",
        }
    }

    /// From the contract's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Native, Self::Gateway].into_iter().find(|mode| mode.word() == word)
    }
}
