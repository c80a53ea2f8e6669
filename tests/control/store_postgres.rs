//! What only PostgreSQL has: replicas that tell each other, a server that goes away, locks that meet.

use sigilum::control::domain::claim::ClaimStatus;
use sigilum::control::domain::owner::OwnerSettings;
use sigilum::control::domain::webhook::{NewWebhook, WebhookEvent};
use sigilum::control::store::{Signal, Store, StoreFault};
use sigilum::names::ClaimId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::store_scene::*;
use crate::support::PATIENCE;
use crate::support::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn signal_reaches_every_replica_once() {
    let scene = Scene::on(Database::postgres()).await;
    let second = scene.database.open().await;
    let (mut here, mut there) = (scene.store.signals(), second.signals());
    let first = Signal::Command { session: "ps_1".to_owned(), request_id: "r1".to_owned() };
    let last = Signal::Response { request_id: "r1".to_owned() };
    heard_by_both(&scene.store, &mut here, &mut there).await;
    for signal in [&first, &last] {
        scene.store.send_signal(signal.clone()).await.unwrap();
    }
    for signals in [&mut here, &mut there] {
        for signal in [&first, &last] {
            assert_eq!(&soon("a signal", signals.recv()).await.unwrap(), signal);
        }
        assert!(signals.try_recv().is_err());
    }
}

