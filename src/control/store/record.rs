//! Rows become records, and a claim becomes JSON for the feed.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row as _, Type};

use super::StoreFault;
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimRecord, ClaimStatus};
use crate::control::domain::owner::OwnerSettings;
use crate::policy::Scope;

/// A SELECT of claims: all columns in front of what is given.
macro_rules! select_claims {
    ($($rest:literal),+) => {
        concat!(
            "SELECT id, namespace, public_key, service_id, service, service_owner, subject, agent_id, agent_name, \
             agent_ip, status, scopes, created_at, approved_at, decided_at, decided_by, expires_at, ttl_seconds, \
             first_approver FROM claims ",
            $($rest),+
        )
    };
}
pub(super) use select_claims;

/// A claim as text, numbers and nothing else.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    id: String,
    namespace: String,
    public_key: String,
    service_id: String,
    service: String,
    service_owner: String,
    subject: String,
    agent_id: Option<String>,
    agent_name: Option<String>,
    agent_ip: String,
    status: String,
    scopes: Vec<String>,
    created_at: i64,
    approved_at: Option<i64>,
    decided_at: Option<i64>,
    decided_by: Option<String>,
    expires_at: Option<i64>,
    first_approver: Option<String>,
}

/// The claim in a row of [`select_claims`].
pub(super) fn claim(row: &AnyRow) -> Result<ClaimRecord, StoreFault> {
    let scopes: String = row.try_get("scopes")?;
    Written {
        id: row.try_get("id")?,
        namespace: row.try_get("namespace")?,
        public_key: row.try_get("public_key")?,
        service_id: row.try_get("service_id")?,
        service: row.try_get("service")?,
        service_owner: row.try_get("service_owner")?,
        subject: row.try_get("subject")?,
        agent_id: optional(row, "agent_id")?,
        agent_name: optional(row, "agent_name")?,
        agent_ip: row.try_get("agent_ip")?,
        status: row.try_get("status")?,
        scopes: from_json("claim's scopes", &scopes)?,
        created_at: row.try_get("created_at")?,
        approved_at: optional(row, "approved_at")?,
        decided_at: optional(row, "decided_at")?,
        decided_by: optional(row, "decided_by")?,
        expires_at: optional(row, "expires_at")?,
        first_approver: optional(row, "first_approver")?,
    }
    .read()
}

/// The claims in rows of [`select_claims`].
pub(super) fn claims(rows: &[AnyRow]) -> Result<Vec<ClaimRecord>, StoreFault> {
    rows.iter().map(claim).collect()
}

impl Written {
    /// The record.
    pub(super) fn read(self) -> Result<ClaimRecord, StoreFault> {
        Ok(ClaimRecord {
            id: text("claim's id", &self.id)?,
            namespace: text("claim's namespace", &self.namespace)?,
            public_key: text("claim's public key", &self.public_key)?,
            service_id: text("claim's service id", &self.service_id)?,
            service: text("claim's service", &self.service)?,
            service_owner: text("claim's service owner", &self.service_owner)?,
            subject: self.subject,
            agent_id: self.agent_id,
            agent_name: self.agent_name,
            agent_ip: text("claim's agent_ip", &self.agent_ip)?,
            status: ClaimStatus::from_word(&self.status).ok_or_else(|| StoreFault::Unreadable {
                what: "claim's status",
                cause: "it is none of the five".to_owned(),
            })?,
            scopes: scopes(&self.scopes)?,
            created_at: UnixTime::from_millis(self.created_at),
            approved_at: self.approved_at.map(UnixTime::from_millis),
            decided_at: self.decided_at.map(UnixTime::from_millis),
            decided_by: self.decided_by,
            expires_at: self.expires_at.map(UnixTime::from_millis),
            first_approver: self.first_approver,
        })
    }
}

