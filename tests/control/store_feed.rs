//! The feed: its order, its cursors, what it forgets, and who is woken.

use std::time::Duration;

use sigilum::control::domain::claim::{ClaimStatus, Decision};
use sigilum::control::domain::feed::{Cursor, FeedRead};
use sigilum::control::domain::owner::OwnerSettings;
use sigilum::control::store::{DatabaseUrl, Signal};

use super::store_scene::*;

async fn read(scene: &Scene, cursor: &Cursor) -> FeedRead {
    scene.store.feed_after(&acme(), &[slug("mail")], Some(cursor), 10).await.unwrap()
}

#[tokio::test]
async fn cursor_of_a_file_that_was_put_back_from_a_copy_asks_for_a_snapshot() {
    let scene = Scene::on(Database::sqlite()).await;
    let DatabaseUrl::Sqlite(path) = scene.database.url() else { panic!("SQLite") };
    let claim = scene.approved().await;
    let early = scene.cursor().await;
    scene.store.close().await;
    let copy = std::fs::read(&path).unwrap();
    let scene = Scene { store: scene.database.open().await, ..scene };
    for _ in 0..2 {
        scene.approved().await;
    }
    let late = scene.cursor().await;
    scene.store.close().await;
    std::fs::write(&path, copy).unwrap();
    let scene = Scene { store: scene.database.open().await, ..scene };
    assert_eq!(read(&scene, &late).await, FeedRead::SnapshotRequired);
    scene.decide(&claim.id, Decision::Revoke).await.unwrap();
    scene.approved().await;
    assert_eq!(scene.cursor().await.seq, late.seq);
    assert_eq!(read(&scene, &late).await, FeedRead::SnapshotRequired);
    assert_eq!(scene.told(&early).await[0], format!("revoked {}", claim.id));
}

