//! Registration of callers without a claim.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderName, HeaderValue, StatusCode};
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::Services;
use super::control_plane::{Answer, CallFault, ControlPlane, nonce};
use super::shares::Shares;
use crate::clock::{Clock, UnixTime};
use crate::names::{ClaimId, ConnectionId, Namespace};
use crate::policy::Claim;
use crate::protocol::{Identity, PublicKey, VerifiedSignature};

/// Where claims are submitted.
#[derive(Debug, Clone)]
pub struct RegistrarConfig {
    /// The control plane's base URL.
    pub url: url::Url,
    /// Submissions a minute at the most.
    pub per_minute: NonZeroU32,
}

/// What a caller without a claim is told: serialized as the envelope's `claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// `pending`, `approved`, `rejected`, `revoked`, `expired`, or `unregistered`: no claim is known to stand.
    pub status: String,
    /// The claim's id where the control plane gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim_id: Option<String>,
    /// Where the owner approves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_url: Option<String>,
}

/// More registrations than allowed a minute: 429 `AUTH_CLAIM_SUBMIT_RATE_LIMITED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmitRateLimited {
    /// Retry after so many seconds; at least 1.
    pub retry_after_secs: u64,
}

/// How long a caller waits for the control plane. The submission goes on after that.
const WAIT: Duration = Duration::from_secs(2);
/// How long a claim that was made, or found standing, is not submitted again.
const REMEMBER_MADE: Duration = Duration::from_secs(60);
/// How long a submission that failed is not tried again.
const REMEMBER_FAILED: Duration = Duration::from_secs(10);
/// Submissions remembered at the most; who is forgotten submits again, within the rate.
const REMEMBERED: usize = 10_000;

/// Submits claims for callers that have none, so that the owner of their namespace finds something to approve.
///
/// Submissions run as tasks of one runtime, given at construction, whatever thread the caller runs on: so the
/// connections to the control plane live on a runtime that stays.
pub struct Registrar {
    control_plane: Arc<ControlPlane>,
    submissions: Cache<Binding, Submission>,
    limiter: DefaultDirectRateLimiter,
    shares: Mutex<Shares>,
    clock: Clock,
    runtime: Handle,
}

type Binding = (Namespace, PublicKey, ConnectionId);

impl Registrar {
    /// A registrar that has submitted nothing yet. Its calls carry the keys of `services` and run on `runtime`.
    ///
    /// # Errors
    /// When the URL is no base URL, or the system has no roots of trust for HTTPS.
    pub fn new(
        config: RegistrarConfig,
        services: Services,
        identity: Arc<Identity>,
        clock: Clock,
        runtime: Handle,
    ) -> Result<Self, CallFault> {
        let RegistrarConfig { url, per_minute } = config;
        Ok(Self {
            control_plane: Arc::new(ControlPlane::new(url, services, identity, clock.clone())?),
            submissions: Cache::new(REMEMBERED),
            limiter: RateLimiter::direct(Quota::per_minute(per_minute)),
            shares: Mutex::new(Shares::of(per_minute, clock.now())),
            clock,
            runtime,
        })
    }

    /// Submits a claim for the agent, once per (namespace, key, service) and a while, and answers within 2 s. When
    /// the control plane takes longer, the answer is `unregistered`, and what comes later is remembered for the
    /// next caller: 60 s when a claim stands then, 10 s when not.
    ///
    /// # Errors
    /// When too many were submitted in this minute, by all or from the client's address. Answers that are remembered do not count.
    pub async fn register(
        &self,
        verified: &VerifiedSignature,
        service: &ConnectionId,
        agent_ip: IpAddr,
    ) -> Result<Registration, SubmitRateLimited> {
        let mut answer = self.submission(verified, service, agent_ip)?.0;
        let answered = tokio::time::timeout(WAIT, answer.wait_for(Option::is_some)).await;
        Ok(match answered {
            Ok(Ok(remembered)) => {
                remembered.as_ref().map_or_else(unregistered, |answer| answer.registration.clone())
            }
            Ok(Err(_)) | Err(_) => unregistered(),
        })
    }

