//! What the store's tests share: the two databases, and a small cast on them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sigilum::clock::UnixTime;
use sigilum::control::domain::claim::{
    ClaimFault, ClaimRecord, ClaimStatus, Decision, Submission, Submitted,
};
use sigilum::control::domain::feed::{Cursor, FeedChange, FeedEvent, FeedRead};
use sigilum::control::domain::owner::OwnerSettings;
use sigilum::control::domain::service::{ServiceMode, ServiceRecord};
use sigilum::control::store::{DatabaseUrl, NewKey, NewService, Store};
use sigilum::names::{ClaimId, Namespace, ServiceSlug};
use sigilum::protocol::PublicKey;
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, random};

/// When these tests begin.
pub const START: UnixTime = UnixTime::from_secs(1_800_000_000);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// The owner's address.
pub const OWNER: &str = "alice@example.org";

/// Makes of each function a module with two tests: the same on SQLite and on PostgreSQL.
macro_rules! on_both_databases {
    ($(async fn $name:ident($scene:ident: Scene) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn body($scene: Scene) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                body(Scene::on(Database::sqlite()).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgresql() {
                body(Scene::on(Database::postgres()).await).await;
            }
        })*
    };
}
pub(crate) use on_both_databases;

/// An empty database that is gone when this is dropped.
pub enum Database {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().unwrap())
    }

    pub fn postgres() -> Self {
        Self::Postgres(Postgres::start())
    }

    pub fn url(&self) -> DatabaseUrl {
        match self {
            Self::Sqlite(directory) => DatabaseUrl::Sqlite(directory.path().join("api/sigilum.db")),
            Self::Postgres(postgres) => postgres.database(),
        }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.url()).await.unwrap()
    }
}

/// A store with the namespaces `alice` (agents) and `acme`, which owns the service `mail`.
pub struct Scene {
    pub store: Store,
    pub service: ServiceRecord,
    // Behind the store, so that it goes after it.
    pub database: Database,
}

impl Scene {
    pub async fn on(database: Database) -> Self {
        let store = database.open().await;
        store.add_owner(&alice(), OWNER, START).await.unwrap();
        store.add_owner(&acme(), "root@acme.example", START).await.unwrap();
        let service = add_service(&store, &acme(), "mail").await;
        Self { store, service, database }
    }

    pub async fn settings(&self, settings: OwnerSettings) {
        self.store.set_settings(&alice(), &settings).await.unwrap();
    }

    /// Submits for a new key.
    pub async fn submit(&self) -> ClaimRecord {
        self.submit_as(submission(&self.service)).await
    }

    pub async fn submit_as(&self, submission: Submission) -> ClaimRecord {
        match self.store.submit_claim(submission, START).await.unwrap().unwrap() {
            Submitted::Made(claim) => claim,
            Submitted::Standing(claim) => panic!("a claim stands: {claim:?}"),
        }
    }

    pub async fn decide(&self, id: &ClaimId, decision: Decision) -> Result<ClaimRecord, ClaimFault> {
        self.store.decide_claim(&alice(), id, decision, OWNER, START).await.unwrap()
    }

    /// Submits for a new key and approves.
    pub async fn approved(&self) -> ClaimRecord {
        let claim = self.submit().await;
        self.decide(&claim.id, approve()).await.unwrap()
    }

    pub async fn status(&self, id: &ClaimId) -> ClaimStatus {
        self.store.claim(&alice(), id).await.unwrap().unwrap().status
    }

    /// Runs statements behind the store's back.
    pub async fn run(&self, statements: &str) {
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()));
        match &self.database {
            Database::Sqlite(_) => {
                let DatabaseUrl::Sqlite(path) = self.database.url() else { panic!("SQLite") };
                let url = format!("sqlite://{}", path.display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
                statements.execute(&mut connection).await.unwrap();
            }
            Database::Postgres(postgres) => {
                let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.unwrap();
                statements.execute(&mut connection).await.unwrap();
            }
        }
    }

    /// Where the feed stands.
    pub async fn cursor(&self) -> Cursor {
        match self.store.feed_after(&acme(), &[], None, 1).await.unwrap() {
            FeedRead::Changes(events, cursor) if events.is_empty() => cursor,
            other => panic!("{other:?}"),
        }
    }

    /// What the feed of `mail` told after `cursor`.
    pub async fn events(&self, cursor: &Cursor) -> Vec<FeedEvent> {
        match self.store.feed_after(&acme(), &[slug("mail")], Some(cursor), 10_000).await.unwrap() {
            FeedRead::Changes(events, _) => events,
            FeedRead::SnapshotRequired => panic!("a snapshot is asked for"),
        }
    }

    /// The same in words, as in `approved cl_1`.
    pub async fn told(&self, cursor: &Cursor) -> Vec<String> {
        self.events(cursor).await.iter().map(in_words).collect()
    }
}

pub fn in_words(event: &FeedEvent) -> String {
    match &event.change {
        FeedChange::Approved(claim) => format!("approved {}", claim.id),
        FeedChange::Revoked(id) => format!("revoked {id}"),
        FeedChange::Expired(id) => format!("expired {id}"),
    }
}

pub fn alice() -> Namespace {
    "alice".parse().unwrap()
}

pub fn acme() -> Namespace {
    "acme".parse().unwrap()
}

pub fn slug(text: &str) -> ServiceSlug {
    text.parse().unwrap()
}

pub fn new_service(text: &str) -> NewService {
    NewService {
        slug: slug(text),
        name: format!("The {text} service"),
        domain: format!("{text}.example.org"),
        description: "Für alle – 世界".to_owned(),
        mode: ServiceMode::Gateway,
        upstream_url: None,
    }
}

/// A service API key of which only this is kept.
pub fn new_key(sha256: &str, all_services: bool) -> NewKey {
    NewKey {
        name: "key".to_owned(),
        prefix: "sk_live_abcd".to_owned(),
        sha256: sha256.to_owned(),
        all_services,
    }
}

pub async fn add_service(store: &Store, owner: &Namespace, text: &str) -> ServiceRecord {
    store.add_service(owner, new_service(text), 1_000, START).await.unwrap().unwrap()
}

/// A key that nobody has.
pub fn key() -> PublicKey {
    loop {
        if let Ok(key) = PublicKey::from_bytes(random()) {
            return key;
        }
    }
}

/// `alice` asks for `service`, with a new key and a new nonce.
pub fn submission(service: &ServiceRecord) -> Submission {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    Submission {
        namespace: alice(),
        public_key: key(),
        service_id: service.id.clone(),
        subject: "user-7".to_owned(),
        agent_id: None,
        agent_name: None,
        agent_ip: IpAddr::from([10, 1, 2, 3]),
        scopes: Vec::new(),
        ttl_seconds: None,
        nonce: format!("nonce-{}", COUNT.fetch_add(1, Ordering::Relaxed)),
    }
}

/// Approves what was asked for.
pub fn approve() -> Decision {
    Decision::Approve { expires_at: None, scopes: None }
}

/// Approves with this end.
pub fn approve_until(end: UnixTime) -> Decision {
    Decision::Approve { expires_at: Some(Some(end)), scopes: None }
}

/// Waits for it, but not for ever.
pub async fn soon<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, awaited).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
