//! Third stage: may this agent do this here, and is it the first time that this signature is shown?

use std::net::{IpAddr, Ipv4Addr};

use super::exchange::{Exchange, Route};
use super::plane::Gateway;
use super::refusal::Refusal;
use crate::claims::{Lookup, Registration};
use crate::clock::UnixTime;
use crate::policy::{self, Denied, Permit};
use crate::protocol::VerifiedSignature;

/// Claim, scope, limits, and only then the nonce: else anybody with a key of their own could fill the replay store.
pub(super) async fn authorize(
    gateway: &Gateway,
    exchange: &mut Exchange,
    route: &Route,
    verified: &VerifiedSignature,
    method: &str,
    now: UnixTime,
) -> Result<Permit, Refusal> {
    let agent = verified.agent();
    let service = &route.provider.config().id;
    let withdrawals = gateway.open_exchanges().withdrawals();
    let claim = match gateway.claims().lookup(&agent.namespace, &agent.public_key, service, now) {
        Lookup::Found(claim) => Some(claim),
        Lookup::Absent => None,
        Lookup::Unavailable => return Err(Refusal::ClaimsUnavailable),
        Lookup::Failed => return Err(Refusal::ClaimsLookupFailed),
    };
    let permit = match policy::authorize(verified, service, claim, method, route.path(), now) {
        Ok(permit) => permit,
        Err(Denied::ScopeDenied) => return Err(Refusal::ScopeDenied),
        Err(Denied::ClaimRequired) => {
            return Err(claim_required(gateway, exchange.client, route, verified).await);
        }
    };
    if let Some(line) = &exchange.line {
        line.enter(permit.claim());
        // A withdrawal before that has not found this exchange; one from now on does.
        if gateway.open_exchanges().withdrawals() != withdrawals
            && gateway.standing(permit.claim(), now).is_none()
        {
            line.leave();
            return Err(claim_required(gateway, exchange.client, route, verified).await);
        }
    }
    exchange.slots.namespace = gateway.namespaces().enter(&agent.namespace)?;
    exchange.slots.connection = route.provider.gate.enter()?;
    gateway.replay().record(&agent.namespace, verified.nonce(), verified.created(), now)?;
    Ok(permit)
}

async fn claim_required(
    gateway: &Gateway,
    client: Option<IpAddr>,
    route: &Route,
    verified: &VerifiedSignature,
) -> Refusal {
    let Some(registrar) = gateway.registrar() else {
        return Refusal::ClaimRequired(Registration {
            status: "unregistered".to_owned(),
            claim_id: None,
            approve_url: None,
        });
    };
    let client = client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    match registrar.register(verified, &route.provider.config().id, client).await {
        Ok(registration) => Refusal::ClaimRequired(registration),
        Err(limited) => Refusal::ClaimSubmitRateLimited { retry_after_secs: limited.retry_after_secs },
    }
}
