//! `/v1/claims`: claims are submitted by services and gateways, and decided by the owner of their namespace.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::Named;
use super::body::{Change, Nothing, Perhaps, parsed, scopes, text};
use super::owner::Owner;
use super::refusal::{Kind, Refusal};
use super::settings::LONGEST_TTL;
use super::signed::ServiceCaller;
use super::{Route, audit};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimFault, ClaimRecord, ClaimStatus, Decision, Submission, Submitted};
use crate::control::{ClaimEvent, ControlPlane};
use crate::names::{ClaimId, Namespace, ServiceSlug};
use crate::protocol::PublicKey;

/// Says what a submission's signature binds to.
const BINDING: &str = "x-sigilum-claim-binding";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/claims", post(submit)),
        Route::new("/v1/claims/{id}", get(one)),
        Route::new("/v1/claims/{id}/approve", post(approve)),
        Route::new("/v1/claims/{id}/reject", post(reject)),
        Route::new("/v1/claims/{id}/revoke", post(revoke)),
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    namespace: String,
    public_key: String,
    service: String,
    agent_ip: String,
    nonce: String,
    subject: Option<String>,
    agent_id: Option<String>,
    agent_name: Option<String>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    ttl_seconds: Option<u64>,
}

async fn submit(
    State(plane): State<Arc<ControlPlane>>,
    headers: HeaderMap,
    caller: ServiceCaller,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let asked: Asked = caller.signed.json()?;
    let namespace: Namespace = parsed("namespace", &asked.namespace)?;
    let public_key: PublicKey = parsed("public_key", &asked.public_key)?;
    let slug: ServiceSlug = parsed("service", &asked.service)?;
    bound(&headers, &caller, &namespace, &public_key)?;
    caller.opens(&slug)?;
    let owner = &caller.caller.service.owner;
    let service = plane.store.service_of_slug(owner, &slug).await?.ok_or_else(|| {
        Refusal::new(
            Kind::ServiceNotFound,
            format!("the owner of this service API key has no service {slug}"),
        )
    })?;
    let submission = Submission {
        service_id: service.id,
        subject: match asked.subject {
            Some(subject) => text("subject", subject, 1, 256)?,
            None => namespace.to_string(),
        },
        agent_id: asked.agent_id.map(|id| text("agent_id", id, 1, 128)).transpose()?,
        agent_name: asked.agent_name.map(|name| text("agent_name", name, 1, 128)).transpose()?,
        agent_ip: parsed::<IpAddr>("agent_ip", &asked.agent_ip)?.to_canonical(),
        scopes: scopes("scopes", &asked.scopes.unwrap_or_default())?,
        ttl_seconds: asked.ttl_seconds.map(ttl).transpose()?,
        nonce: text("nonce", asked.nonce, 8, 256)?,
        namespace,
        public_key,
    };
    let submitted = plane.store.submit_claim(submission, plane.clock.now()).await??;
    let (status, claim) = match &submitted {
        Submitted::Made(claim) => (StatusCode::CREATED, claim),
        Submitted::Standing(claim) => (StatusCode::OK, claim),
    };
    if status == StatusCode::CREATED {
        plane.metrics.claims(
            match claim.status {
                ClaimStatus::Approved => ClaimEvent::Approved,
                ClaimStatus::Rejected => ClaimEvent::Rejected,
                _ => ClaimEvent::Submitted,
            },
            1,
        );
    }
    Ok((status, Json(told(&plane, claim))))
}

/// What the signature must be for this claim: the claim's own key in its own namespace; or, with the binding
/// `namespace-only`, of the claim's namespace, or of the namespace whose service API key it is: a gateway's.
fn bound(
    headers: &HeaderMap,
    caller: &ServiceCaller,
    namespace: &Namespace,
    public_key: &PublicKey,
) -> Result<(), Refusal> {
    let agent = caller.signed.agent();
    let own = agent.namespace == *namespace;
    let fault = match headers.get(BINDING).map(|value| value.as_bytes()) {
        None if own && agent.public_key == *public_key => return Ok(()),
        None => {
            "without X-Sigilum-Claim-Binding the request must be signed with the claim's own key in its own namespace"
        }
        Some(b"namespace-only") if own || agent.namespace == caller.caller.service.owner => return Ok(()),
        Some(b"namespace-only") => {
            "the request must be signed in the claim's namespace, or in the one that owns the service API key"
        }
        Some(_) => {
            return Err(Refusal::new(
                Kind::FieldInvalid,
                "X-Sigilum-Claim-Binding: takes namespace-only, or is left out",
            ));
        }
    };
    Err(Refusal::new(Kind::ClaimBinding, fault))
}

fn ttl(seconds: u64) -> Result<u64, Refusal> {
    if (1..=LONGEST_TTL).contains(&seconds) {
        return Ok(seconds);
    }
    Err(Refusal::field("ttl_seconds", &format_args!("takes 1 to {LONGEST_TTL}")))
}

