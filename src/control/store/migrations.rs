//! The schema's versions. A file that was released is never changed; a new one is added.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, Connection as _, SqlSafeStr as _};

use super::backend::Backend;
use super::{StoreFault, random};
use crate::names::hex;

/// The same text for both databases.
const FILES: [(i64, &str, &str); 7] = [
    (1, "claims", include_str!("migrations/0001_claims.sql")),
    (2, "webhooks", include_str!("migrations/0002_webhooks.sql")),
    (3, "usage", include_str!("migrations/0003_usage.sql")),
    (4, "pairing", include_str!("migrations/0004_pairing.sql")),
    (5, "trusted", include_str!("migrations/0005_trusted.sql")),
    (6, "lookups", include_str!("migrations/0006_lookups.sql")),
    (7, "bounds", include_str!("migrations/0007_bounds.sql")),
];
/// Names our lock among PostgreSQL's advisory locks: "sigilum" in ASCII.
const LOCK: i64 = 0x0073_6967_696c_756d;

/// Brings the schema to this version, wholly or not at all, while no other replica does; gives the epoch, which is
/// made with the database, and the feed's last number.
pub(super) async fn run(
    connection: &mut AnyConnection,
    backend: Backend,
) -> Result<(String, i64), StoreFault> {
    // Of SQLite this alone keeps others out: who finds it locked waits.
    let mut transaction = connection.begin_with(backend.begin()).await?;
    if backend == Backend::Postgres {
        sqlx::query("SET LOCAL lock_timeout = '60s'").execute(&mut *transaction).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    }
    let migrations = FILES.map(|(version, name, text)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.to_vec());
    // Its own lock would end before the transaction does.
    migrator.set_locking(false);
    migrator.run_direct(None, &mut *transaction, false).await.map_err(fault)?;
    sqlx::query("UPDATE feed_head SET epoch = $1 WHERE epoch = ''")
        .bind(hex(&random::<8>()?))
        .execute(&mut *transaction)
        .await?;
    let epoch = sqlx::query_scalar("SELECT epoch FROM feed_head").fetch_one(&mut *transaction).await?;
    let seq = sqlx::query_scalar("SELECT seq FROM feed_head").fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((epoch, seq))
}

fn fault(fault: MigrateError) -> StoreFault {
    let newest = FILES.iter().map(|(version, ..)| *version).max().unwrap_or_default();
    match fault {
        MigrateError::VersionMissing(found) => StoreFault::Schema(format!(
            "it has version {found}, and this program knows versions up to {newest}; run the newer program"
        )),
        MigrateError::VersionMismatch(version) => {
            StoreFault::Schema(format!("its version {version} was not made by a release of this program"))
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => match error.into() {
            StoreFault::Database(text) => StoreFault::Schema(text),
            other => other,
        },
        other => StoreFault::Schema(other.to_string()),
    }
}
