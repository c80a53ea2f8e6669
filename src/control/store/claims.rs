//! Claims, read.

use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::record::{claim, claims, count, select_claims};
use super::{Store, StoreFault, feed};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimFilter, ClaimRecord};
use crate::control::domain::feed::Cursor;
use crate::names::{ClaimId, Namespace, ServiceSlug};
use crate::protocol::PublicKey;

/// Claims of one page at most.
const PAGE: usize = 1_000;

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
    /// One claim of this namespace.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(
        &self,
        namespace: &Namespace,
        id: &ClaimId,
    ) -> Result<Option<ClaimRecord>, StoreFault> {
        let row = sqlx::query(select_claims!("WHERE id = $1 AND namespace = $2"))
            .bind(id.as_str())
            .bind(namespace.as_str())
            .fetch_optional(self.readers())
            .await?;
        row.as_ref().map(claim).transpose()
    }

    /// The claims of a namespace, newest first, and how many there are in all. At most 1,000 come back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claims_of(
        &self,
        namespace: &Namespace,
        filter: &ClaimFilter,
    ) -> Result<(Vec<ClaimRecord>, u64), StoreFault> {
        let mut condition = "WHERE namespace = $1".to_owned();
        let mut values = vec![namespace.as_str()];
        let status = filter.status.map(|status| ("status", status.word()));
        let service = filter.service.as_ref().map(|service| ("service", service.as_str()));
        for (column, value) in status.into_iter().chain(service) {
            values.push(value);
            condition.push_str(&format!(" AND {column} = ${}", values.len()));
        }
        // Of what the caller says there are only values in these texts, and those are bound.
        let counting = format!("SELECT COUNT(*) FROM claims {condition}");
        let listing = format!(
            "{}{condition} ORDER BY created_at DESC, id DESC LIMIT ${} OFFSET ${}",
            select_claims!(""),
            values.len() + 1,
            values.len() + 2
        );
        let mut snapshot = self.snapshot().await?;
        let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(counting));
        for value in &values {
            query = query.bind(*value);
        }
        let total = query.fetch_one(&mut *snapshot).await?;
        let mut query = sqlx::query(AssertSqlSafe(listing));
        for value in &values {
            query = query.bind(*value);
        }
        let rows = query
            .bind(bounded(filter.limit))
            .bind(i64::try_from(filter.offset).unwrap_or(i64::MAX))
            .fetch_all(&mut *snapshot)
            .await?;
        snapshot.commit().await?;
        Ok((claims(&rows)?, count(total)))
    }

    /// A page of the approved claims of one service (of the caller's owner), across namespaces. At most 1,000 come
    /// back.
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
        let limit = bounded(limit);
        let (after, offset) = match &from {
            PageFrom::Offset(offset) => ("", i64::try_from(*offset).unwrap_or(i64::MAX)),
            PageFrom::After(id) => (id.as_str(), 0),
        };
        let mut snapshot = self.snapshot().await?;
        let head = feed::head(&mut snapshot).await?;
        let total: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM claims WHERE service_owner = $1 AND service = $2 AND status = 'approved' \
             AND (expires_at IS NULL OR expires_at > $3)",
        )
        .bind(owner.as_str())
        .bind(service.as_str())
        .bind(now.millis())
        .fetch_one(&mut *snapshot)
        .await?;
        // One more than asked for tells whether there are more.
        let rows = sqlx::query(select_claims!(
            "WHERE service_owner = $1 AND service = $2 AND status = 'approved' \
             AND (expires_at IS NULL OR expires_at > $3) AND id > $4 ORDER BY id LIMIT $5 OFFSET $6"
        ))
        .bind(owner.as_str())
        .bind(service.as_str())
        .bind(now.millis())
        .bind(after)
        .bind(limit + 1)
        .bind(offset)
        .fetch_all(&mut *snapshot)
        .await?;
        snapshot.commit().await?;
        let limit = usize::try_from(limit).unwrap_or(PAGE);
        let page: &[AnyRow] = rows.get(..limit).unwrap_or(&rows);
        Ok(ApprovedPage {
            claims: claims(page)?,
            total: count(total),
            has_more: rows.len() > limit,
            cursor: self.at(&head),
        })
    }

    /// An approved, unexpired claim for (namespace, key, service); of this owner's service where one is given, else of any
    /// owner's service with this slug.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify_claim(
        &self,
        namespace: &Namespace,
        key: &PublicKey,
        service: &ServiceSlug,
        owner: Option<&Namespace>,
        now: UnixTime,
    ) -> Result<Option<ClaimRecord>, StoreFault> {
        // COALESCE keeps SQLite from an index that is in this order and knows no service.
        let row = sqlx::query(select_claims!(
            "WHERE namespace = $1 AND public_key = $2 AND service = $3 AND status = 'approved' \
             AND (expires_at IS NULL OR expires_at > $4) AND ($5 = '' OR service_owner = $5) \
             ORDER BY COALESCE(approved_at, 0), id LIMIT 1"
        ))
        .bind(namespace.as_str())
        .bind(key.to_string())
        .bind(service.as_str())
        .bind(now.millis())
        .bind(owner.map_or("", Namespace::as_str))
        .fetch_optional(self.readers())
        .await?;
        row.as_ref().map(claim).transpose()
    }
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit.clamp(1, PAGE)).unwrap_or(1)
}
