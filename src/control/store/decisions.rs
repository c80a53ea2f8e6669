//! What owners decide about claims.

use sqlx::any::AnyRow;

use super::change::{Change, Line};
use super::ends::{self, End};
use super::record::{claim, count, natural, optional, scopes, scopes_json, select_claims};
use super::submissions::{bigint, end_after};
use super::{Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimFault, ClaimRecord, ClaimStatus, Decision};
use crate::control::domain::owner::OwnerSettings;
use crate::control::domain::webhook::WebhookEvent;
use crate::names::{ClaimId, Namespace, ServiceId};
use crate::policy::Scope;

/// An outer fault is the database's, an inner one the answer.
type Answer = Result<Result<ClaimRecord, ClaimFault>, StoreFault>;

/// What an approval says of the claim's end and scopes.
struct Terms<'a> {
    expires_at: Option<Option<UnixTime>>,
    scopes: Option<&'a [Scope]>,
}

/// A claim that waits for a decision, and the TTL that was asked for.
struct Waiting {
    claim: ClaimRecord,
    ttl_seconds: Option<u64>,
}

impl Store {
    /// Decides about a claim of this namespace. `by`: the owner's e-mail address. Limits hold under concurrent
    /// approvals. Where a second approver is needed and this is the first, the claim comes back pending, with the
    /// terms that the first one gave; a second one who gives other terms becomes the first one of these.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: why it was not decided so.
    pub async fn decide_claim(
        &self,
        namespace: &Namespace,
        id: &ClaimId,
        decision: Decision,
        by: &str,
        now: UnixTime,
    ) -> Result<Result<ClaimRecord, ClaimFault>, StoreFault> {
        retrying(|| self.try_decide(namespace, id, &decision, by, now)).await
    }

    async fn try_decide(
        &self,
        namespace: &Namespace,
        id: &ClaimId,
        decision: &Decision,
        by: &str,
        now: UnixTime,
    ) -> Answer {
        let mut change = self.change().await?;
        let Some(settings) = change.lock_namespace(namespace).await? else {
            return Ok(Err(ClaimFault::NotFound(id.clone())));
        };
        let Some(waiting) = change.lock_claim(namespace, id).await? else {
            return Ok(Err(ClaimFault::NotFound(id.clone())));
        };
        if ends::is_over(&waiting.claim, &settings, now) {
            // Nobody has expired it yet. It is not decided about any more.
            let mut lines = Vec::new();
            change.end(vec![waiting.claim], &End::expired(now), &mut lines).await?;
            change.append(&lines).await?;
            change.commit().await?;
            return Ok(Err(transition(ClaimStatus::Expired, decision)));
        }
        let allowed = match decision {
            Decision::Approve { .. } | Decision::Reject => waiting.claim.status == ClaimStatus::Pending,
            Decision::Revoke => matches!(waiting.claim.status, ClaimStatus::Pending | ClaimStatus::Approved),
        };
        if !allowed {
            return Ok(Err(transition(waiting.claim.status, decision)));
        }
        match decision {
            Decision::Approve { expires_at, scopes } => {
                let terms = Terms { expires_at: *expires_at, scopes: scopes.as_deref() };
                approve(change, waiting, &terms, &settings, by, now).await
            }
            Decision::Reject => end(change, waiting.claim, ClaimStatus::Rejected, by, now).await,
            Decision::Revoke => end(change, waiting.claim, ClaimStatus::Revoked, by, now).await,
        }
    }
}

fn transition(status: ClaimStatus, decision: &Decision) -> ClaimFault {
    let wanted = match decision {
        Decision::Approve { .. } => ClaimStatus::Approved,
        Decision::Reject => ClaimStatus::Rejected,
        Decision::Revoke => ClaimStatus::Revoked,
    };
    ClaimFault::Transition { status, wanted: wanted.word() }
}

async fn end(mut change: Change, claim: ClaimRecord, status: ClaimStatus, by: &str, now: UnixTime) -> Answer {
    let id = claim.id.clone();
    let mut lines = Vec::new();
    let end = End { status, by: by.to_owned(), at: now };
    let ended = change.end(vec![claim], &end, &mut lines).await?;
    change.append(&lines).await?;
    change.commit().await?;
    Ok(ended.into_iter().next().ok_or(ClaimFault::NotFound(id)))
}

async fn approve(
    mut change: Change,
    waiting: Waiting,
    terms: &Terms<'_>,
    settings: &OwnerSettings,
    by: &str,
    now: UnixTime,
) -> Answer {
    let Waiting { mut claim, mut ttl_seconds } = waiting;
    let asked = (claim.expires_at, ttl_seconds, claim.scopes.clone());
    terms.fill_in(&mut claim, &mut ttl_seconds, settings, now)?;
    let same_terms = asked == (claim.expires_at, ttl_seconds, claim.scopes.clone());
    if ttl_seconds.is_none()
        && let Some(end) = claim.expires_at.filter(|end| *end <= now)
    {
        return Ok(Err(ClaimFault::EndInPast(end)));
    }
    if settings.require_second_approver {
        match claim.first_approver.take() {
            Some(first) if first.eq_ignore_ascii_case(by) => {
                return Ok(Err(ClaimFault::SecondApprover(first)));
            }
            Some(first) if same_terms => claim.first_approver = Some(first),
            _ => {
                claim.first_approver = Some(by.to_owned());
                change.write_terms(&claim, ttl_seconds).await?;
                change.commit().await?;
                return Ok(Ok(claim));
            }
        }
    }
    if let Some(fault) = change.limit_reached(&claim, settings, now).await? {
        return Ok(Err(fault));
    }
    if let Some(seconds) = ttl_seconds {
        claim.expires_at = Some(end_after(seconds, now));
    }
    claim.status = ClaimStatus::Approved;
    claim.approved_at = Some(now);
    claim.decided_at = Some(now);
    claim.decided_by = Some(by.to_owned());
    change.write_terms(&claim, ttl_seconds).await?;
    change.deliver(&claim, WebhookEvent::Approved, now).await?;
    change.append(&[Line::approved(&claim, now)?]).await?;
    change.commit().await?;
    Ok(Ok(claim))
}

