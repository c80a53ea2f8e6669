//! Usage events, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::record::{count, natural, number, optional, parsed, time};
use super::{Store, StoreFault, retrying};
use crate::clock::UnixTime;
use crate::control::domain::usage::{LastCall, UsageEvent, UsageRow, UsageSort, UsageTaken};
use crate::names::Namespace;

/// Rows of sums that one service owner's events may make in one namespace. A further one takes the place of the one
/// that was silent longest.
const MOST_ROWS: i64 = 10_000;
/// How long an event's id is remembered: 90 days.
const KEPT_MILLIS: i64 = 90 * 24 * 3600 * 1000;
/// Ids remembered of one service owner; the oldest go first.
const MOST_IDS: i64 = 1_000_000;
/// What one event adds to a sum at most.
const MOST_AMOUNT: u64 = 1 << 50;
/// Ids that one statement forgets, so that writers wait no longer than for that.
const BATCH: u64 = 10_000;
/// Ids that go into one statement.
const CHUNK: usize = 50;

/// What the events of one batch add to one row.
struct Sum<'a> {
    calls: i64,
    errors: i64,
    response_bytes: i64,
    duration_ms: i64,
    last: &'a UsageEvent,
}

/// Namespace, service, subject and key.
type SumKey<'a> = (&'a str, &'a str, &'a str, String);

