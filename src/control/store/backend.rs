//! What differs between SQLite and PostgreSQL.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use tokio::sync::{broadcast, watch};

use super::{DatabaseUrl, Inner, Store, StoreFault, migrations};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// How a transaction that will write begins.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What is put behind a SELECT whose rows the transaction will change, and which others may be changing.
    pub(super) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

const WAIT: Duration = Duration::from_secs(5);
const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 16;

pub(super) async fn open(url: &DatabaseUrl) -> Result<Store, StoreFault> {
    sqlx::any::install_default_drivers();
    let (backend, text) = match url {
        DatabaseUrl::Sqlite(path) => (Backend::Sqlite, format!("sqlite://{}?mode=rwc", path.display())),
        DatabaseUrl::Postgres(url) => (Backend::Postgres, url.expose().to_owned()),
    };
    let options = AnyConnectOptions::from_str(&text)?;
    let (writers, readers) = match backend {
        Backend::Sqlite => {
            (pool(&options, 1, backend).await?, pool(&options, SQLITE_READERS, backend).await?)
        }
        Backend::Postgres => {
            let pool = pool(&options, POSTGRES_CONNECTIONS, backend).await?;
            (pool.clone(), pool)
        }
    };
    migrations::run(&writers).await?;
    let epoch: String = sqlx::query_scalar("SELECT epoch FROM feed_head").fetch_one(&readers).await?;
    let seq: i64 = sqlx::query_scalar("SELECT seq FROM feed_head").fetch_one(&readers).await?;
    Ok(Store(Arc::new(Inner {
        writers,
        readers,
        backend,
        epoch,
        head: watch::Sender::new(seq),
        outbox: watch::Sender::new(0),
        signals: broadcast::Sender::new(1024),
    })))
}

async fn pool(options: &AnyConnectOptions, most: u32, backend: Backend) -> Result<AnyPool, StoreFault> {
    let pool = AnyPoolOptions::new().max_connections(most).acquire_timeout(WAIT).after_connect(
        move |connection, _| {
            Box::pin(async move {
                if backend == Backend::Sqlite {
                    for pragma in [
                        "PRAGMA journal_mode = WAL",
                        "PRAGMA synchronous = FULL",
                        "PRAGMA foreign_keys = ON",
                        "PRAGMA busy_timeout = 5000",
                    ] {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                }
                Ok(())
            })
        },
    );
    Ok(pool.connect_with(options.clone()).await?)
}