/// What whoever submitted a claim is told of it.
fn told(plane: &ControlPlane, claim: &ClaimRecord) -> Value {
    let (id, namespace) = (&claim.id, &claim.namespace);
    let message = match claim.status {
        ClaimStatus::Pending => format!(
            "the claim waits for the owner of {namespace}, who approves it with `sigilum claim approve {id}`"
        ),
        ClaimStatus::Approved => "the claim is approved".to_owned(),
        ClaimStatus::Rejected => format!(
            "the claim was rejected: {namespace} has as many pending claims, agents or services as it allows; its owner finds them with `sigilum claim list`"
        ),
        ClaimStatus::Revoked | ClaimStatus::Expired => format!("the claim is {}", claim.status.word()),
    };
    let mut told = json!({
        "claim_id": id.as_str(),
        "status": claim.status.word(),
        "service": claim.service.as_str(),
        "message": message,
    });
    let approve_url = approve_url(plane, claim);
    if let (Some(fields), Some(url)) = (told.as_object_mut(), approve_url) {
        fields.insert("approve_url".to_owned(), url.into());
    }
    told
}

/// Where the owner approves a pending claim, where there is a dashboard.
fn approve_url(plane: &ControlPlane, claim: &ClaimRecord) -> Option<String> {
    let mut url = plane.config.dashboard_url.clone().filter(|_| claim.status == ClaimStatus::Pending)?;
    url.path_segments_mut().ok()?.pop_if_empty().extend(["claims", claim.id.as_str()]);
    Some(url.into())
}

async fn one(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ClaimId>,
) -> Result<Json<Value>, Refusal> {
    let claim =
        plane.store.claim(&owner.namespace, &id).await?.ok_or_else(|| ClaimFault::NotFound(id.clone()))?;
    Ok(Json(view(&claim)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Approval {
    expires_at: Change<Option<String>>,
    scopes: Change<Vec<String>>,
}

async fn approve(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ClaimId>,
    Perhaps(approval): Perhaps<Approval>,
) -> Result<Json<Value>, Refusal> {
    let expires_at = match approval.expires_at {
        Change::Keep => None,
        Change::Set(text) => Some(text.as_deref().map(end).transpose()?),
    };
    let scopes = approval.scopes.sent().map(|texts| scopes("scopes", &texts)).transpose()?;
    decide(&plane, &owner, &id, Decision::Approve { expires_at, scopes }, "claim.approve").await
}

/// The sentence does not repeat what was sent, as that of configurations does.
fn end(text: &str) -> Result<UnixTime, Refusal> {
    let wrong = |_| {
        Refusal::field(
            "expires_at",
            &"takes null, or a date and time of RFC 3339, such as 2027-01-01T00:00:00Z",
        )
    };
    text.parse().map_err(wrong)
}

async fn reject(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ClaimId>,
    Perhaps(Nothing {}): Perhaps<Nothing>,
) -> Result<Json<Value>, Refusal> {
    decide(&plane, &owner, &id, Decision::Reject, "claim.reject").await
}

async fn revoke(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
    Named(id): Named<ClaimId>,
    Perhaps(Nothing {}): Perhaps<Nothing>,
) -> Result<Json<Value>, Refusal> {
    decide(&plane, &owner, &id, Decision::Revoke, "claim.revoke").await
}

async fn decide(
    plane: &ControlPlane,
    owner: &Owner,
    id: &ClaimId,
    decision: Decision,
    action: &'static str,
) -> Result<Json<Value>, Refusal> {
    let now = plane.clock.now();
    let decided = plane.store.decide_claim(&owner.namespace, id, decision, &owner.email, now).await??;
    match decided.status {
        ClaimStatus::Approved => plane.metrics.claims(ClaimEvent::Approved, 1),
        ClaimStatus::Rejected => plane.metrics.claims(ClaimEvent::Rejected, 1),
        ClaimStatus::Revoked => plane.metrics.claims(ClaimEvent::Revoked, 1),
        // A second owner has still to approve.
        ClaimStatus::Pending | ClaimStatus::Expired => {}
    }
    let what = format!("{} {} on {}", decided.status.word(), decided.public_key, decided.service);
    audit::changed(owner, action, id, &what);
    Ok(Json(view(&decided)))
}

/// A claim as its owner sees it.
pub(super) fn view(claim: &ClaimRecord) -> Value {
    let time = |at: Option<UnixTime>| at.map(|at| at.to_string());
    json!({
        "claim_id": claim.id.as_str(),
        "namespace": claim.namespace.as_str(),
        "public_key": claim.public_key.to_string(),
        "service": claim.service.as_str(),
        "service_owner": claim.service_owner.as_str(),
        "subject": claim.subject,
        "agent_id": claim.agent_id,
        "agent_name": claim.agent_name,
        "agent_ip": claim.agent_ip.to_string(),
        "status": claim.status.word(),
        "scopes": claim.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created_at": claim.created_at.to_string(),
        "approved_at": time(claim.approved_at),
        "decided_at": time(claim.decided_at),
        "decided_by": claim.decided_by,
        "expires_at": time(claim.expires_at),
        "first_approver": claim.first_approver,
    })
}