impl From<&ClaimRecord> for Written {
    fn from(claim: &ClaimRecord) -> Self {
        Self {
            id: claim.id.to_string(),
            namespace: claim.namespace.to_string(),
            public_key: claim.public_key.to_string(),
            service_id: claim.service_id.to_string(),
            service: claim.service.to_string(),
            service_owner: claim.service_owner.to_string(),
            subject: claim.subject.clone(),
            agent_id: claim.agent_id.clone(),
            agent_name: claim.agent_name.clone(),
            agent_ip: claim.agent_ip.to_string(),
            status: claim.status.word().to_owned(),
            scopes: claim.scopes.iter().map(Scope::to_string).collect(),
            created_at: claim.created_at.millis(),
            approved_at: claim.approved_at.map(UnixTime::millis),
            decided_at: claim.decided_at.map(UnixTime::millis),
            decided_by: claim.decided_by.clone(),
            expires_at: claim.expires_at.map(UnixTime::millis),
            first_approver: claim.first_approver.clone(),
        }
    }
}

/// Scopes from their texts. One that cannot be read fails them all: left out, it would leave "everything".
pub(super) fn scopes(texts: &[String]) -> Result<Vec<Scope>, StoreFault> {
    texts.iter().map(|scope| text("scope", scope)).collect()
}

/// Scopes as they are stored.
pub(super) fn scopes_json(scopes: &[Scope]) -> Result<String, StoreFault> {
    json(&scopes.iter().map(Scope::to_string).collect::<Vec<_>>())
}

/// An owner's policy, as it is stored.
pub(super) fn settings(written: &str) -> Result<OwnerSettings, StoreFault> {
    from_json("namespace's settings", written)
}

/// A column whose text is one of our names.
pub(super) fn parsed<T: FromStr<Err: Display>>(row: &AnyRow, column: &'static str) -> Result<T, StoreFault> {
    text(column, &row.try_get::<String, _>(column)?)
}

/// A column that may be NULL.
pub(super) fn optional<T>(row: &AnyRow, column: &'static str) -> Result<Option<T>, StoreFault>
where
    T: for<'r> Decode<'r, Any> + Type<Any>,
{
    Ok(row.try_get(column)?)
}

/// A column of a time.
pub(super) fn time(row: &AnyRow, column: &'static str) -> Result<UnixTime, StoreFault> {
    Ok(UnixTime::from_millis(row.try_get(column)?))
}

/// A column of a time that may be NULL.
pub(super) fn optional_time(row: &AnyRow, column: &'static str) -> Result<Option<UnixTime>, StoreFault> {
    Ok(optional(row, column)?.map(UnixTime::from_millis))
}

/// A column of a number that is never negative.
pub(super) fn number(row: &AnyRow, column: &'static str) -> Result<u64, StoreFault> {
    natural(column, row.try_get(column)?)
}

/// A number that is never negative.
pub(super) fn natural<T: TryFrom<i64>>(what: &'static str, found: i64) -> Result<T, StoreFault> {
    let cause = || format!("{found} is not a number that can stand there");
    T::try_from(found).map_err(|_| StoreFault::Unreadable { what, cause: cause() })
}

/// What was counted.
pub(super) fn count(found: i64) -> u64 {
    u64::try_from(found).unwrap_or_default()
}

/// Text that is one of our names.
pub(super) fn text<T: FromStr<Err: Display>>(what: &'static str, text: &str) -> Result<T, StoreFault> {
    text.parse().map_err(|fault: T::Err| StoreFault::Unreadable { what, cause: fault.to_string() })
}

pub(super) fn json(value: &impl Serialize) -> Result<String, StoreFault> {
    serde_json::to_string(value).map_err(|fault| StoreFault::Database(fault.to_string()))
}

pub(super) fn from_json<T: for<'de> Deserialize<'de>>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreFault> {
    serde_json::from_str(text).map_err(|fault| StoreFault::Unreadable { what, cause: fault.to_string() })
}
