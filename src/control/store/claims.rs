//! Claims: every transition is compare-and-set in one transaction, with its line in the feed and its deliveries.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimFault, ClaimFilter, ClaimRecord, Decision, Submission, Submitted};
use crate::control::domain::feed::Cursor;
use crate::control::domain::service::ServiceCaller;
use crate::names::{ClaimId, Namespace, ServiceSlug};
use crate::protocol::PublicKey;

/// A page of approved claims.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovedPage {
    /// The claims, by their ids.
    pub claims: Vec<ClaimRecord>,
    /// Claims in all.
    pub total: u64,
    /// Whether there are more after these.
    pub has_more: bool,
    /// Where the feed stood when the page was read, in the same snapshot: changes after it are not in the page.
    pub cursor: Cursor,
}

/// From where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageFrom {
    /// Skip so many.
    Offset(u64),
    /// After the claim of this id: unlike an offset it skips none when others go meanwhile.
    After(ClaimId),
}

impl Store {
    /// Submits a claim: the nonce, the standing one, the limits, the owner's rules, in one transaction.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such namespace, or the nonce was used before.
    pub async fn submit_claim(
        &self,
        submission: Submission,
        now: UnixTime,
    ) -> Result<Result<Submitted, ClaimFault>, StoreFault> {
        let _ = (submission, now);
        unimplemented!()
    }

    /// Decides about a claim of this namespace. `by`: the owner's e-mail address. Limits hold under concurrent
    /// approvals. Where a second approver is needed and this is the first, the claim comes back pending.
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
        let _ = (namespace, id, decision, by, now);
        unimplemented!()
    }

    /// One claim of this namespace.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(
        &self,
        namespace: &Namespace,
        id: &ClaimId,
    ) -> Result<Option<ClaimRecord>, StoreFault> {
        let _ = (namespace, id);
        unimplemented!()
    }

    /// The claims of a namespace, newest first, and how many there are in all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claims_of(
        &self,
        namespace: &Namespace,
        filter: &ClaimFilter,
    ) -> Result<(Vec<ClaimRecord>, u64), StoreFault> {
        let _ = (namespace, filter);
        unimplemented!()
    }

    /// A page of the approved claims of one service (of the caller's owner), across namespaces.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn approved_claims(
        &self,
        owner: &Namespace,
        service: &ServiceSlug,
        from: PageFrom,
        limit: usize,
        now: UnixTime,
    ) -> Result<ApprovedPage, StoreFault> {
        let _ = (owner, service, from, limit, now);
        unimplemented!()
    }

    /// An approved, unexpired claim for (namespace, key, service); of the caller's owner's service where a caller is
    /// given, else of any owner's service with this slug.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify_claim(
        &self,
        namespace: &Namespace,
        key: &PublicKey,
        service: &ServiceSlug,
        caller: Option<&ServiceCaller>,
        now: UnixTime,
    ) -> Result<Option<ClaimRecord>, StoreFault> {
        let _ = (namespace, key, service, caller, now);
        unimplemented!()
    }

    /// Expires what is due: pending ones after 24 h (where the owner's `autoExpire` says so), approved ones at their
    /// end; at most 500 a call, each once however many replicas call. Gives how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn expire_claims(&self, now: UnixTime) -> Result<usize, StoreFault> {
        let _ = now;
        unimplemented!()
    }

    /// Makes an approved claim, or revokes one, without the owner: for `POST /v1/test/seed` alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn seed_claim(
        &self,
        namespace: &Namespace,
        service: &ServiceSlug,
        key: &PublicKey,
        approved: bool,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        let _ = (namespace, service, key, approved, now);
        unimplemented!()
    }
}
