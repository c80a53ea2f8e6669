//! The feed: what changed after a cursor.

use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::change::placeholders;
use super::record::{Written, from_json, optional, parsed, time};
use super::{Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::control::domain::feed::{Cursor, FeedChange, FeedEvent, FeedRead};
use crate::names::{Namespace, ServiceSlug};

/// How long changes are kept, and how many.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const KEPT_CHANGES: i64 = 1_000_000;
/// Changes that one statement forgets, so that writers wait no longer than for that.
const BATCH: i64 = 10_000;
/// Changes that come back at most.
const PAGE: usize = 10_000;

/// Where the feed stands.
pub(super) struct Head {
    seq: i64,
    /// The tag of the change of this number.
    tag: String,
    /// Changes up to this one are forgotten.
    oldest: i64,
}

pub(super) async fn head(transaction: &mut Transaction<'static, Any>) -> Result<Head, StoreFault> {
    let row = sqlx::query(
        "SELECT h.seq, COALESCE(e.tag, h.oldest_tag) AS tag, h.oldest \
         FROM feed_head h LEFT JOIN feed_events e ON e.seq = h.seq",
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(Head { seq: row.try_get("seq")?, tag: row.try_get("tag")?, oldest: row.try_get("oldest")? })
}

/// The tag of the change of this number, which is not older than the last one that was forgotten.
async fn tag_of(transaction: &mut Transaction<'static, Any>, seq: i64) -> Result<String, StoreFault> {
    let tag = sqlx::query_scalar(
        "SELECT COALESCE(e.tag, h.oldest_tag) FROM feed_head h LEFT JOIN feed_events e ON e.seq = $1",
    );
    Ok(tag.bind(seq).fetch_one(&mut **transaction).await?)
}

/// The newest changes of everybody's services, without what changed.
#[derive(Debug)]
pub struct FeedMoves {
    /// After the cursor that was given, oldest first.
    pub moves: Vec<FeedMove>,
    /// Where a reader of them stands then.
    pub end: Cursor,
    /// Whether they follow the cursor that was given without a gap; if not, there are none, and the end is the feed's.
    pub follow: bool,
}

/// One of them.
#[derive(Debug)]
pub struct FeedMove {
    /// Its number.
    pub seq: i64,
    /// Its tag.
    pub tag: String,
    /// Who owns the service.
    pub owner: Namespace,
    /// The service.
    pub service: ServiceSlug,
}

impl Store {
    /// The changes of these services of this owner after `cursor`, at most `limit` (and 10,000), oldest first; the
    /// cursor that comes back counts the changes of other services too. `None` as cursor: from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn feed_after(
        &self,
        owner: &Namespace,
        services: &[ServiceSlug],
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<FeedRead, StoreFault> {
        let mut snapshot = self.snapshot().await?;
        let head = head(&mut snapshot).await?;
        let Some(cursor) = cursor else {
            snapshot.commit().await?;
            return Ok(FeedRead::Changes(Vec::new(), self.at(&head)));
        };
        if !self.knows(&mut snapshot, &head, cursor).await? {
            snapshot.commit().await?;
            return Ok(FeedRead::SnapshotRequired);
        }
        let limit = limit.clamp(1, PAGE);
        let mut events = Vec::new();
        if !services.is_empty() && cursor.seq < head.seq {
            events = changes(&mut snapshot, owner, services, cursor.seq, limit).await?;
        }
        snapshot.commit().await?;
        let end = match events.last() {
            Some(last) if events.len() >= limit => self.cursor(last.seq, &last.tag),
            _ => self.at(&head),
        };
        Ok(FeedRead::Changes(events, end))
    }

    /// The changes of all services after `cursor`, at most `limit` (and 10,000).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn feed_moves(&self, cursor: Option<&Cursor>, limit: usize) -> Result<FeedMoves, StoreFault> {
        let before = self.0.head_heard();
        let mut snapshot = self.snapshot().await?;
        let head = head(&mut snapshot).await?;
        let mut found = FeedMoves { moves: Vec::new(), end: self.at(&head), follow: false };
        let limit = limit.clamp(1, PAGE);
        if let Some(cursor) = cursor
            && self.knows(&mut snapshot, &head, cursor).await?
        {
            found.follow = true;
            found.moves = moves(&mut snapshot, cursor.seq, limit).await?;
        }
        snapshot.commit().await?;
        if let Some(last) = found.moves.last()
            && found.moves.len() >= limit
        {
            found.end = self.cursor(last.seq, &last.tag);
        }
        self.0.found_head(before, head.seq);
        Ok(found)
    }

    /// Whether what follows the cursor is all here: it is of this database, not ahead of it and not older than what is
    /// kept, and the change that it stands at is the one that it saw.
    async fn knows(
        &self,
        snapshot: &mut Transaction<'static, Any>,
        head: &Head,
        cursor: &Cursor,
    ) -> Result<bool, StoreFault> {
        if cursor.epoch != self.0.epoch || !(head.oldest..=head.seq).contains(&cursor.seq) {
            return Ok(false);
        }
        if cursor.seq == head.seq {
            return Ok(cursor.tag == head.tag);
        }
        Ok(cursor.tag == tag_of(snapshot, cursor.seq).await?)
    }

    /// The cursor of who has seen all.
    pub(super) fn at(&self, head: &Head) -> Cursor {
        self.cursor(head.seq, &head.tag)
    }

    fn cursor(&self, seq: i64, tag: &str) -> Cursor {
        Cursor { epoch: self.0.epoch.clone(), seq, tag: tag.to_owned() }
    }

    /// Forgets changes that are older than 7 days, or more than a million behind; a reader that is still there asks
    /// for a snapshot.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_feed(&self, now: UnixTime) -> Result<(), StoreFault> {
        while retrying(|| self.forget_changes(now)).await? {}
        Ok(())
    }

    /// Forgets some; whether there are more.
    async fn forget_changes(&self, now: UnixTime) -> Result<bool, StoreFault> {
        let before = now.millis().saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
        let mut change = self.change().await?;
        let head = head(&mut change.transaction).await?;
        // The first one that is young enough: those before it go, and none behind it.
        let young: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM feed_events WHERE at >= $1 ORDER BY seq LIMIT 1")
                .bind(before)
                .fetch_optional(&mut *change.transaction)
                .await?;
        let wanted = young.map_or(head.seq, |young| young - 1).max(head.seq - KEPT_CHANGES);
        if wanted <= head.oldest {
            return Ok(false);
        }
        let oldest = wanted.min(head.oldest + BATCH);
        let tag = tag_of(&mut change.transaction, oldest).await?;
        sqlx::query("DELETE FROM feed_events WHERE seq <= $1")
            .bind(oldest)
            .execute(&mut *change.transaction)
            .await?;
        sqlx::query("UPDATE feed_head SET oldest = $1, oldest_tag = $2 WHERE oldest < $1")
            .bind(oldest)
            .bind(tag)
            .execute(&mut *change.transaction)
            .await?;
        change.commit().await?;
        Ok(oldest < wanted)
    }
}

