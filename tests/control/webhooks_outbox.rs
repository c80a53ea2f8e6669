//! The outbox on both databases: what waits for a webhook, who may attempt it, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use sigilum::clock::UnixTime;
use sigilum::control::domain::claim::{Decision, Submission};
use sigilum::control::domain::service::ServiceFault;
use sigilum::control::domain::webhook::{
    AT_ONCE_PER_OWNER, DueDelivery, KEPT_FOR, NewWebhook, WebhookEvent, WebhookRecord,
};
use sigilum::control::store::Store;

use super::store_scene::{
    Database, OWNER, START, Scene, acme, add_service, alice, on_both_databases, soon, submission,
};

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

async fn webhook(scene: &Scene, path: &str, events: &[WebhookEvent]) -> WebhookRecord {
    let new = NewWebhook {
        url: format!("https://hooks.example.com/{path}").parse().unwrap(),
        events: events.to_vec(),
        sealed_secret: "sealed secret".to_owned(),
        auth: Some(("x-api-key".to_owned(), "sealed value".to_owned())),
    };
    scene.store.add_webhook(&acme(), &scene.service.id, new, 5, START).await.unwrap().unwrap()
}

async fn due(store: &Store, limit: usize, now: UnixTime) -> Vec<DueDelivery> {
    store.due_deliveries(limit, LEASE, || Some(now)).await.unwrap()
}

fn ids(deliveries: &[DueDelivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.id.as_str()).collect()
}

async fn shown(scene: &Scene) -> WebhookRecord {
    scene.store.webhooks(&acme(), &scene.service.id).await.unwrap().unwrap().remove(0)
}

