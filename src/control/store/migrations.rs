//! The schema's versions. A file that was released is never changed; a new one is added.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlSafeStr as _};

use super::StoreFault;

/// The same text for both databases.
const FILES: [(i64, &str, &str); 4] = [
    (1, "claims", include_str!("migrations/0001_claims.sql")),
    (2, "webhooks", include_str!("migrations/0002_webhooks.sql")),
    (3, "usage", include_str!("migrations/0003_usage.sql")),
    (4, "pairing", include_str!("migrations/0004_pairing.sql")),
];

pub(super) async fn run(pool: &AnyPool) -> Result<(), StoreFault> {
    let migrations = FILES.map(|(version, name, text)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, text.into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(migrations.to_vec());
    migrator.run(pool).await.map_err(|fault| StoreFault::Schema(fault.to_string()))
}