async fn changes(
    snapshot: &mut Transaction<'static, Any>,
    owner: &Namespace,
    services: &[ServiceSlug],
    after: i64,
    limit: usize,
) -> Result<Vec<FeedEvent>, StoreFault> {
    let text = format!(
        "SELECT seq, at, service, claim_id, change, claim, tag FROM feed_events \
         WHERE service_owner = $1 AND seq > $2 AND service IN ({}) ORDER BY seq LIMIT $3",
        placeholders(4, services.len())
    );
    let mut query = sqlx::query(AssertSqlSafe(text))
        .bind(owner.as_str())
        .bind(after)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    for service in services {
        query = query.bind(service.as_str());
    }
    query.fetch_all(&mut **snapshot).await?.iter().map(event).collect()
}

async fn moves(
    snapshot: &mut Transaction<'static, Any>,
    after: i64,
    limit: usize,
) -> Result<Vec<FeedMove>, StoreFault> {
    let rows = sqlx::query(
        "SELECT seq, tag, service_owner, service FROM feed_events WHERE seq > $1 ORDER BY seq LIMIT $2",
    )
    .bind(after)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut **snapshot)
    .await?;
    let one = |row: &AnyRow| {
        let (owner, service) = (parsed(row, "service_owner")?, parsed(row, "service")?);
        Ok(FeedMove { seq: row.try_get("seq")?, tag: row.try_get("tag")?, owner, service })
    };
    rows.iter().map(one).collect()
}

fn event(row: &AnyRow) -> Result<FeedEvent, StoreFault> {
    let change: String = row.try_get("change")?;
    let claim: Option<String> = optional(row, "claim")?;
    let change = match (change.as_str(), claim) {
        ("approved", Some(claim)) => {
            FeedChange::Approved(Box::new(from_json::<Written>("change of the feed", &claim)?.read()?))
        }
        ("revoked", _) => FeedChange::Revoked(parsed(row, "claim_id")?),
        ("expired", _) => FeedChange::Expired(parsed(row, "claim_id")?),
        _ => {
            let cause = "it is neither approved, with its claim, nor revoked, nor expired".to_owned();
            return Err(StoreFault::Unreadable { what: "change of the feed", cause });
        }
    };
    Ok(FeedEvent {
        seq: row.try_get("seq")?,
        tag: row.try_get("tag")?,
        at: time(row, "at")?,
        service: parsed(row, "service")?,
        change,
    })
}