    /// Forgets what was answered for what this claim binds. For claims that were withdrawn: without it a caller would
    /// hear for a while how the claim once stood, and none would be submitted anew.
    pub fn forget(&self, claim: &Claim) {
        let binding = (claim.namespace.clone(), claim.public_key, claim.service.clone());
        self.submissions.remove(&binding);
    }

    /// The submission that stands or is under way for this binding, else a new one. The entry is locked while
    /// that is decided, so that of many callers one submits.
    fn submission(
        &self,
        verified: &VerifiedSignature,
        service: &ConnectionId,
        agent_ip: IpAddr,
    ) -> Result<Submission, SubmitRateLimited> {
        let agent = verified.agent();
        let binding = (agent.namespace.clone(), agent.public_key, service.clone());
        let now = self.clock.now();
        let known = self.submissions.entry(&binding, None, |_, submission| {
            if submission.serves(now) {
                EntryAction::Retain(submission.clone())
            } else {
                EntryAction::ReplaceWithGuard
            }
        });
        let vacant = match known {
            EntryResult::Retained(submission) => return Ok(submission),
            EntryResult::Vacant(vacant) | EntryResult::Replaced(vacant, _) => Some(vacant),
            EntryResult::Removed(..) | EntryResult::Timeout => None,
        };
        self.admit(agent_ip, now)?;
        let submission = self.submit(Claimant {
            namespace: agent.namespace.to_string(),
            public_key: agent.public_key.to_string(),
            service: service.clone(),
            agent_ip: agent_ip.to_canonical().to_string(),
            subject: verified.subject().to_owned(),
            agent_id: verified.agent_id().map(str::to_owned),
        });
        if let Some(vacant) = vacant {
            // An error says that the entry was written over meanwhile; this submission runs all the same.
            let _ = vacant.insert(submission.clone());
        }
        Ok(submission)
    }

    /// Counts one more submission, of this client and of all.
    fn admit(&self, client: IpAddr, now: UnixTime) -> Result<(), SubmitRateLimited> {
        let refused = |wait: Duration| SubmitRateLimited { retry_after_secs: wait.as_secs() + 1 };
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.check(client, now).map_err(refused)?;
        self.limiter.check().map_err(|until| refused(until.wait_time_from(self.limiter.clock().now())))?;
        shares.take(client);
        Ok(())
    }

    fn submit(&self, claimant: Claimant) -> Submission {
        let (answered, answer) = watch::channel(None);
        let (control_plane, clock) = (Arc::clone(&self.control_plane), self.clock.clone());
        self.runtime.spawn(async move {
            let (registration, remember) = match claimant.submit(&control_plane).await {
                Ok(answer) => read(&answer),
                Err(fault) => {
                    tracing::warn!(%fault, "a claim could not be submitted");
                    (unregistered(), REMEMBER_FAILED)
                }
            };
            let from = clock.now();
            answered.send_replace(Some(Remembered { registration, from, until: from.plus(remember) }));
        });
        Submission(answer)
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("remembered", &self.submissions.len()).finish_non_exhaustive()
    }
}

/// One submission: under way while there is nothing yet.
#[derive(Clone)]
struct Submission(watch::Receiver<Option<Remembered>>);

struct Remembered {
    registration: Registration,
    from: UnixTime,
    until: UnixTime,
}

impl Submission {
    /// Whether it answers a caller at `now`. One whose task is gone without an answer does not.
    fn serves(&self, now: UnixTime) -> bool {
        match &*self.0.borrow() {
            Some(answer) => (answer.from..answer.until).contains(&now),
            None => self.0.has_changed().is_ok(),
        }
    }
}

/// Whom a claim is submitted for.
struct Claimant {
    namespace: String,
    public_key: String,
    service: ConnectionId,
    agent_ip: String,
    subject: String,
    agent_id: Option<String>,
}

