//! How a database is opened: its file or its server, the schema, the pools, and the watch for other replicas.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::{Arc, OnceLock};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _};
use tokio::sync::{broadcast, watch};

use super::backend::{Backend, WAIT};
use super::replicas::{self, Watcher};
use super::{DatabaseUrl, Inner, Store, StoreFault, migrations};
use crate::names::hex;

const SQLITE_READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 16;
/// Signals that a receiver may be behind.
const SIGNALS: usize = 1024;

pub(super) async fn open(url: &DatabaseUrl) -> Result<Store, StoreFault> {
    sqlx::any::install_default_drivers();
    let (backend, options) = match url {
        DatabaseUrl::Sqlite(path) => (Backend::Sqlite, sqlite(path)?),
        DatabaseUrl::Postgres(url) => (Backend::Postgres, postgres(url.expose())?),
    };
    let mut first = connect(&options).await?;
    if backend == Backend::Sqlite {
        // Stays with the file.
        sqlx::query("PRAGMA journal_mode = WAL").execute(&mut first).await?;
    }
    let (epoch, seq) = migrations::run(&mut first, backend).await?;
    first.close().await?;
    let (writers, readers) = match backend {
        Backend::Sqlite => {
            (pool(&options, 1, backend).await?, pool(&options, SQLITE_READERS, backend).await?)
        }
        Backend::Postgres => {
            let pool = pool(&options, POSTGRES_CONNECTIONS, backend).await?;
            (pool.clone(), pool)
        }
    };
    let store = Store(Arc::new(Inner {
        writers,
        readers,
        backend,
        epoch,
        name: hex(&super::random::<8>()?),
        head: watch::Sender::new(seq),
        outbox: watch::Sender::new(0),
        signals: broadcast::Sender::new(SIGNALS),
        watcher: OnceLock::new(),
    }));
    let _ = store.0.watcher.set(match url {
        DatabaseUrl::Sqlite(_) => Watcher::start(replicas::poll(Arc::downgrade(&store.0))),
        DatabaseUrl::Postgres(url) => {
            let options =
                sqlx::postgres::PgConnectOptions::from_str(url.expose()).map_err(|_| not_a_url())?;
            Watcher::start(replicas::listen(Arc::downgrade(&store.0), options.disable_statement_logging()))
        }
    });
    Ok(store)
}

/// The URL itself is in no error: it holds the password.
fn postgres(url: &str) -> Result<AnyConnectOptions, StoreFault> {
    let sound = sqlx::postgres::PgConnectOptions::from_str(url).is_ok()
        && ["postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme));
    let options = AnyConnectOptions::from_str(url).ok().filter(|_| sound).ok_or_else(not_a_url)?;
    Ok(options.disable_statement_logging())
}

fn not_a_url() -> StoreFault {
    StoreFault::Database("DATABASE_URL is not of the form postgres://user:password@host:port/name".to_owned())
}

/// Makes the file and its directory where they are not there, for this user alone. SQLite gives the files beside it
/// the same mode.
fn sqlite(path: &Path) -> Result<AnyConnectOptions, StoreFault> {
    let fault = |error: io::Error| StoreFault::Unavailable(format!("{}: {error}", path.display()));
    let path = std::path::absolute(path).map_err(fault)?;
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fault)?;
    }
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fault)?;
    if file.metadata().map_err(fault)?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600)).map_err(fault)?;
    }
    let address = url::Url::from_file_path(&path)
        .map_err(|()| StoreFault::Unavailable(format!("{} is no path of a file", path.display())))?;
    let options = AnyConnectOptions::from_str(&format!("sqlite://{}?mode=rw", address.path()))?;
    Ok(options.disable_statement_logging())
}

async fn connect(options: &AnyConnectOptions) -> Result<AnyConnection, StoreFault> {
    match tokio::time::timeout(WAIT, AnyConnection::connect_with(options)).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(StoreFault::Unavailable(format!("it did not answer within {} s", WAIT.as_secs()))),
    }
}

async fn pool(options: &AnyConnectOptions, most: u32, backend: Backend) -> Result<AnyPool, StoreFault> {
    let mut pool = AnyPoolOptions::new().max_connections(most).acquire_timeout(WAIT).after_connect(
        move |connection, _| {
            Box::pin(async move {
                for setting in backend.settings() {
                    sqlx::query(*setting).execute(&mut *connection).await?;
                }
                // A server that follows another takes no change; the one that leads is behind the same name soon.
                if backend == Backend::Postgres
                    && sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut *connection).await?
                {
                    return Err(sqlx::Error::Protocol("the server is a standby".to_owned()));
                }
                Ok(())
            })
        },
    );
    pool = match backend {
        // A file does not go away as a server does.
        Backend::Sqlite => pool.test_before_acquire(false).idle_timeout(None).max_lifetime(None),
        // What a caller who went away left undone on the connection ends here; where the server is gone without a word, the
        // connection does not keep its place until TCP gives it up.
        Backend::Postgres => pool.after_release(|connection, _| {
            Box::pin(async move {
                let ended = tokio::time::timeout(WAIT, connection.ping()).await;
                ended.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|()| true)
            })
        }),
    };
    Ok(pool.connect_with(options.clone()).await?)
}
