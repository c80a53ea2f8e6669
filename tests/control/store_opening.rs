//! Opening a database: what is made, what stays, what is refused.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sigilum::control::domain::claim::Decision;
use sigilum::control::store::{DatabaseUrl, Store, StoreFault};
use sigilum::secret::SecretString;
use tempfile::TempDir;

use super::store_scene::*;
use crate::support::postgres::PASSWORD;

on_both_databases! {
    async fn everything_is_there_after_a_restart(scene: Scene) {
        let claim = scene.approved().await;
        let pending = scene.submit().await;
        let cursor = scene.cursor().await;
        let namespace = scene.store.namespace(&alice()).await.unwrap();
        scene.store.note_nonce(&alice(), "n", START.plus(MINUTE), START).await.unwrap();
        scene.store.close().await;
        let store = scene.database.open().await;
        let scene = Scene { store, ..scene };
        assert_eq!(scene.store.claim(&alice(), &claim.id).await.unwrap(), Some(claim.clone()));
        assert_eq!(scene.store.claim(&alice(), &pending.id).await.unwrap(), Some(pending));
        assert_eq!(scene.store.namespace(&alice()).await.unwrap(), namespace);
        assert_eq!(scene.store.service(&acme(), &scene.service.id).await.unwrap(), Some(scene.service.clone()));
        assert!(!scene.store.note_nonce(&alice(), "n", START.plus(MINUTE), START).await.unwrap());
        // The same epoch: who resumes from the old cursor misses nothing.
        assert_eq!(scene.cursor().await, cursor);
        assert_eq!(*scene.store.feed_head().borrow(), cursor.seq);
        scene.decide(&claim.id, Decision::Revoke).await.unwrap();
        assert_eq!(scene.told(&cursor).await, [format!("revoked {}", claim.id)]);
    }

    async fn closed_store_is_unavailable(scene: Scene) {
        scene.store.ping().await.unwrap();
        scene.store.close().await;
        assert!(matches!(scene.store.ping().await, Err(StoreFault::Unavailable(_))));
        let answer = scene.store.submit_claim(submission(&scene.service), START).await;
        assert!(matches!(answer, Err(StoreFault::Unavailable(_))), "{answer:?}");
    }

    async fn newer_schema_is_refused_by_its_number(scene: Scene) {
        scene.store.close().await;
        scene
            .run("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                  SELECT 999, 'to come', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1")
            .await;
        let fault = Store::open(&scene.database.url()).await.unwrap_err();
        assert!(matches!(fault, StoreFault::Schema(_)), "{fault:?}");
        assert!(fault.to_string().contains("version 999, and this program knows versions up to "), "{fault}");
    }

    async fn schema_of_another_program_is_refused(scene: Scene) {
        scene.store.close().await;
        scene
            .run("UPDATE _sqlx_migrations SET checksum = \
                  (SELECT checksum FROM _sqlx_migrations WHERE version = 2) WHERE version = 1")
            .await;
        let fault = Store::open(&scene.database.url()).await.unwrap_err();
        assert!(fault.to_string().contains("its version 1 was not made by a release"), "{fault}");
    }
}

/// Two replicas that start at once on an empty database.
async fn opened_at_once(database: &Database) {
    let stores = futures::future::join_all((0..5).map(|_| database.open())).await;
    let mut epochs = Vec::new();
    for store in &stores {
        match store.feed_after(&acme(), &[], None, 1).await.unwrap() {
            sigilum::control::domain::feed::FeedRead::Changes(_, cursor) => epochs.push(cursor.epoch),
            other => panic!("{other:?}"),
        }
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1);
    assert_eq!(epochs[0].len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_opened_at_once_on_an_empty_file_make_one_schema() {
    opened_at_once(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_opened_at_once_on_an_empty_postgresql_make_one_schema() {
    opened_at_once(&Database::postgres()).await;
}

#[tokio::test]
async fn each_database_has_an_epoch_of_its_own() {
    let mut epochs = Vec::new();
    for database in [Database::sqlite(), Database::sqlite()] {
        epochs.push(Scene::on(database).await.cursor().await.epoch);
    }
    assert_ne!(epochs[0], epochs[1]);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn sqlite_files_are_for_their_user_alone() {
    let scene = Scene::on(Database::sqlite()).await;
    let DatabaseUrl::Sqlite(path) = scene.database.url() else { panic!("SQLite") };
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    scene.store.close().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _open = scene.database.open().await;
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn sqlite_file_of_any_name_is_opened_under_that_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("Data 100%?mode=memory#x/signé.db");
    let store = Store::open(&DatabaseUrl::Sqlite(path.clone())).await.unwrap();
    store.add_owner(&alice(), OWNER, START).await.unwrap();
    store.close().await;
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sigilum.db");
    std::fs::write(&path, "This is not a database, however long it may be. ".repeat(100)).unwrap();
    let fault = Store::open(&DatabaseUrl::Sqlite(path)).await.unwrap_err();
    assert!(matches!(fault, StoreFault::Database(_)), "{fault:?}");
    let fault = Store::open(&DatabaseUrl::Sqlite(directory.path().to_path_buf())).await.unwrap_err();
    assert!(matches!(fault, StoreFault::Unavailable(_)), "{fault:?}");
}

#[tokio::test]
async fn password_of_the_database_is_in_no_error() {
    let nowhere = TempDir::new().unwrap();
    let there = Database::postgres();
    let Database::Postgres(postgres) = &there else { panic!("PostgreSQL") };
    let sound = postgres.url();
    for url in [
        format!("postgres://postgres:{PASSWORD}@localhost/x?host={}", nowhere.path().display()),
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:1/x"),
        format!("postgres://postgres:{PASSWORD}@no-such-host.invalid/x"),
        sound.replace("/postgres?", "/no-such-database?"),
        sound.replace("//postgres:", "//no-such-user:"),
        format!("{sound}&sslmode={PASSWORD}"),
        format!("postgres://postgres:{PASSWORD}@localhost:port/x"),
        format!("mysql://postgres:{PASSWORD}@localhost/x"),
        format!("{PASSWORD}@localhost"),
    ] {
        let url = DatabaseUrl::Postgres(SecretString::new(url).unwrap());
        let fault = Store::open(&url).await.unwrap_err();
        for text in [fault.to_string(), format!("{fault:?}"), format!("{url:?}")] {
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
    let store = there.open().await;
    assert!(!format!("{store:?}").contains(PASSWORD));
}
