//! Which refusal each fault of the other rooms is.

use super::refusal::{Kind, Refusal};
use crate::control::RelayFault;
use crate::control::domain::claim::ClaimFault;
use crate::control::domain::pairing::PairingFault;
use crate::control::domain::service::ServiceFault;
use crate::control::nonces::NonceFault;
use crate::control::rates::TooMany;
use crate::control::store::StoreFault;
use crate::control::token::TokenFault;
use crate::json::JsonFault;
use crate::protocol;
use crate::protocol::Contradiction;
use crate::protocol::pairing::CommandRefusal;

impl From<Contradiction> for Refusal {
    fn from(fault: Contradiction) -> Self {
        Self::new(Kind::RequestInvalid, fault.to_string())
    }
}

impl From<TooMany> for Refusal {
    fn from(fault: TooMany) -> Self {
        Self::new(Kind::RateLimited, fault.to_string()).retry(fault.retry_after_secs)
    }
}

impl From<NonceFault> for Refusal {
    fn from(fault: NonceFault) -> Self {
        let sentence = fault.to_string();
        match fault {
            NonceFault::Seen | NonceFault::BeforeStart => Self::new(Kind::Replay, sentence),
            NonceFault::Full => Self::overloaded(sentence),
            NonceFault::TooMany(fault) => fault.into(),
            NonceFault::Store(fault) => fault.into(),
        }
    }
}

impl From<StoreFault> for Refusal {
    fn from(fault: StoreFault) -> Self {
        match &fault {
            StoreFault::Unavailable(_) => {
                tracing::warn!(%fault, "a request could not be served");
                Self::new(Kind::DatabaseUnavailable, "the database cannot be reached; retry later").retry(1)
            }
            StoreFault::Contended(_) => {
                tracing::warn!(%fault, "a request could not be served");
                Self::new(Kind::DatabaseUnavailable, "the database is busy with other changes; retry later")
                    .retry(1)
            }
            StoreFault::NamespaceGone(_) => Self::new(Kind::NamespaceNotFound, fault.to_string()),
            _ => {
                tracing::error!(%fault, "a request could not be served");
                Self::internal()
            }
        }
    }
}

impl From<ClaimFault> for Refusal {
    fn from(fault: ClaimFault) -> Self {
        let kind = match &fault {
            ClaimFault::NotFound(_) => Kind::ClaimNotFound,
            ClaimFault::NoNamespace(_) => Kind::NamespaceNotFound,
            ClaimFault::NoService(_) => Kind::ServiceNotFound,
            ClaimFault::NonceReplay => Kind::NonceReplay,
            ClaimFault::Transition { .. } => Kind::ClaimTransition,
            ClaimFault::EndInPast(_) => Kind::FieldInvalid,
            ClaimFault::Limit { .. } => Kind::LimitReached,
            ClaimFault::SecondApprover(_) => Kind::SecondApprover,
        };
        Self::new(kind, fault.to_string())
    }
}

impl From<ServiceFault> for Refusal {
    fn from(fault: ServiceFault) -> Self {
        let kind = match &fault {
            ServiceFault::NotFound => Kind::ServiceNotFound,
            ServiceFault::SlugTaken(_) => Kind::ServiceExists,
            ServiceFault::Limit { .. } => Kind::LimitReached,
            ServiceFault::NoSuch("webhook") => Kind::WebhookNotFound,
            ServiceFault::NoSuch(_) => Kind::KeyNotFound,
        };
        Self::new(kind, fault.to_string())
    }
}

impl From<PairingFault> for Refusal {
    fn from(fault: PairingFault) -> Self {
        let kind = match fault {
            PairingFault::NotFound => Kind::PairingNotFound,
            PairingFault::Expired => Kind::PairingExpired,
            PairingFault::Revoked => Kind::PairingRevoked,
            PairingFault::WrongCode { .. } => Kind::PairingCodeInvalid,
            PairingFault::TooManyTries => Kind::PairingTooManyTries,
            PairingFault::OtherGateway => Kind::PairingOtherGateway,
        };
        Self::new(kind, fault.to_string())
    }
}

impl From<CommandRefusal> for Refusal {
    fn from(refusal: CommandRefusal) -> Self {
        Self::new(Kind::Command(refusal.status(), refusal.code()), refusal.to_string())
    }
}

impl From<RelayFault> for Refusal {
    fn from(fault: RelayFault) -> Self {
        let sentence = fault.to_string();
        match fault {
            RelayFault::NotConnected => Self::new(Kind::GatewayNotConnected, sentence).retry(5),
            RelayFault::TimedOut(_) => Self::new(Kind::GatewayTimeout, sentence),
            RelayFault::Busy => Self::new(Kind::CommandsLimit, sentence).retry(1),
            RelayFault::Store(fault) => fault.into(),
        }
    }
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        let kind = if fault == TokenFault::Expired { Kind::TokenExpired } else { Kind::TokenInvalid };
        Self::new(kind, fault.to_string())
    }
}

impl From<protocol::Refusal> for Refusal {
    fn from(refusal: protocol::Refusal) -> Self {
        Self::new(Kind::Signature(refusal.code()), refusal.to_string()).because(refusal.reason())
    }
}

impl From<JsonFault> for Refusal {
    fn from(fault: JsonFault) -> Self {
        let kind = match &fault {
            JsonFault::Syntax(_) => Kind::BodyInvalid,
            JsonFault::Field(_) => Kind::FieldInvalid,
        };
        Self::new(kind, fault.to_string())
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[test]
    fn database_that_is_busy_is_asked_again_and_is_no_fault_of_ours() {
        for fault in [StoreFault::Contended(String::new()), StoreFault::Unavailable(String::new())] {
            assert_eq!(Refusal::from(fault).into_response().status(), 503);
        }
        assert_eq!(Refusal::from(StoreFault::Database(String::new())).into_response().status(), 500);
    }
}