impl Claimant {
    async fn submit(&self, control_plane: &ControlPlane) -> Result<Answer, CallFault> {
        #[derive(Serialize)]
        struct Body<'a> {
            namespace: &'a str,
            public_key: &'a str,
            service: &'a str,
            agent_ip: &'a str,
            nonce: &'a str,
            subject: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            agent_id: Option<&'a str>,
        }
        let bearer = control_plane.bearer(&self.service).await?;
        let body = Body {
            namespace: &self.namespace,
            public_key: &self.public_key,
            service: self.service.as_str(),
            agent_ip: &self.agent_ip,
            nonce: &nonce()?,
            subject: &self.subject,
            agent_id: self.agent_id.as_deref(),
        };
        // Text alone always becomes JSON.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        // The signature is the gateway's, not the claimant's: the claim binds to the namespace alone.
        let binding = HeaderName::from_static("x-sigilum-claim-binding");
        let more = [(binding, HeaderValue::from_static("namespace-only"))];
        control_plane.post("/v1/claims", body, &more, &bearer).await
    }
}

fn unregistered() -> Registration {
    Registration { status: "unregistered".to_owned(), claim_id: None, approve_url: None }
}

/// What the control plane's answer tells the caller, and for how long. It goes to the caller, so only what has
/// the form that it should have is taken over.
fn read(answer: &Answer) -> (Registration, Duration) {
    #[derive(Deserialize, Default)]
    struct Fields {
        status: Option<String>,
        claim_id: Option<String>,
        approve_url: Option<String>,
    }
    let fields: Fields = serde_json::from_slice(&answer.body).unwrap_or_default();
    let made = matches!(answer.status, StatusCode::OK | StatusCode::CREATED);
    let status = match fields.status.as_deref() {
        _ if !made => "unregistered",
        Some(status @ ("approved" | "rejected" | "revoked" | "expired")) => status,
        _ => "pending",
    };
    if !made {
        let code = super::page::error_code(&answer.body).unwrap_or_default();
        tracing::warn!(status = answer.status.as_u16(), code, "the control plane did not take a claim");
    }
    let registration = Registration {
        status: status.to_owned(),
        claim_id: fields.claim_id.filter(|id| id.parse::<ClaimId>().is_ok()),
        approve_url: fields.approve_url.filter(|url| is_web_page(url)),
    };
    (registration, if made { REMEMBER_MADE } else { REMEMBER_FAILED })
}

fn is_web_page(text: &str) -> bool {
    text.len() <= 2_048
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> (Registration, Duration) {
        let status = StatusCode::from_u16(status).unwrap();
        read(&Answer { status, body: body.into(), retry_after: None })
    }

    fn registration(status: &str, claim_id: Option<&str>, approve_url: Option<&str>) -> Registration {
        let (claim_id, approve_url) = (claim_id.map(str::to_owned), approve_url.map(str::to_owned));
        Registration { status: status.to_owned(), claim_id, approve_url }
    }

    #[test]
    fn claim_that_was_made_is_told_and_kept_for_a_minute() {
        let body =
            r#"{"claim_id":"cl_1","status":"pending","approve_url":"https://example.com/c/cl_1","more":1}"#;
        let told = told(201, body);
        assert_eq!(told.0, registration("pending", Some("cl_1"), Some("https://example.com/c/cl_1")));
        assert_eq!(told.1, REMEMBER_MADE);
    }

    #[test]
    fn claim_that_stands_is_told_with_its_status() {
        for status in ["approved", "rejected", "revoked", "expired"] {
            assert_eq!(
                told(200, &format!("{{\"status\":\"{status}\"}}")).0,
                registration(status, None, None)
            );
        }
    }

    #[test]
    fn status_that_nobody_knows_reads_as_pending() {
        for body in ["", "[]", "{}", r#"{"status":"<b>"}"#] {
            assert_eq!(told(201, body).0, registration("pending", None, None));
        }
    }

    #[test]
    fn refusal_is_unregistered_and_soon_forgotten() {
        for status in [301, 400, 404, 409, 429, 500] {
            let told = told(status, r#"{"status":"approved","error":"no","code":"X"}"#);
            assert_eq!(told, (registration("unregistered", None, None), REMEMBER_FAILED));
        }
    }

    #[test]
    fn id_and_url_of_another_form_are_not_passed_on() {
        for url in
            ["javascript:alert(1)", "/relative", "https://example.com/ x", "https://example.com/\\n\\u0000"]
        {
            let body = format!(r#"{{"claim_id":"a b","approve_url":"{url}"}}"#);
            assert_eq!(told(201, &body).0, registration("pending", None, None), "{url}");
        }
    }
}