/// The other replica may not listen yet when it was just opened.
async fn heard_by_both(
    store: &Store,
    here: &mut tokio::sync::broadcast::Receiver<Signal>,
    there: &mut tokio::sync::broadcast::Receiver<Signal>,
) {
    let hello = Signal::Session { session: "hello".to_owned(), mark: String::new() };
    soon("the other replica to listen", async {
        loop {
            store.send_signal(hello.clone()).await.unwrap();
            let wait = std::time::Duration::from_millis(50);
            if tokio::time::timeout(wait, there.recv()).await.is_ok() {
                return;
            }
        }
    })
    .await;
    while here.try_recv().is_ok() {}
    while there.try_recv().is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_too_long_for_the_replicas_is_refused() {
    let scene = Scene::on(Database::postgres()).await;
    let signal = Signal::Response { request_id: "r".repeat(8_000) };
    assert!(matches!(scene.store.send_signal(signal).await, Err(StoreFault::Database(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_on_the_channel_is_not_heard() {
    let scene = Scene::on(Database::postgres()).await;
    let second = scene.database.open().await;
    let (mut here, mut there) = (scene.store.signals(), second.signals());
    heard_by_both(&scene.store, &mut here, &mut there).await;
    let mut connection = connect(&scene.database).await;
    for payload in ["", "not json", "{}", r#"{"from":"x","what":{"head":"y"}}"#] {
        sqlx::query("SELECT pg_notify('sigilum', $1)").bind(payload).execute(&mut connection).await.unwrap();
    }
    let signal = Signal::Response { request_id: "r1".to_owned() };
    scene.store.send_signal(signal.clone()).await.unwrap();
    assert_eq!(soon("a signal", there.recv()).await.unwrap(), signal);
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_that_was_cut_off_comes_back_and_has_missed_nothing() {
    let scene = Scene::on(Database::postgres()).await;
    let second = scene.database.open().await;
    let (mut here, mut there) = (scene.store.signals(), second.signals());
    heard_by_both(&scene.store, &mut here, &mut there).await;
    let mut connection = connect(&scene.database).await;
    for _ in 0..3 {
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE query LIKE 'LISTEN%' OR query = 'SELECT seq FROM feed_head'",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        scene.approved_again().await;
        let seq = scene.cursor().await.seq;
        soon("the head", second.feed_head().wait_for(|head| *head >= seq)).await.unwrap();
        heard_by_both(&scene.store, &mut here, &mut there).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_away_makes_the_store_unavailable_and_not_wrong() {
    let mut scene = Scene::on(Database::postgres()).await;
    let second = scene.database.open().await;
    let claim = scene.submit().await;
    postgres(&mut scene.database).stop();
    assert!(matches!(scene.store.ping().await, Err(StoreFault::Unavailable(_))));
    let answer = scene.store.decide_claim(&alice(), &claim.id, approve(), OWNER, START).await;
    assert!(matches!(answer, Err(StoreFault::Unavailable(_))), "{answer:?}");
    assert!(matches!(Store::open(&scene.database.url()).await, Err(StoreFault::Unavailable(_))));
    postgres(&mut scene.database).resume();
    assert_eq!(scene.status(&claim.id).await, ClaimStatus::Pending);
    scene.decide(&claim.id, approve()).await.unwrap();
    let seq = scene.cursor().await.seq;
    soon("the head at the other replica", second.feed_head().wait_for(|head| *head >= seq)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlock_with_another_program_is_tried_again() {
    let database = Database::postgres();
    let mut other = connect(&database).await;
    // Ours finds the deadlock, and not the other one.
    for setting in ["ALTER DATABASE postgres SET deadlock_timeout = '2s'", "SET deadlock_timeout = '1h'"] {
        sqlx::query(setting).execute(&mut other).await.unwrap();
    }
    let scene = Scene::on(database).await;
    let claim = scene.submit().await;
    let cursor = scene.cursor().await;
    let mut theirs = other.begin().await.unwrap();
    sqlx::query("SELECT seq FROM feed_head FOR UPDATE").execute(&mut *theirs).await.unwrap();
    let (store, id) = (scene.store.clone(), claim.id.clone());
    let approval =
        tokio::spawn(async move { store.decide_claim(&alice(), &id, approve(), OWNER, START).await });
    let mut watching = connect(&scene.database).await;
    somebody_waits(&mut watching).await;
    sqlx::query("SELECT namespace FROM namespaces FOR UPDATE").execute(&mut *theirs).await.unwrap();
    theirs.commit().await.unwrap();
    approval.await.unwrap().unwrap().unwrap();
    assert_eq!(scene.told(&cursor).await, [format!("approved {}", claim.id)]);
    let found = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
    soon("the deadlock in PostgreSQL's statistics", async {
        while sqlx::query(found).fetch_one(&mut watching).await.unwrap().get::<i64, _>("deadlocks") == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits until somebody waits for a lock.
async fn somebody_waits(watching: &mut PgConnection) {
    soon("somebody to wait for a lock", async {
        let waiting = "SELECT COUNT(*) AS waiting FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while sqlx::query(waiting).fetch_one(&mut *watching).await.unwrap().get::<i64, _>("waiting") == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn new_webhook() -> NewWebhook {
    NewWebhook {
        url: "https://hooks.example.com/".parse().unwrap(),
        events: WebhookEvent::ALL.to_vec(),
        sealed_secret: "sealed".to_owned(),
        auth: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_that_goes_while_a_claim_changes_is_told_nothing_and_the_claim_changes() {
    let scene = Scene::on(Database::postgres()).await;
    scene.store.add_webhook(&acme(), &scene.service.id, new_webhook(), 5, START).await.unwrap().unwrap();
    let claim = scene.submit().await;
    let mut other = connect(&scene.database).await;
    let mut theirs = other.begin().await.unwrap();
    sqlx::query("DELETE FROM webhooks").execute(&mut *theirs).await.unwrap();
    let (store, id) = (scene.store.clone(), claim.id.clone());
    let approval =
        tokio::spawn(async move { store.decide_claim(&alice(), &id, approve(), OWNER, START).await });
    somebody_waits(&mut connect(&scene.database).await).await;
    theirs.commit().await.unwrap();
    assert_eq!(approval.await.unwrap().unwrap().unwrap().status, ClaimStatus::Approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_goes_while_it_becomes_trusted_is_not_and_the_settings_are_kept() {
    let scene = Scene::on(Database::postgres()).await;
    let mut other = connect(&scene.database).await;
    let mut theirs = other.begin().await.unwrap();
    sqlx::query("DELETE FROM services").execute(&mut *theirs).await.unwrap();
    let store = scene.store.clone();
    let settings = OwnerSettings { trusted_services: vec!["mail".to_owned()], ..OwnerSettings::default() };
    let wanted = settings.clone();
    let setting = tokio::spawn(async move { store.set_settings(&alice(), &wanted).await });
    somebody_waits(&mut connect(&scene.database).await).await;
    theirs.commit().await.unwrap();
    setting.await.unwrap().unwrap();
    assert_eq!(scene.store.namespace(&alice()).await.unwrap().unwrap().settings, settings);
}

#[tokio::test(flavor = "multi_thread")]
async fn slug_of_several_is_not_pinned_though_one_of_them_goes_meanwhile() {
    let scene = Scene::on(Database::postgres()).await;
    for owner in ["globex", "initech"] {
        let owner = owner.parse().unwrap();
        scene.store.add_owner(&owner, "root@owner.example", START).await.unwrap();
        add_service(&scene.store, &owner, "mail").await;
    }
    let mut other = connect(&scene.database).await;
    let mut theirs = other.begin().await.unwrap();
    let first = "DELETE FROM services WHERE id = (SELECT MIN(id) FROM services)";
    sqlx::query(first).execute(&mut *theirs).await.unwrap();
    let store = scene.store.clone();
    let settings = OwnerSettings { trusted_services: vec!["mail".to_owned()], ..OwnerSettings::default() };
    let mut setting = tokio::spawn(async move { store.set_settings(&alice(), &settings).await });
    let mut watching = connect(&scene.database).await;
    // Whoever waits for the one that goes does so until it is gone.
    let set = tokio::select! {
        set = &mut setting => Some(set),
        () = somebody_waits(&mut watching) => None,
    };
    theirs.commit().await.unwrap();
    match set {
        Some(set) => set,
        None => setting.await,
    }
    .unwrap()
    .unwrap();
    let pinned = "SELECT COUNT(*) FROM trusted_services";
    assert_eq!(sqlx::query_scalar::<_, i64>(pinned).fetch_one(&mut watching).await.unwrap(), 0);
}

/// Adds so many claims like this one, each of a key of its own.
async fn add_claims_like(scene: &Scene, claim: &ClaimId, count: usize) {
    let mut connection = connect(&scene.database).await;
    let keys: Vec<String> = (0..count).map(|_| key().to_string()).collect();
    sqlx::query(
        "INSERT INTO claims (id, namespace, public_key, service_id, service, service_owner, subject, agent_ip, \
         status, scopes, created_at, approved_at, decided_at) \
         SELECT 'cl_' || lpad(to_hex(n), 32, '0'), namespace, k, service_id, service, service_owner, subject, agent_ip, \
         status, scopes, created_at, approved_at, decided_at \
         FROM claims, unnest($2) WITH ORDINALITY AS keys (k, n) WHERE id = $1",
    )
    .bind(claim.as_str())
    .bind(keys)
    .execute(&mut connection)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_goes_on_where_others_ended_all_the_claims_that_it_picked() {
    for of_namespace in [false, true] {
        let scene = Scene::on(Database::postgres()).await;
        let claim = scene.approved().await;
        add_claims_like(&scene, &claim.id, 700).await;
        let mut other = connect(&scene.database).await;
        let mut theirs = other.begin().await.unwrap();
        // As many as are picked at a time, and these.
        let ended = sqlx::query(
            "UPDATE claims SET status = 'expired' WHERE id IN (SELECT id FROM claims WHERE service_id = $1 \
             AND status IN ('pending', 'approved') LIMIT 500)",
        )
        .bind(scene.service.id.as_str())
        .execute(&mut *theirs)
        .await
        .unwrap();
        assert_eq!(ended.rows_affected(), 500);
        let (store, service) = (scene.store.clone(), scene.service.id.clone());
        let deletion = tokio::spawn(async move {
            match of_namespace {
                true => store.delete_namespace(&acme(), START).await.unwrap(),
                false => store.delete_service(&acme(), &service, START).await.unwrap().unwrap(),
            }
        });
        let mut watching = connect(&scene.database).await;
        somebody_waits(&mut watching).await;
        theirs.commit().await.unwrap();
        assert_eq!(deletion.await.unwrap(), 201);
        let standing = "SELECT COUNT(*) FROM claims WHERE status IN ('pending', 'approved')";
        assert_eq!(sqlx::query_scalar::<_, i64>(standing).fetch_one(&mut watching).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_that_another_leases_of_is_passed_over() {
    let scene = Scene::on(Database::postgres()).await;
    scene.store.add_webhook(&acme(), &scene.service.id, new_webhook(), 5, START).await.unwrap().unwrap();
    scene.submit().await;
    let mut other = connect(&scene.database).await;
    let mut theirs = other.begin().await.unwrap();
    sqlx::query("SELECT id FROM webhooks FOR NO KEY UPDATE").execute(&mut *theirs).await.unwrap();
    let lease = std::time::Duration::from_secs(30);
    assert_eq!(scene.store.due_deliveries(32, lease, || Some(START)).await.unwrap(), []);
    theirs.commit().await.unwrap();
    assert_eq!(scene.store.due_deliveries(32, lease, || Some(START)).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_server_that_is_gone_without_a_word_make_room_for_others() {
    let scene = Scene::on(Database::postgres()).await;
    let claim = scene.submit().await;
    let mut other = connect(&scene.database).await;
    let mut theirs = other.begin().await.unwrap();
    sqlx::query("SELECT namespace FROM namespaces FOR UPDATE").execute(&mut *theirs).await.unwrap();
    // As many as the pool has connections.
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let (store, id) = (scene.store.clone(), claim.id.clone());
            tokio::spawn(async move { store.decide_claim(&alice(), &id, approve(), OWNER, START).await })
        })
        .collect();
    let mut watching = connect(&scene.database).await;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let pids: Vec<i32> = soon("all to wait for the lock", async {
        loop {
            let pids = sqlx::query_scalar(waiting).fetch_all(&mut watching).await.unwrap();
            if pids.len() == calls.len() {
                return pids;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    signal("STOP", &pids);
    for call in &calls {
        call.abort();
    }
    soon("a connection", async { while scene.store.ping().await.is_err() {} }).await;
    signal("CONT", &pids);
    theirs.rollback().await.unwrap();
}

fn signal(name: &str, pids: &[i32]) {
    let pids = pids.iter().map(i32::to_string);
    let sent = std::process::Command::new("kill").arg(format!("-{name}")).args(pids).status().unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_may_only_be_read_is_unavailable_for_changes() {
    let scene = Scene::on(Database::postgres()).await;
    scene.run("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    scene.store.close().await;
    let answer = Store::open(&scene.database.url()).await;
    assert!(matches!(answer, Err(StoreFault::Unavailable(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_is_not_taken_for_the_server() {
    let mut scene = Scene::on(Database::postgres()).await;
    let claim = scene.submit().await;
    let data = postgres(&mut scene.database).directory().join("data");
    postgres(&mut scene.database).stop();
    let signal = data.join("standby.signal");
    std::fs::write(&signal, "").unwrap();
    postgres(&mut scene.database).resume();
    let answer = scene.store.decide_claim(&alice(), &claim.id, approve(), OWNER, START).await;
    assert!(matches!(answer, Err(StoreFault::Unavailable(_))), "{answer:?}");
    assert!(matches!(scene.store.ping().await, Err(StoreFault::Unavailable(_))), "it is not ready either");
    postgres(&mut scene.database).stop();
    std::fs::remove_file(&signal).unwrap();
    postgres(&mut scene.database).resume();
    scene.decide(&claim.id, approve()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn last_clone_dropped_ends_every_connection() {
    let scene = Scene::on(Database::postgres()).await;
    let mut watching = connect(&scene.database).await;
    let clone = scene.store.clone();
    let Scene { store, database, .. } = scene;
    drop(store);
    clone.ping().await.unwrap();
    drop(clone);
    let others = "SELECT COUNT(*) AS others FROM pg_stat_activity \
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    soon("the connections to end", async {
        while sqlx::query(others).fetch_one(&mut watching).await.unwrap().get::<i64, _>("others") > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(database);
}

#[test]
fn cluster_leaves_nothing_behind() {
    let (directory, server) = {
        let postgres = Postgres::start();
        (postgres.directory().to_path_buf(), postgres.server())
    };
    assert!(!directory.exists());
    assert!(!std::path::Path::new(&format!("/proc/{server}")).exists());
    let (directory, server) = {
        let postgres = Postgres::start();
        let found = (postgres.directory().to_path_buf(), postgres.server());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _moved = postgres;
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(panicked.is_err());
        found
    };
    assert!(!directory.exists());
    assert!(!std::path::Path::new(&format!("/proc/{server}")).exists());
}

#[test]
fn cluster_of_a_killed_test_is_gone_too() {
    let mut postgres = Postgres::start();
    let (directory, server) = (postgres.directory().to_path_buf(), postgres.server());
    postgres.abandon();
    let end = std::time::Instant::now() + PATIENCE;
    while directory.exists() || std::path::Path::new(&format!("/proc/{server}")).exists() {
        assert!(std::time::Instant::now() < end, "the cluster is still there");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

async fn connect(database: &Database) -> PgConnection {
    let Database::Postgres(postgres) = database else { panic!("PostgreSQL") };
    PgConnection::connect(&postgres.url()).await.unwrap()
}

fn postgres(database: &mut Database) -> &mut Postgres {
    match database {
        Database::Postgres(postgres) => postgres,
        Database::Sqlite(_) => panic!("PostgreSQL"),
    }
}

impl Scene {
    /// Approves a new claim, though the server may just have cut connections of the pool.
    async fn approved_again(&self) {
        soon("an approval", async {
            loop {
                let made = self.store.submit_claim(submission(&self.service), START).await;
                if let Ok(Ok(sigilum::control::domain::claim::Submitted::Made(claim))) = made
                    && self.store.decide_claim(&alice(), &claim.id, approve(), OWNER, START).await.is_ok()
                {
                    return;
                }
            }
        })
        .await;
    }
}