on_both_databases! {
    async fn changes_come_in_their_order_without_gaps(scene: Scene) {
        let cursor = scene.cursor().await;
        let one = scene.approved().await;
        let two = scene.approved().await;
        scene.decide(&one.id, Decision::Revoke).await.unwrap();
        let expected =
            [format!("approved {}", one.id), format!("approved {}", two.id), format!("revoked {}", one.id)];
        assert_eq!(scene.told(&cursor).await, expected);
        let seqs: Vec<i64> = scene.events(&cursor).await.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [cursor.seq + 1, cursor.seq + 2, cursor.seq + 3]);
    }

    async fn reader_who_takes_a_few_at_a_time_misses_none(scene: Scene) {
        let other = add_service(&scene.store, &acme(), "calendar").await;
        let mut cursor = scene.cursor().await;
        let start = cursor.clone();
        for _ in 0..5 {
            scene.approved().await;
            let elsewhere = scene.submit_as(submission(&other)).await;
            scene.decide(&elsewhere.id, approve()).await.unwrap();
        }
        let mut seen = Vec::new();
        loop {
            let read = scene.store.feed_after(&acme(), &[slug("mail")], Some(&cursor), 2).await.unwrap();
            let FeedRead::Changes(events, next) = read else { panic!("a snapshot is asked for") };
            if events.is_empty() {
                // The cursor counts what is not this reader's too.
                assert_eq!(next, scene.cursor().await);
                break;
            }
            assert!(events.len() <= 2 && next.seq > cursor.seq);
            seen.extend(events.iter().map(in_words));
            cursor = next;
        }
        assert_eq!(seen, scene.told(&start).await);
        assert_eq!(seen.len(), 5);
    }

    async fn reader_hears_of_its_services_and_its_owner_alone(scene: Scene) {
        let cursor = scene.cursor().await;
        let calendar = add_service(&scene.store, &acme(), "calendar").await;
        let namesake = add_service(&scene.store, &alice(), "mail").await;
        let mut ids = Vec::new();
        for service in [&scene.service, &calendar, &namesake] {
            let claim = scene.submit_as(submission(service)).await;
            ids.push(scene.decide(&claim.id, approve()).await.unwrap().id);
        }
        for (owner, services, expected) in [
            (acme(), vec!["mail"], &ids[..1]),
            (acme(), vec!["mail", "calendar", "unknown"], &ids[..2]),
            (alice(), vec!["mail", "calendar"], &ids[2..]),
            (alice(), vec!["calendar"], &[]),
            (acme(), vec![], &[]),
        ] {
            let services: Vec<_> = services.into_iter().map(slug).collect();
            let read = scene.store.feed_after(&owner, &services, Some(&cursor), 100).await.unwrap();
            let FeedRead::Changes(events, next) = read else { panic!("a snapshot is asked for") };
            let expected: Vec<_> = expected.iter().map(|id| format!("approved {id}")).collect();
            assert_eq!(events.iter().map(in_words).collect::<Vec<_>>(), expected);
            assert_eq!(next, scene.cursor().await);
        }
    }

    async fn cursor_that_says_nothing_here_asks_for_a_snapshot(scene: Scene) {
        scene.approved().await;
        let cursor = scene.cursor().await;
        for wrong in [
            Cursor { epoch: "0123456789abcdef".to_owned(), ..cursor.clone() },
            Cursor { seq: cursor.seq + 1, ..cursor.clone() },
            Cursor { tag: "01234567".to_owned(), ..cursor.clone() },
            Cursor { tag: String::new(), ..cursor.clone() },
            Cursor { seq: 0, ..cursor.clone() },
        ] {
            let read = scene.store.feed_after(&acme(), &[slug("mail")], Some(&wrong), 10).await.unwrap();
            assert_eq!(read, FeedRead::SnapshotRequired, "{wrong}");
        }
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        let start = Cursor { seq: 0, tag: String::new(), ..cursor };
        assert_eq!(start.to_string().parse::<Cursor>().unwrap(), start);
        for text in ["", "0", "0123456789abcdef", "0123456789abcdef-", "0123456789abcdef-1-", "0123456789abcdef-1-0123456g"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    async fn reader_of_changes_that_the_database_lost_reads_all_anew(scene: Scene) {
        let kept = scene.approved().await;
        let before = scene.cursor().await;
        let mut lost = Vec::new();
        for _ in 0..3 {
            lost.push(scene.approved().await.id);
        }
        let after = scene.cursor().await;
        // What a copy that is put back does, or a server that takes over and had not got them.
        scene.run(&format!("DELETE FROM feed_events WHERE seq > {0}; UPDATE feed_head SET seq = {0}", before.seq)).await;
        let mut head = scene.store.feed_head();
        soon("word that the feed went back", head.wait_for(|head| *head == before.seq)).await.unwrap();
        assert_eq!(read(&scene, &after).await, FeedRead::SnapshotRequired);
        for id in &lost {
            scene.decide(id, Decision::Revoke).await.unwrap();
        }
        // The numbers are as great as before, and are not the same changes.
        assert_eq!(scene.cursor().await.seq, after.seq);
        assert_eq!(read(&scene, &after).await, FeedRead::SnapshotRequired);
        scene.decide(&kept.id, Decision::Revoke).await.unwrap();
        assert_eq!(read(&scene, &after).await, FeedRead::SnapshotRequired);
        assert_eq!(scene.told(&before).await.len(), 4, "who had not seen them misses nothing");
    }

    async fn changes_are_forgotten_after_seven_days_and_older_readers_ask_anew(scene: Scene) {
        let first = scene.cursor().await;
        let old = scene.approved().await;
        let second = scene.cursor().await;
        let young = scene.submit().await;
        let now = START.plus(DAY / 2);
        scene.store.decide_claim(&alice(), &young.id, approve(), OWNER, now).await.unwrap().unwrap();
        scene.store.prune_feed(START.plus(7 * DAY)).await.unwrap();
        assert_eq!(scene.told(&first).await, [format!("approved {}", old.id), format!("approved {}", young.id)]);
        scene.store.prune_feed(START.plus(7 * DAY + HOUR)).await.unwrap();
        let read = scene.store.feed_after(&acme(), &[slug("mail")], Some(&first), 10).await.unwrap();
        assert_eq!(read, FeedRead::SnapshotRequired);
        assert_eq!(scene.told(&second).await, [format!("approved {}", young.id)]);
        // Where nothing is left, the numbers still go on.
        scene.store.prune_feed(START.plus(30 * DAY)).await.unwrap();
        let cursor = scene.cursor().await;
        assert!(cursor.seq > second.seq);
        let next = scene.approved().await;
        assert_eq!(scene.told(&cursor).await, [format!("approved {}", next.id)]);
    }

    async fn readers_of_concurrent_changes_miss_none(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 100, ..OwnerSettings::default() }).await;
        let mut cursor = scene.cursor().await;
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(scene.submit().await.id);
        }
        let second = scene.database.open().await;
        let writers: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(number, id)| {
                let (store, id) =
                    (if number % 2 == 0 { scene.store.clone() } else { second.clone() }, id.clone());
                tokio::spawn(async move {
                    store.decide_claim(&alice(), &id, approve(), OWNER, START).await.unwrap().unwrap();
                })
            })
            .collect();
        // It reads while they write: a number that became visible late would be passed over.
        let mut head = scene.store.feed_head();
        let mut seen = Vec::new();
        while seen.len() < ids.len() {
            let read = scene.store.feed_after(&acme(), &[slug("mail")], Some(&cursor), 7).await.unwrap();
            let FeedRead::Changes(events, next) = read else { panic!("a snapshot is asked for") };
            if events.is_empty() {
                soon("the feed to move", head.changed()).await.unwrap();
            }
            seen.extend(events.iter().map(in_words));
            cursor = next;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let mut expected: Vec<_> = ids.iter().map(|id| format!("approved {id}")).collect();
        expected.sort();
        seen.sort();
        assert_eq!(seen, expected);
    }

    async fn change_wakes_who_waits_in_this_process_and_in_another(scene: Scene) {
        let second = scene.database.open().await;
        let (mut here, mut there) = (scene.store.feed_head(), second.feed_head());
        let mut bell = scene.store.outbox_bell();
        let claim = scene.approved().await;
        let cursor = scene.cursor().await;
        for head in [&mut here, &mut there] {
            soon("the feed's head", head.wait_for(|seq| *seq >= cursor.seq)).await.unwrap();
        }
        soon("the outbox's bell", bell.changed()).await.unwrap();
        let start = Cursor { seq: 0, tag: String::new(), ..cursor };
        let read = second.feed_after(&acme(), &[slug("mail")], Some(&start), 10).await.unwrap();
        let FeedRead::Changes(events, _) = read else { panic!("a snapshot is asked for") };
        assert_eq!(in_words(&events[0]), format!("approved {}", claim.id));
    }

    async fn caller_who_goes_away_leaves_the_claim_whole_and_the_others_told(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 100, ..OwnerSettings::default() }).await;
        let cursor = scene.cursor().await;
        let mut ids = Vec::new();
        for step in 0..60 {
            let claim = scene.submit().await;
            let decided = scene.decide(&claim.id, approve());
            let _ = tokio::time::timeout(Duration::from_micros(step * 150), decided).await;
            ids.push(claim.id);
        }
        // What had begun to commit ends first: this waits behind it.
        let last = scene.approved().await;
        let mut expected = Vec::new();
        for id in ids.iter().chain([&last.id]) {
            if scene.status(id).await == ClaimStatus::Approved {
                expected.push(format!("approved {id}"));
            }
        }
        assert_eq!(scene.told(&cursor).await, expected);
        let seq = scene.cursor().await.seq;
        soon("the head", scene.store.feed_head().wait_for(|head| *head == seq)).await.unwrap();
    }

    async fn signal_is_heard_once_by_this_process(scene: Scene) {
        let mut signals = scene.store.signals();
        let all = [
            Signal::Command { session: "ps_1".to_owned(), request_id: "r1".to_owned() },
            Signal::Response { request_id: "r1".to_owned() },
            Signal::Session { session: "ps_1".to_owned(), mark: String::new() },
        ];
        for signal in &all {
            scene.store.send_signal(signal.clone()).await.unwrap();
        }
        for signal in all {
            assert_eq!(soon("a signal", signals.recv()).await.unwrap(), signal);
        }
        assert!(signals.try_recv().is_err());
    }
}
