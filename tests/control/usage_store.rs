//! Usage on both databases: each event counts once, and the sums stay bounded.

use std::time::Duration;

use sigilum::clock::UnixTime;
use sigilum::control::domain::usage::{UsageEvent, UsageRow, UsageSort, UsageTaken};
use sigilum::protocol::PublicKey;

use super::store_scene::{
    DAY, Database, START, Scene, acme, add_service, alice, key, on_both_databases, slug,
};

fn event(id: &str, subject: &str, key: PublicKey) -> UsageEvent {
    UsageEvent {
        id: id.parse().unwrap(),
        namespace: alice(),
        service: slug("mail"),
        public_key: key,
        subject: subject.to_owned(),
        agent_id: None,
        protocol: "http".to_owned(),
        action: "proxy.request".to_owned(),
        outcome: "success".to_owned(),
        status_code: Some(200),
        duration_ms: Some(12),
        response_bytes: Some(1_000),
        request_method: Some("GET".to_owned()),
        request_path: Some("/v1/mails".to_owned()),
        remote_ip: None,
    }
}

async fn add(scene: &Scene, events: &[UsageEvent], now: UnixTime) -> UsageTaken {
    scene.store.add_usage(&acme(), events, now).await.unwrap()
}

async fn rows(scene: &Scene, sort: UsageSort) -> Vec<UsageRow> {
    scene.store.usage_of(&alice(), sort, 1_000, 0).await.unwrap().0
}

fn taken(accepted: usize, duplicates: usize, ignored: usize) -> UsageTaken {
    UsageTaken { accepted, duplicates, ignored }
}

