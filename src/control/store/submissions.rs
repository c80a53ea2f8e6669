//! Claims that are asked for.

use std::time::Duration;

use super::change::{Change, Line, Standing};
use super::ends::{self, AUTO, End};
use super::record::{claim, count, scopes, scopes_json, select_claims};
use super::{Store, StoreFault, random, retrying};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimFault, ClaimRecord, ClaimStatus, Submission, Submitted};
use crate::control::domain::owner::OwnerSettings;
use crate::control::domain::webhook::WebhookEvent;
use crate::names::{ClaimId, Namespace};

/// How long the nonce of a submission is kept.
const NONCE_TTL: Duration = Duration::from_secs(48 * 3600);
/// A TTL that is asked for is at most a hundred years.
const MOST_TTL_SECONDS: u64 = 100 * 365 * 24 * 3600;

/// Who decided, where there were too many.
const LIMIT: &str = "limit";

impl Store {
    /// Submits a claim: the nonce, the standing one, the owner's rules, the limits, in one transaction.
    ///
    /// A claim above a limit is made as rejected. The owner's rules approve only where no second approver is wanted.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such namespace or service, or the nonce was used before.
    pub async fn submit_claim(
        &self,
        submission: Submission,
        now: UnixTime,
    ) -> Result<Result<Submitted, ClaimFault>, StoreFault> {
        retrying(|| self.try_submit(&submission, now)).await
    }

    async fn try_submit(
        &self,
        submission: &Submission,
        now: UnixTime,
    ) -> Result<Result<Submitted, ClaimFault>, StoreFault> {
        let mut change = self.change().await?;
        let Some(settings) = change.lock_namespace(&submission.namespace).await? else {
            return Ok(Err(ClaimFault::NoNamespace(submission.namespace.clone())));
        };
        if !change.take_nonce(&submission.namespace, &submission.nonce, now).await? {
            return Ok(Err(ClaimFault::NonceReplay));
        }
        let Some(service) = change.hold_service(&submission.service_id).await? else {
            return Ok(Err(ClaimFault::NoService(submission.service_id.clone())));
        };
        let mut lines = Vec::new();
        if let Some(standing) = change.standing_claim(submission).await? {
            if !ends::is_over(&standing, &settings, now) {
                change.commit().await?;
                return Ok(Ok(Submitted::Standing(standing)));
            }
            change.end(vec![standing], &End::expired(now), &mut lines).await?;
        }
        let (mut made, ttl_seconds) = asked_for(submission, &service, &settings, now)?;
        change.settle(&mut made, ttl_seconds, &settings, now).await?;
        change.insert_claim(&made, ttl_seconds).await?;
        change.deliver(&made, WebhookEvent::Submitted, now).await?;
        match made.status {
            ClaimStatus::Approved => {
                change.deliver(&made, WebhookEvent::Approved, now).await?;
                lines.push(Line::approved(&made, now)?);
            }
            ClaimStatus::Rejected => change.deliver(&made, WebhookEvent::Rejected, now).await?,
            _ => {}
        }
        change.append(&lines).await?;
        change.commit().await?;
        Ok(Ok(Submitted::Made(made)))
    }
}

/// The claim as it is asked for, pending, and its TTL.
fn asked_for(
    submission: &Submission,
    service: &Standing,
    settings: &OwnerSettings,
    now: UnixTime,
) -> Result<(ClaimRecord, Option<u64>), StoreFault> {
    let ttl_seconds =
        submission.ttl_seconds.or(settings.default_claim_ttl).map(|seconds| seconds.min(MOST_TTL_SECONDS));
    let scopes = match submission.scopes.as_slice() {
        [] => scopes(&settings.default_scopes)?,
        asked => asked.to_vec(),
    };
    let made = ClaimRecord {
        id: ClaimId::from_random(random()?),
        namespace: submission.namespace.clone(),
        public_key: submission.public_key,
        service_id: submission.service_id.clone(),
        service: service.slug.clone(),
        service_owner: service.owner.clone(),
        subject: submission.subject.clone(),
        agent_id: submission.agent_id.clone(),
        agent_name: submission.agent_name.clone(),
        agent_ip: submission.agent_ip,
        status: ClaimStatus::Pending,
        scopes,
        created_at: now,
        approved_at: None,
        decided_at: None,
        decided_by: None,
        expires_at: ttl_seconds.map(|seconds| now.plus(Duration::from_secs(seconds))),
        first_approver: None,
    };
    Ok((made, ttl_seconds))
}

/// A TTL as it is stored. One that is too great must not become none, which is for ever.
pub(super) fn bigint(ttl_seconds: u64) -> i64 {
    i64::try_from(ttl_seconds).unwrap_or(i64::MAX)
}

/// The end of a claim that is approved `now` and holds for so long.
pub(super) fn end_after(ttl_seconds: u64, now: UnixTime) -> UnixTime {
    now.plus(Duration::from_secs(ttl_seconds.min(MOST_TTL_SECONDS)))
}