impl Terms<'_> {
    /// Makes the claim what this approval says. An end that is said is that end, and no time that counts from the
    /// approval, though it may be the one that was shown for such a time. What nobody said is what the owner's defaults
    /// say now; where another approved before, all was said.
    fn fill_in(
        &self,
        claim: &mut ClaimRecord,
        ttl_seconds: &mut Option<u64>,
        settings: &OwnerSettings,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        let is_first = claim.first_approver.is_none();
        if let Some(end) = self.expires_at {
            claim.expires_at = end;
            *ttl_seconds = None;
        } else if claim.expires_at.is_none() && is_first {
            *ttl_seconds = settings.default_claim_ttl;
            claim.expires_at = ttl_seconds.map(|seconds| end_after(seconds, now));
        }
        if let Some(scopes) = self.scopes {
            claim.scopes = scopes.to_vec();
        } else if claim.scopes.is_empty() && is_first {
            claim.scopes = scopes(&settings.default_scopes)?;
        }
        Ok(())
    }
}

impl Change {
    /// The claim, kept from others, and its service too; `None` where there is none in this namespace.
    async fn lock_claim(
        &mut self,
        namespace: &Namespace,
        id: &ClaimId,
    ) -> Result<Option<Waiting>, StoreFault> {
        let service: Option<String> =
            sqlx::query_scalar("SELECT service_id FROM claims WHERE id = $1 AND namespace = $2")
                .bind(id.as_str())
                .bind(namespace.as_str())
                .fetch_optional(&mut *self.transaction)
                .await?;
        let Some(service) = service else { return Ok(None) };
        let service: ServiceId = super::record::text("claim's service id", &service)?;
        // Whoever removes a service ends its claims: where it is gone, so is what could be decided.
        self.hold_service(&service).await?;
        let row = sqlx::query(self.backend().for_update(select_claims!("WHERE id = $1")))
            .bind(id.as_str())
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.as_ref().map(waiting).transpose()
    }

    /// Writes what an approval changes of a pending claim.
    async fn write_terms(&mut self, claim: &ClaimRecord, ttl_seconds: Option<u64>) -> Result<(), StoreFault> {
        let written = sqlx::query(
            "UPDATE claims SET status = $2, scopes = $3, expires_at = $4, ttl_seconds = $5, first_approver = $6, \
             approved_at = $7, decided_at = $8, decided_by = $9 WHERE id = $1 AND status = 'pending'",
        )
        .bind(claim.id.as_str())
        .bind(claim.status.word())
        .bind(scopes_json(&claim.scopes)?)
        .bind(claim.expires_at.map(UnixTime::millis))
        .bind(ttl_seconds.map(bigint))
        .bind(claim.first_approver.as_deref())
        .bind(claim.approved_at.map(UnixTime::millis))
        .bind(claim.decided_at.map(UnixTime::millis))
        .bind(claim.decided_by.as_deref())
        .execute(&mut *self.transaction)
        .await?;
        if written.rows_affected() == 1 {
            Ok(())
        } else {
            Err(StoreFault::Contended("the claim was decided by another meanwhile".to_owned()))
        }
    }

    /// Why one more approved claim would be too many, if it would. The namespace is locked, so nobody adds one
    /// meanwhile. Of (namespace, key, service) there is one approved claim at most: claims count agents.
    pub(super) async fn limit_reached(
        &mut self,
        claim: &ClaimRecord,
        settings: &OwnerSettings,
        now: UnixTime,
    ) -> Result<Option<ClaimFault>, StoreFault> {
        let agents: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM claims WHERE namespace = $1 AND status = 'approved' AND service_id = $2 \
             AND (expires_at IS NULL OR expires_at > $3)",
        )
        .bind(claim.namespace.as_str())
        .bind(claim.service_id.as_str())
        .bind(now.millis())
        .fetch_one(&mut *self.transaction)
        .await?;
        if count(agents) >= settings.max_agents_per_service {
            let most = settings.max_agents_per_service;
            return Ok(Some(ClaimFault::Limit { what: "the number of agents on one service", most }));
        }
        if agents > 0 {
            return Ok(None);
        }
        let services: i64 = sqlx::query_scalar(
            "SELECT COUNT(DISTINCT service_id) FROM claims WHERE namespace = $1 AND status = 'approved' \
             AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(claim.namespace.as_str())
        .bind(now.millis())
        .fetch_one(&mut *self.transaction)
        .await?;
        let most = settings.max_services;
        Ok((count(services) >= most)
            .then_some(ClaimFault::Limit { what: "the number of services with an approved claim", most }))
    }
}

fn waiting(row: &AnyRow) -> Result<Waiting, StoreFault> {
    let ttl: Option<i64> = optional(row, "ttl_seconds")?;
    let ttl_seconds = ttl.map(|seconds| natural("ttl_seconds", seconds)).transpose()?;
    Ok(Waiting { claim: claim(row)?, ttl_seconds })
}