impl Store {
    /// Takes events that a service of `owner` tells of, in one transaction. Their ids are unique for this owner.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_usage(
        &self,
        owner: &Namespace,
        events: &[UsageEvent],
        now: UnixTime,
    ) -> Result<UsageTaken, StoreFault> {
        retrying(|| self.add_usage_once(owner, events, now)).await
    }

    async fn add_usage_once(
        &self,
        owner: &Namespace,
        events: &[UsageEvent],
        now: UnixTime,
    ) -> Result<UsageTaken, StoreFault> {
        let mut transaction = self.begin().await?;
        let namespaces = standing(&mut transaction, events).await?;
        let services = served(&mut transaction, owner, events).await?;
        let stands = |event: &&UsageEvent| {
            namespaces.contains(event.namespace.as_str()) && services.contains(event.service.as_str())
        };
        let known: Vec<&UsageEvent> = events.iter().filter(stands).collect();
        // Sorted, as everything that is written here: two transactions that write the same rows do not wait for each
        // other crosswise.
        let mut ids: Vec<&str> = known.iter().map(|event| event.id.as_str()).collect();
        ids.sort_unstable();
        let mut new = BTreeSet::new();
        for chunk in ids.chunks(CHUNK) {
            new.extend(remember(&mut transaction, owner, chunk, now).await?);
        }
        // Of two events with one id in a batch the first counts.
        let counted: Vec<&UsageEvent> =
            known.iter().copied().filter(|event| new.remove(event.id.as_str())).collect();
        let mut grown = BTreeSet::new();
        for (key, sum) in sums(&counted) {
            if add(&mut transaction, owner, &key, &sum, now).await? {
                grown.insert(key.0);
            }
        }
        for namespace in grown {
            make_room(&mut transaction, owner, namespace).await?;
        }
        transaction.commit().await?;
        Ok(UsageTaken {
            accepted: counted.len(),
            duplicates: known.len() - counted.len(),
            ignored: events.len() - known.len(),
        })
    }

    /// What the namespace's agents did, a row for each (subject, key, service), and how many rows there are in all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage_of(
        &self,
        namespace: &Namespace,
        sort: UsageSort,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<UsageRow>, u64), StoreFault> {
        let order = match sort {
            UsageSort::Recent => "last_at DESC",
            UsageSort::CallsDesc => "calls DESC",
            UsageSort::SubjectAsc => "subject",
        };
        let text = format!(
            "SELECT service_owner, service, subject, public_key, agent_id, calls, errors, response_bytes, \
             duration_ms, first_at, last_at, last_protocol, last_action, last_outcome, last_status_code \
             FROM usage_sums WHERE namespace = $1 \
             ORDER BY {order}, subject, service, service_owner, public_key LIMIT $2 OFFSET $3"
        );
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(namespace.as_str())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(i64::try_from(offset).unwrap_or(i64::MAX))
            .fetch_all(self.readers())
            .await?;
        let total: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM usage_sums WHERE namespace = $1")
            .bind(namespace.as_str())
            .fetch_one(self.readers())
            .await?;
        let rows = rows.iter().map(usage_row).collect::<Result<_, _>>()?;
        Ok((rows, count(total)))
    }

    /// Forgets the ids of events that are older than 90 days, and of each service owner's all but the newest million;
    /// the sums stay, but those of namespaces that are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_usage(&self, now: UnixTime) -> Result<(), StoreFault> {
        let owners: Vec<String> = sqlx::query_scalar(
            "SELECT n.namespace FROM namespaces n \
             WHERE EXISTS (SELECT 1 FROM usage_events e WHERE e.service_owner = n.namespace)",
        )
        .fetch_all(self.readers())
        .await?;
        for owner in owners {
            let too_many: Option<i64> = sqlx::query_scalar(
                "SELECT at FROM usage_events WHERE service_owner = $1 ORDER BY at DESC LIMIT 1 OFFSET $2",
            )
            .bind(&owner)
            .bind(MOST_IDS)
            .fetch_optional(self.readers())
            .await?;
            let until = now.millis().saturating_sub(KEPT_MILLIS).max(too_many.unwrap_or(i64::MIN));
            while self.forget_ids(&owner, until).await? == BATCH {}
        }
        self.forget_usage_of_the_gone().await
    }

    async fn forget_usage_of_the_gone(&self) -> Result<(), StoreFault> {
        let gone: Vec<String> = sqlx::query_scalar(
            "SELECT n.namespace FROM namespaces n WHERE n.deleted_at IS NOT NULL \
             AND EXISTS (SELECT 1 FROM usage_sums s WHERE s.namespace = n.namespace)",
        )
        .fetch_all(self.readers())
        .await?;
        for namespace in &gone {
            retrying(|| async move {
                sqlx::query("DELETE FROM usage_sums WHERE namespace = $1")
                    .bind(namespace)
                    .execute(self.writers())
                    .await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Forgets some ids of an owner's events that are not younger than `until`; gives how many.
    async fn forget_ids(&self, owner: &str, until: i64) -> Result<u64, StoreFault> {
        retrying(|| async move {
            let gone = sqlx::query(
                "DELETE FROM usage_events WHERE (service_owner, id) IN ( \
                     SELECT service_owner, id FROM usage_events WHERE service_owner = $1 AND at <= $2 LIMIT $3 \
                 )",
            )
            .bind(owner)
            .bind(until)
            .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
            .execute(self.writers())
            .await?;
            Ok(gone.rows_affected())
        })
        .await
    }
}

/// Which of the namespaces that the events name stand.
async fn standing(
    transaction: &mut Transaction<'static, Any>,
    events: &[UsageEvent],
) -> Result<BTreeSet<String>, StoreFault> {
    let named: BTreeSet<&str> = events.iter().map(|event| event.namespace.as_str()).collect();
    let mut standing = BTreeSet::new();
    for namespace in named {
        let found: Option<String> = sqlx::query_scalar(
            "SELECT namespace FROM namespaces WHERE namespace = $1 AND deleted_at IS NULL",
        )
        .bind(namespace)
        .fetch_optional(&mut **transaction)
        .await?;
        standing.extend(found);
    }
    Ok(standing)
}

/// Which of the services that the events name the owner has.
async fn served(
    transaction: &mut Transaction<'static, Any>,
    owner: &Namespace,
    events: &[UsageEvent],
) -> Result<BTreeSet<String>, StoreFault> {
    let named: BTreeSet<&str> = events.iter().map(|event| event.service.as_str()).collect();
    let mut served = BTreeSet::new();
    for service in named {
        let found: Option<String> =
            sqlx::query_scalar("SELECT slug FROM services WHERE owner = $1 AND slug = $2")
                .bind(owner.as_str())
                .bind(service)
                .fetch_optional(&mut **transaction)
                .await?;
        served.extend(found);
    }
    Ok(served)
}

/// Remembers ids, and gives those that were not known.
async fn remember(
    transaction: &mut Transaction<'static, Any>,
    owner: &Namespace,
    ids: &[&str],
    now: UnixTime,
) -> Result<Vec<String>, StoreFault> {
    let rows: Vec<String> = (0..ids.len()).map(|index| format!("($1, ${}, $2)", index + 3)).collect();
    let text = format!(
        "INSERT INTO usage_events (service_owner, id, at) VALUES {} \
         ON CONFLICT (service_owner, id) DO NOTHING RETURNING id",
        rows.join(", ")
    );
    let mut insert =
        sqlx::query_scalar(AssertSqlSafe(text)).bind(owner.as_str().to_owned()).bind(now.millis());
    for id in ids {
        insert = insert.bind((*id).to_owned());
    }
    Ok(insert.fetch_all(&mut **transaction).await?)
}

fn sums<'a>(events: &[&'a UsageEvent]) -> BTreeMap<SumKey<'a>, Sum<'a>> {
    let mut sums: BTreeMap<SumKey<'a>, Sum<'a>> = BTreeMap::new();
    for event in events.iter().copied() {
        let key = (
            event.namespace.as_str(),
            event.service.as_str(),
            event.subject.as_str(),
            event.public_key.to_string(),
        );
        let sum = sums.entry(key).or_insert(Sum {
            calls: 0,
            errors: 0,
            response_bytes: 0,
            duration_ms: 0,
            last: event,
        });
        let add = |to: &mut i64, more: u64| *to = to.saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
        add(&mut sum.calls, 1);
        add(&mut sum.errors, u64::from(event.outcome != "success"));
        add(&mut sum.response_bytes, event.response_bytes.unwrap_or(0).min(MOST_AMOUNT));
        add(&mut sum.duration_ms, event.duration_ms.unwrap_or(0).min(MOST_AMOUNT));
        sum.last = event;
    }
    sums
}

/// Adds to a row, or makes it; gives whether it was made. A sum stops growing before it is more than a BIGINT holds:
/// a batch adds less than 2^60.
async fn add(
    transaction: &mut Transaction<'static, Any>,
    owner: &Namespace,
    (namespace, service, subject, public_key): &SumKey<'_>,
    sum: &Sum<'_>,
    now: UnixTime,
) -> Result<bool, StoreFault> {
    let calls: i64 = sqlx::query_scalar(
        "INSERT INTO usage_sums (namespace, service_owner, service, subject, public_key, agent_id, calls, errors, \
         response_bytes, duration_ms, first_at, last_at, last_protocol, last_action, last_outcome, last_status_code) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14, $15) \
         ON CONFLICT (namespace, service_owner, service, subject, public_key) DO UPDATE SET \
         agent_id = COALESCE(excluded.agent_id, usage_sums.agent_id), \
         calls = usage_sums.calls + excluded.calls, errors = usage_sums.errors + excluded.errors, \
         response_bytes = CASE WHEN usage_sums.response_bytes < 4000000000000000000 \
             THEN usage_sums.response_bytes + excluded.response_bytes ELSE usage_sums.response_bytes END, \
         duration_ms = CASE WHEN usage_sums.duration_ms < 4000000000000000000 \
             THEN usage_sums.duration_ms + excluded.duration_ms ELSE usage_sums.duration_ms END, \
         last_at = excluded.last_at, \
         last_protocol = excluded.last_protocol, last_action = excluded.last_action, \
         last_outcome = excluded.last_outcome, last_status_code = excluded.last_status_code \
         RETURNING calls",
    )
    .bind(*namespace)
    .bind(owner.as_str())
    .bind(*service)
    .bind(*subject)
    .bind(public_key)
    .bind(&sum.last.agent_id)
    .bind(sum.calls)
    .bind(sum.errors)
    .bind(sum.response_bytes)
    .bind(sum.duration_ms)
    .bind(now.millis())
    .bind(&sum.last.protocol)
    .bind(&sum.last.action)
    .bind(&sum.last.outcome)
    .bind(sum.last.status_code.map(i64::from))
    .fetch_one(&mut **transaction)
    .await?;
    Ok(calls == sum.calls)
}

/// Removes the rows that were silent longest, where there are more than may be.
async fn make_room(
    transaction: &mut Transaction<'static, Any>,
    owner: &Namespace,
    namespace: &str,
) -> Result<(), StoreFault> {
    sqlx::query(
        "DELETE FROM usage_sums WHERE (namespace, service_owner, service, subject, public_key) IN ( \
             SELECT namespace, service_owner, service, subject, public_key FROM usage_sums \
             WHERE namespace = $1 AND service_owner = $2 \
             ORDER BY last_at DESC, service, subject, public_key LIMIT 1000000 OFFSET $3 \
         )",
    )
    .bind(namespace)
    .bind(owner.as_str())
    .bind(MOST_ROWS)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn usage_row(row: &AnyRow) -> Result<UsageRow, StoreFault> {
    let status_code: Option<i64> = optional(row, "last_status_code")?;
    Ok(UsageRow {
        subject: row.try_get("subject")?,
        agent_id: optional(row, "agent_id")?,
        public_key: parsed(row, "public_key")?,
        service: parsed(row, "service")?,
        service_owner: parsed(row, "service_owner")?,
        calls: number(row, "calls")?,
        errors: number(row, "errors")?,
        response_bytes: number(row, "response_bytes")?,
        duration_ms: number(row, "duration_ms")?,
        first_at: time(row, "first_at")?,
        last_at: time(row, "last_at")?,
        last: LastCall {
            protocol: row.try_get("last_protocol")?,
            action: row.try_get("last_action")?,
            outcome: row.try_get("last_outcome")?,
            status_code: status_code.map(|code| natural("last_status_code", code)).transpose()?,
        },
    })
}