on_both_databases! {
    async fn change_queues_one_delivery_for_each_webhook_that_is_told_of_it(scene: Scene) {
        let one = webhook(&scene, "a", &[WebhookEvent::Approved]).await;
        let other = webhook(&scene, "b", &WebhookEvent::ALL).await;
        let mut bell = scene.store.outbox_bell();
        let claim = scene.approved().await;
        soon("the bell", bell.changed()).await.unwrap();
        let first = due(&scene.store, 32, START).await;
        let told: BTreeSet<_> = first.iter().map(|due| (due.webhook.id.clone(), due.event.word())).collect();
        assert_eq!(told, BTreeSet::from([
            (one.id.clone(), "request.approved"),
            (other.id.clone(), "request.submitted"),
        ]));
        for found in &first {
            assert_eq!(found.claim, claim.id);
            assert_eq!(found.attempts, 0);
            assert_eq!(found.created_at, START);
            assert_eq!(found.sealed_secret, "sealed secret");
            assert_eq!(found.sealed_auth_value.as_deref(), Some("sealed value"));
            assert_eq!(found.webhook.auth_header.as_deref(), Some("x-api-key"));
            let body: serde_json::Value = serde_json::from_str(&found.body).unwrap();
            assert_eq!(body["delivery_id"], found.id.as_str());
            assert_eq!(body["webhook_id"], found.webhook.id.as_str());
            assert_eq!(body["event"], found.event.word());
            assert_eq!(body["claim"]["claim_id"], claim.id.as_str());
        }
    }

    async fn later_delivery_of_a_claim_waits_for_the_earlier_one(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        let claim = scene.approved().await;
        scene.decide(&claim.id, Decision::Revoke).await.unwrap();
        for event in ["request.submitted", "request.approved", "request.revoked"] {
            let mut found = due(&scene.store, 32, START).await;
            assert_eq!(found.len(), 1);
            let found = found.remove(0);
            assert_eq!(found.event.word(), event);
            // While it is attempted, nothing else of this claim is.
            assert_eq!(due(&scene.store, 32, START).await, []);
            scene.store.finish_delivery(&found).await.unwrap();
        }
        assert_eq!(due(&scene.store, 32, START).await, []);
    }

    async fn lease_that_ran_out_goes_to_another(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.submit().await;
        let first = due(&scene.store, 32, START).await;
        assert_eq!(first.len(), 1);
        let before = START.plus(LEASE).millis() - 1;
        assert_eq!(due(&scene.store, 32, UnixTime::from_millis(before)).await, []);
        let again = due(&scene.store, 32, START.plus(LEASE)).await;
        assert_eq!(ids(&again), ids(&first));
    }

    async fn who_lost_the_lease_neither_finishes_nor_frees_what_another_is_at(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.approved().await;
        let lost = due(&scene.store, 32, START).await.remove(0);
        let later = START.plus(LEASE);
        let held = due(&scene.store, 32, later).await.remove(0);
        assert_eq!(held.id, lost.id);
        scene.store.retry_delivery(&lost, later, later).await.unwrap();
        assert_eq!(due(&scene.store, 32, later).await, [], "it is attempted still");
        scene.store.finish_delivery(&lost).await.unwrap();
        assert_eq!(due(&scene.store, 32, later).await, [], "nothing later of the claim may go");
        scene.store.finish_delivery(&held).await.unwrap();
        assert_eq!(due(&scene.store, 32, later).await[0].event, WebhookEvent::Approved);
    }

    async fn lease_is_as_long_as_it_is_said_however_late_it_is_made(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.submit().await;
        let asked = std::cell::Cell::new(0);
        let slow = || Some(START.plus(4 * SECOND * asked.replace(asked.get() + 1)));
        let leased = scene.store.due_deliveries(32, LEASE, slow).await.unwrap();
        assert_eq!(leased[0].leased_until, START.plus(8 * SECOND).plus(LEASE));
    }

    async fn leasing_ends_before_the_first_lease_is_half_over(scene: Scene) {
        for path in ["a", "b", "c"] {
            webhook(&scene, path, &WebhookEvent::ALL).await;
        }
        scene.submit().await;
        let asked = std::cell::Cell::new(0);
        let slow = || Some(START.plus(4 * SECOND * asked.replace(asked.get() + 1)));
        assert_eq!(scene.store.due_deliveries(32, LEASE, slow).await.unwrap().len(), 1);
    }

    async fn nothing_more_is_leased_once_there_is_a_stop(scene: Scene) {
        for path in ["a", "b", "c"] {
            webhook(&scene, path, &WebhookEvent::ALL).await;
        }
        scene.submit().await;
        let asked = std::cell::Cell::new(0);
        let now = || (asked.replace(asked.get() + 1) < 3).then_some(START);
        assert_eq!(scene.store.due_deliveries(32, LEASE, now).await.unwrap().len(), 1);
        assert_eq!(due(&scene.store, 32, START).await.len(), 2);
    }

    async fn webhooks_of_a_service_that_goes_are_told_nothing_of_it_and_those_of_others_are(scene: Scene) {
        let others = webhook(&scene, "a", &[WebhookEvent::Revoked]).await;
        let own = add_service(&scene.store, &alice(), "own").await;
        let new = NewWebhook {
            url: "https://hooks.example.com/own".parse().unwrap(),
            events: WebhookEvent::ALL.to_vec(),
            sealed_secret: "sealed".to_owned(),
            auth: None,
        };
        scene.store.add_webhook(&alice(), &own.id, new, 5, START).await.unwrap().unwrap();
        scene.submit_as(submission(&own)).await;
        scene.approved().await;
        scene.store.delete_namespace(&alice(), START).await.unwrap();
        let told = due(&scene.store, 32, START).await;
        assert_eq!(told.iter().map(|due| &due.webhook.id).collect::<Vec<_>>(), [&others.id]);
    }

    async fn lease_ends_with_the_one_process_of_a_file_and_not_with_one_of_several_replicas(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.submit().await;
        let first = due(&scene.store, 32, START).await;
        scene.store.free_deliveries().await.unwrap();
        let again = due(&scene.store, 32, START).await;
        match scene.database {
            Database::Sqlite(_) => assert_eq!(again, first),
            Database::Postgres(_) => assert_eq!(again, []),
        }
    }

    async fn two_who_lease_at_once_never_get_the_same(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        for _ in 0..10 {
            scene.submit().await;
        }
        let leasing: Vec<_> = (0..8)
            .map(|_| {
                let store = scene.store.clone();
                tokio::spawn(async move { due(&store, 3, START).await })
            })
            .collect();
        let mut ids = Vec::new();
        for leased in leasing {
            ids.extend(leased.await.unwrap().into_iter().map(|due| due.id.to_string()));
        }
        let different: BTreeSet<_> = ids.iter().collect();
        // Four at one webhook at once, however many ask.
        assert_eq!((ids.len(), different.len()), (4, 4));
    }

    async fn webhook_with_much_waiting_does_not_keep_others_from_their_turn(scene: Scene) {
        for path in ["a", "b", "c"] {
            webhook(&scene, path, &WebhookEvent::ALL).await;
        }
        for _ in 0..6 {
            scene.submit().await;
        }
        let found = due(&scene.store, 12, START).await;
        let webhooks: BTreeSet<_> = found.iter().map(|due| due.webhook.id.as_str()).collect();
        assert_eq!((found.len(), webhooks.len()), (12, 3));
        assert_eq!(due(&scene.store, 12, START).await, []);
    }

    async fn one_owners_webhooks_do_not_take_every_attempt_there_is(scene: Scene) {
        let mallory = "mallory".parse().unwrap();
        scene.store.add_owner(&mallory, "m@example.org", START).await.unwrap();
        for number in 0..8 {
            let service = add_service(&scene.store, &mallory, &format!("tarpit-{number}")).await;
            let new = NewWebhook {
                url: "https://tarpit.example.com/".parse().unwrap(),
                events: WebhookEvent::ALL.to_vec(),
                sealed_secret: "sealed".to_owned(),
                auth: None,
            };
            scene.store.add_webhook(&mallory, &service.id, new, 5, START).await.unwrap().unwrap();
            for _ in 0..4 {
                let asked = Submission { namespace: acme(), ..submission(&service) };
                scene.store.submit_claim(asked, START).await.unwrap().unwrap();
            }
        }
        assert_eq!(due(&scene.store, 32, START).await.len(), AT_ONCE_PER_OWNER);
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.submit().await;
        let others = due(&scene.store, 32, START).await;
        assert_eq!(others.iter().map(|due| due.webhook.url.as_str()).collect::<Vec<_>>(), ["https://hooks.example.com/a"]);
    }

    async fn failed_delivery_comes_again_when_it_is_due(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.submit().await;
        let found = due(&scene.store, 32, START).await.remove(0);
        let failed = scene.store.retry_delivery(&found, START.plus(SECOND), START).await.unwrap();
        assert_eq!((failed.paused_until, failed.given_up), (None, 0));
        assert_eq!(due(&scene.store, 32, START).await, []);
        let again = due(&scene.store, 32, START.plus(SECOND)).await.remove(0);
        assert_eq!((again.attempts, &again.id, &again.body), (1, &found.id, &found.body));
        assert_eq!(shown(&scene).await.failures, 1);
        scene.store.finish_delivery(&again).await.unwrap();
        assert_eq!(shown(&scene).await.failures, 0);
    }

    async fn delivery_that_is_put_off_comes_again_without_having_failed(scene: Scene) {
        webhook(&scene, "a", &[WebhookEvent::Submitted]).await;
        scene.submit().await;
        let [found] = &due(&scene.store, 32, START).await[..] else { panic!("one") };
        scene.store.put_off_delivery(found, START.plus(3 * SECOND)).await.unwrap();
        assert_eq!(due(&scene.store, 32, START.plus(2 * SECOND)).await, []);
        let [again] = &due(&scene.store, 32, START.plus(3 * SECOND)).await[..] else { panic!("one") };
        assert_eq!((&again.id, again.attempts, again.webhook.failures), (&found.id, 0, 0));
        scene.store.put_off_delivery(found, START.plus(4 * SECOND)).await.unwrap();
        assert_eq!(due(&scene.store, 32, START.plus(4 * SECOND)).await, [], "another has the lease");
    }

    async fn webhook_that_fails_five_times_is_left_alone_and_then_probed(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        for _ in 0..8 {
            scene.submit().await;
        }
        let first = due(&scene.store, 32, START).await;
        for found in &first {
            scene.store.retry_delivery(found, START, START).await.unwrap();
        }
        let fifth = due(&scene.store, 1, START).await.remove(0);
        let failed = scene.store.retry_delivery(&fifth, START, START).await.unwrap();
        let until = START.plus(30 * SECOND);
        assert_eq!(failed.paused_until, Some(until));
        assert_eq!(shown(&scene).await.paused_until, Some(until));
        assert_eq!(due(&scene.store, 32, UnixTime::from_millis(until.millis() - 1)).await, []);
        let probe = due(&scene.store, 32, until).await;
        assert_eq!(probe.len(), 1);
        scene.store.finish_delivery(&probe[0]).await.unwrap();
        assert_eq!(shown(&scene).await.paused_until, None);
        assert_eq!(due(&scene.store, 32, until).await.len(), 4);
    }

    async fn attempt_that_fails_during_the_pause_does_not_make_it_longer(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        for _ in 0..4 {
            scene.submit().await;
        }
        let under_way = due(&scene.store, 32, START).await;
        for _ in 0..5 {
            scene.store.retry_delivery(&under_way[0], START, START).await.unwrap();
        }
        let until = shown(&scene).await.paused_until;
        for found in &under_way[1..] {
            let failed = scene.store.retry_delivery(found, START, START).await.unwrap();
            assert_eq!(failed.paused_until, None);
        }
        assert_eq!((shown(&scene).await.failures, shown(&scene).await.paused_until), (5, until));
    }

    async fn failure_a_day_after_gives_up_what_is_older_and_keeps_what_is_younger(scene: Scene) {
        webhook(&scene, "a", &WebhookEvent::ALL).await;
        for _ in 0..3 {
            scene.submit().await;
        }
        let day = START.plus(KEPT_FOR);
        let claim = scene.approved().await;
        let found = due(&scene.store, 1, START).await.remove(0);
        // A day less a millisecond: it is tried again.
        let almost = UnixTime::from_millis(day.millis() - 1);
        assert_eq!(scene.store.retry_delivery(&found, almost, almost).await.unwrap().given_up, 0);
        let revoked = scene.store.decide_claim(&alice(), &claim.id, Decision::Revoke, OWNER, day).await;
        revoked.unwrap().unwrap();
        let again = due(&scene.store, 1, day).await.remove(0);
        let failed = scene.store.retry_delivery(&again, day, day).await.unwrap();
        assert_eq!(failed.given_up, 5);
        assert_eq!(shown(&scene).await.given_up, 5);
        let left = due(&scene.store, 32, day).await;
        assert_eq!(left.iter().map(|due| due.event.word()).collect::<Vec<_>>(), ["request.revoked"]);
    }

    async fn removed_webhook_takes_what_waits_with_it(scene: Scene) {
        let made = webhook(&scene, "a", &WebhookEvent::ALL).await;
        scene.submit().await;
        let under_way = due(&scene.store, 1, START).await.remove(0);
        scene.submit().await;
        let removed = scene.store.delete_webhook(&acme(), &scene.service.id, &made.id).await.unwrap();
        assert_eq!(removed, Ok(()));
        // Whoever is at it finds nothing to write down, and no fault.
        scene.store.retry_delivery(&under_way, START, START).await.unwrap();
        scene.store.finish_delivery(&under_way).await.unwrap();
        assert_eq!(due(&scene.store, 32, START.plus(LEASE)).await, []);
        let removed = scene.store.delete_webhook(&acme(), &scene.service.id, &made.id).await.unwrap();
        assert_eq!(removed, Err(ServiceFault::NoSuch("webhook")));
    }
}