on_both_databases! {
    async fn event_that_comes_again_changes_nothing(scene: Scene) {
        let key = key();
        let first = [event("ue_1", "user-7", key), event("ue_2", "user-7", key)];
        assert_eq!(add(&scene, &first, START).await, taken(2, 0, 0));
        let before = rows(&scene, UsageSort::Recent).await;
        assert_eq!(add(&scene, &first, START.plus(DAY)).await, taken(0, 2, 0));
        assert_eq!(rows(&scene, UsageSort::Recent).await, before);
        // Twice in one batch, with another one between.
        let batch = [event("ue_3", "user-7", key), event("ue_2", "user-7", key), event("ue_3", "user-7", key)];
        assert_eq!(add(&scene, &batch, START).await, taken(1, 2, 0));
        assert_eq!(rows(&scene, UsageSort::Recent).await[0].calls, 3);
    }

    async fn events_add_up_by_subject_key_and_service(scene: Scene) {
        add_service(&scene.store, &acme(), "calendar").await;
        let (one, other) = (key(), key());
        let failed = UsageEvent {
            outcome: "error".to_owned(),
            status_code: Some(502),
            response_bytes: None,
            agent_id: Some("mailer".to_owned()),
            ..event("ue_2", "user-7", one)
        };
        let elsewhere = UsageEvent { service: slug("calendar"), ..event("ue_3", "user-7", one) };
        let batch = [
            event("ue_1", "user-7", one), failed, elsewhere,
            event("ue_4", "user-8", one), event("ue_5", "user-7", other),
        ];
        assert_eq!(add(&scene, &batch, START).await, taken(5, 0, 0));
        add(&scene, &[event("ue_6", "user-7", one)], START.plus(DAY)).await;
        let rows = rows(&scene, UsageSort::CallsDesc).await;
        assert_eq!(rows.len(), 4);
        let row = &rows[0];
        assert_eq!((row.subject.as_str(), row.public_key, row.service.as_str()), ("user-7", one, "mail"));
        assert_eq!((row.calls, row.errors, row.response_bytes, row.duration_ms), (3, 1, 2_000, 36));
        assert_eq!((row.first_at, row.last_at), (START, START.plus(DAY)));
        assert_eq!((row.agent_id.as_deref(), row.last.status_code), (Some("mailer"), Some(200)));
        assert_eq!(row.service_owner, acme());
    }

    async fn rows_come_in_the_order_that_is_asked_for_and_in_pages(scene: Scene) {
        let key = key();
        for (number, (subject, calls)) in [("cy", 1), ("al", 2), ("bo", 3)].into_iter().enumerate() {
            let at = START.plus(Duration::from_secs(number as u64));
            let batch: Vec<_> =
                (0..calls).map(|call| event(&format!("{subject}-{call}"), subject, key)).collect();
            add(&scene, &batch, at).await;
        }
        for (sort, expected) in [
            (UsageSort::Recent, ["bo", "al", "cy"]),
            (UsageSort::CallsDesc, ["bo", "al", "cy"]),
            (UsageSort::SubjectAsc, ["al", "bo", "cy"]),
        ] {
            let subjects: Vec<_> = rows(&scene, sort).await.into_iter().map(|row| row.subject).collect();
            assert_eq!(subjects, expected, "{sort:?}");
        }
        add(&scene, &[event("late", "cy", key)], START.plus(DAY)).await;
        let (page, total) = scene.store.usage_of(&alice(), UsageSort::Recent, 2, 0).await.unwrap();
        assert_eq!((page[0].subject.as_str(), page.len(), total), ("cy", 2, 3));
        let (page, _) = scene.store.usage_of(&alice(), UsageSort::Recent, 2, 2).await.unwrap();
        assert_eq!((page[0].subject.as_str(), page.len()), ("al", 1));
    }

    async fn events_of_namespaces_and_services_that_do_not_stand_are_ignored(scene: Scene) {
        let strange = UsageEvent { namespace: "nobody".parse().unwrap(), ..event("ue_1", "a", key()) };
        let gone = UsageEvent { service: slug("gone"), ..event("ue_2", "a", key()) };
        assert_eq!(add(&scene, &[strange, gone, event("ue_3", "a", key())], START).await, taken(1, 0, 2));
        // They count once the namespace stands.
        scene.store.add_owner(&"nobody".parse().unwrap(), "n@example.org", START).await.unwrap();
        let strange = UsageEvent { namespace: "nobody".parse().unwrap(), ..event("ue_1", "a", key()) };
        assert_eq!(add(&scene, &[strange], START).await, taken(1, 0, 0));
    }

    async fn id_is_one_service_owners_own(scene: Scene) {
        let globex = "globex".parse().unwrap();
        scene.store.add_owner(&globex, "g@example.org", START).await.unwrap();
        add_service(&scene.store, &globex, "mail").await;
        let told = event("ue_1", "user-7", key());
        assert_eq!(add(&scene, std::slice::from_ref(&told), START).await, taken(1, 0, 0));
        let by_other = scene.store.add_usage(&globex, std::slice::from_ref(&told), START).await.unwrap();
        assert_eq!(by_other, taken(1, 0, 0));
        let owners: Vec<_> =
            rows(&scene, UsageSort::Recent).await.into_iter().map(|row| row.service_owner).collect();
        assert_eq!(owners, [acme(), globex]);
    }

    async fn batches_at_once_count_each_event_once(scene: Scene) {
        let key = key();
        let events: Vec<_> = (0..200).map(|id| event(&format!("ue_{id}"), "user-7", key)).collect();
        let adding: Vec<_> = (0..6)
            .map(|turn| {
                let (store, mut events) = (scene.store.clone(), events.clone());
                events.rotate_left(turn * 30);
                tokio::spawn(async move { store.add_usage(&acme(), &events, START).await.unwrap() })
            })
            .collect();
        let mut accepted = 0;
        for adding in adding {
            accepted += adding.await.unwrap().accepted;
        }
        assert_eq!(accepted, 200);
        assert_eq!(rows(&scene, UsageSort::Recent).await[0].calls, 200);
    }

    async fn row_that_was_silent_longest_makes_room(scene: Scene) {
        let key = key();
        for batch in 0..10 {
            let at = START.plus(Duration::from_secs(batch));
            let events: Vec<_> = (0..1_000)
                .map(|id| event(&format!("ue_{batch}_{id}"), &format!("user-{batch}-{id:03}"), key))
                .collect();
            assert_eq!(add(&scene, &events, at).await.accepted, 1_000);
        }
        // The first one is active again, so it is not the one that goes.
        add(&scene, &[event("again", "user-0-000", key)], START.plus(DAY)).await;
        add(&scene, &[event("new", "new", key)], START.plus(DAY)).await;
        let (first, total) = scene.store.usage_of(&alice(), UsageSort::SubjectAsc, 3, 0).await.unwrap();
        assert_eq!(total, 10_000);
        let subjects: Vec<_> = first.iter().map(|row| row.subject.as_str()).collect();
        assert_eq!(subjects, ["new", "user-0-000", "user-0-001"]);
        let (last, _) = scene.store.usage_of(&alice(), UsageSort::Recent, 1, 9_999).await.unwrap();
        assert_eq!(last[0].subject, "user-0-998");
    }

    async fn ids_are_forgotten_after_ninety_days_and_sums_are_not(scene: Scene) {
        let told = [event("ue_1", "user-7", key())];
        add(&scene, &told, START).await;
        scene.store.prune_usage(START.plus(89 * DAY)).await.unwrap();
        assert_eq!(add(&scene, &told, START).await, taken(0, 1, 0));
        scene.store.prune_usage(START.plus(90 * DAY)).await.unwrap();
        assert_eq!(rows(&scene, UsageSort::Recent).await[0].calls, 1);
        assert_eq!(add(&scene, &told, START).await, taken(1, 0, 0));
    }

    async fn sums_go_with_their_namespace(scene: Scene) {
        add(&scene, &[event("ue_1", "user-7", key())], START).await;
        scene.store.delete_namespace(&alice(), START).await.unwrap();
        scene.store.prune_usage(START).await.unwrap();
        assert_eq!(rows(&scene, UsageSort::Recent).await, []);
    }

    async fn amounts_without_measure_do_not_break_a_sum(scene: Scene) {
        let key = key();
        let vast = |id: &str| UsageEvent {
            response_bytes: Some(u64::MAX),
            duration_ms: Some(u64::MAX),
            ..event(id, "user-7", key)
        };
        for round in 0..6 {
            let batch: Vec<_> = (0..1_000).map(|id| vast(&format!("ue_{round}_{id}"))).collect();
            assert_eq!(add(&scene, &batch, START).await.accepted, 1_000);
        }
        let row = rows(&scene, UsageSort::Recent).await.remove(0);
        assert_eq!(row.calls, 6_000);
        assert!(row.response_bytes > 1 << 61, "{}", row.response_bytes);
    }
}