impl Change {
    /// Notes a submission's nonce; `false` where it is noted already.
    async fn take_nonce(
        &mut self,
        namespace: &Namespace,
        nonce: &str,
        now: UnixTime,
    ) -> Result<bool, StoreFault> {
        let noted = sqlx::query(
            "INSERT INTO claim_nonces (namespace, nonce, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(namespace.as_str())
        .bind(nonce)
        .bind(now.plus(NONCE_TTL).millis())
        .execute(&mut *self.transaction)
        .await?;
        Ok(noted.rows_affected() == 1)
    }

    /// The pending or approved claim for what is asked, kept from others.
    async fn standing_claim(&mut self, submission: &Submission) -> Result<Option<ClaimRecord>, StoreFault> {
        let select = select_claims!(
            "WHERE namespace = $1 AND public_key = $2 AND service_id = $3 AND status IN ('pending', 'approved')"
        );
        let row = sqlx::query(self.backend().for_update(select))
            .bind(submission.namespace.as_str())
            .bind(submission.public_key.to_string())
            .bind(submission.service_id.as_str())
            .fetch_optional(&mut *self.transaction)
            .await?;
        row.as_ref().map(claim).transpose()
    }

    /// Decides about a new claim as far as the limits and the owner's rules do.
    async fn settle(
        &mut self,
        made: &mut ClaimRecord,
        ttl_seconds: Option<u64>,
        settings: &OwnerSettings,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        let approves = self.rules_approve(made, settings).await?;
        let above = self.limit_reached(made, settings, now).await?.is_some()
            || !approves && self.pending_are_too_many(made, settings).await?;
        if above || approves {
            made.decided_at = Some(now);
        }
        if above {
            made.status = ClaimStatus::Rejected;
            made.decided_by = Some(LIMIT.to_owned());
        } else if approves {
            made.status = ClaimStatus::Approved;
            made.decided_by = Some(AUTO.to_owned());
            made.approved_at = Some(now);
            made.expires_at = ttl_seconds.map(|seconds| end_after(seconds, now));
        }
        Ok(())
    }

    /// Whether the owner's rules approve. The agent's address is what the service says, so it counts only from a
    /// service that the owner has or trusts.
    async fn rules_approve(
        &mut self,
        claim: &ClaimRecord,
        settings: &OwnerSettings,
    ) -> Result<bool, StoreFault> {
        let from_there = settings.trusted_ip_ranges.iter().any(|range| range.contains(&claim.agent_ip));
        let by_address = settings.auto_approve_ip && from_there;
        if settings.require_second_approver || !(by_address || settings.auto_approve_trusted) {
            return Ok(false);
        }
        let own = claim.service_owner == claim.namespace;
        let trusted = self.is_trusted(claim, settings).await?;
        Ok(settings.auto_approve_trusted && trusted || by_address && (own || trusted))
    }

    /// Whether `trustedServices` names the claim's service: as `slug` where the owner itself has it, or where it was
    /// another's alone when the slug was written down; as `namespace/slug` where another has it. Anyone may give a
    /// service any slug, at any time.
    async fn is_trusted(
        &mut self,
        claim: &ClaimRecord,
        settings: &OwnerSettings,
    ) -> Result<bool, StoreFault> {
        let names = |wanted: &str| settings.trusted_services.iter().any(|name| name == wanted);
        if names(&format!("{}/{}", claim.service_owner, claim.service)) {
            return Ok(true);
        }
        if !names(claim.service.as_str()) {
            return Ok(false);
        }
        let meant: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM trusted_services WHERE namespace = $1 AND slug = $2 AND service_id = $3",
        )
        .bind(claim.namespace.as_str())
        .bind(claim.service.as_str())
        .bind(claim.service_id.as_str())
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(claim.service_owner == claim.namespace || meant > 0)
    }

    /// Claims on the namespace's own services are counted by themselves: what services of others ask for, which is
    /// anything, does not crowd them out.
    async fn pending_are_too_many(
        &mut self,
        claim: &ClaimRecord,
        settings: &OwnerSettings,
    ) -> Result<bool, StoreFault> {
        let own =
            "SELECT COUNT(*) FROM claims WHERE namespace = $1 AND status = 'pending' AND service_owner = $1";
        let all = "SELECT COUNT(*) FROM claims WHERE namespace = $1 AND status = 'pending'";
        let pending: i64 = sqlx::query_scalar(if claim.service_owner == claim.namespace { own } else { all })
            .bind(claim.namespace.as_str())
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(count(pending) >= u64::from(settings.max_pending_limit))
    }

    pub(super) async fn insert_claim(
        &mut self,
        made: &ClaimRecord,
        ttl_seconds: Option<u64>,
    ) -> Result<(), StoreFault> {
        sqlx::query(
            "INSERT INTO claims (id, namespace, public_key, service_id, service, service_owner, subject, agent_id, \
             agent_name, agent_ip, status, scopes, created_at, approved_at, decided_at, decided_by, expires_at, \
             ttl_seconds, first_approver) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        )
        .bind(made.id.as_str())
        .bind(made.namespace.as_str())
        .bind(made.public_key.to_string())
        .bind(made.service_id.as_str())
        .bind(made.service.as_str())
        .bind(made.service_owner.as_str())
        .bind(&*made.subject)
        .bind(made.agent_id.as_deref())
        .bind(made.agent_name.as_deref())
        .bind(made.agent_ip.to_string())
        .bind(made.status.word())
        .bind(scopes_json(&made.scopes)?)
        .bind(made.created_at.millis())
        .bind(made.approved_at.map(UnixTime::millis))
        .bind(made.decided_at.map(UnixTime::millis))
        .bind(made.decided_by.as_deref())
        .bind(made.expires_at.map(UnixTime::millis))
        .bind(ttl_seconds.map(bigint))
        .bind(made.first_approver.as_deref())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}
