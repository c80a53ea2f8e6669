//! Services and their API keys.

use sigilum::control::domain::claim::{ClaimFault, ClaimStatus};
use sigilum::control::domain::service::{
    ApiKeyRecord, ServiceChange, ServiceFault, ServiceMode, ServiceRecord,
};
use sigilum::control::domain::webhook::{NewWebhook, WebhookEvent};
use sigilum::control::store::Signal;
use sigilum::names::ServiceId;

use super::store_scene::*;

on_both_databases! {
    async fn service_comes_back_as_it_was_made(scene: Scene) {
        let new = sigilum::control::store::NewService {
            upstream_url: Some("https://api.example.org".to_owned()),
            mode: ServiceMode::Native,
            ..new_service("calendar")
        };
        let made = scene.store.add_service(&acme(), new.clone(), 10, START.plus(MINUTE)).await.unwrap().unwrap();
        assert_eq!((&made.owner, &made.slug, &made.name), (&acme(), &new.slug, &new.name));
        assert_eq!((&made.domain, &made.description, made.mode), (&new.domain, &new.description, new.mode));
        assert_eq!((&made.upstream_url, made.created_at), (&new.upstream_url, START.plus(MINUTE)));
        assert_eq!(scene.store.service(&acme(), &made.id).await.unwrap(), Some(made.clone()));
        assert_eq!(scene.store.service_of_slug(&acme(), &made.slug).await.unwrap(), Some(made.clone()));
        assert_eq!(scene.store.services(&acme()).await.unwrap(), [scene.service.clone(), made.clone()]);
        assert_eq!(scene.store.service(&alice(), &made.id).await.unwrap(), None);
        assert_eq!(scene.store.service_of_slug(&alice(), &made.slug).await.unwrap(), None);
        assert_eq!(scene.store.services(&alice()).await.unwrap(), []);
    }

    async fn slug_is_taken_once_per_owner(scene: Scene) {
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let store = scene.store.clone();
                let new = new_service("calendar");
                tokio::spawn(async move { store.add_service(&acme(), new, 1_000, START).await.unwrap() })
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => made += 1,
                Err(fault) => assert_eq!(fault, ServiceFault::SlugTaken(slug("calendar"))),
            }
        }
        assert_eq!(made, 1);
        add_service(&scene.store, &alice(), "calendar").await;
    }

    async fn owner_has_so_many_services_and_no_more(scene: Scene) {
        let answer = scene.store.add_service(&acme(), new_service("calendar"), 1, START).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::Limit { what: "the number of services of an owner", most: 1 }));
        let nobody = "nobody".parse().unwrap();
        let answer = scene.store.add_service(&nobody, new_service("calendar"), 1, START).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::NotFound));
    }

    async fn change_leaves_what_it_does_not_name(scene: Scene) {
        let later = START.plus(HOUR);
        let (owner, id) = (acme(), &scene.service.id);
        let change = ServiceChange { name: Some("New".to_owned()), ..ServiceChange::default() };
        let changed = scene.store.change_service(&owner, id, change, later).await.unwrap().unwrap();
        let expected = ServiceRecord { name: "New".to_owned(), updated_at: later, ..scene.service.clone() };
        assert_eq!(changed, expected);
        let change = ServiceChange {
            domain: Some("other.example".to_owned()),
            description: Some(String::new()),
            mode: Some(ServiceMode::Native),
            upstream_url: Some(Some("https://x.example".to_owned())),
            ..ServiceChange::default()
        };
        let changed = scene.store.change_service(&owner, id, change, later).await.unwrap().unwrap();
        assert_eq!((changed.domain.as_str(), changed.description.as_str()), ("other.example", ""));
        assert_eq!((changed.mode, changed.upstream_url.as_deref()), (ServiceMode::Native, Some("https://x.example")));
        let change = ServiceChange { upstream_url: Some(None), ..ServiceChange::default() };
        let changed = scene.store.change_service(&owner, id, change, later).await.unwrap().unwrap();
        assert_eq!(changed.upstream_url, None);
        assert_eq!(scene.store.service(&owner, id).await.unwrap(), Some(changed));
        let answer = scene.store.change_service(&alice(), id, ServiceChange::default(), later).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::NotFound));
    }

    async fn deleted_service_takes_its_keys_and_claims_with_it(scene: Scene) {
        let added = scene.add_key("aa", false).await.unwrap();
        let approved = scene.approved().await;
        let pending = scene.submit().await;
        let cursor = scene.cursor().await;
        let answer = scene.store.delete_service(&alice(), &scene.service.id, START).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::NotFound));
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        assert_eq!(scene.told(&cursor).await, [format!("revoked {}", approved.id)]);
        for id in [&approved.id, &pending.id] {
            assert_eq!(scene.status(id).await, ClaimStatus::Revoked);
        }
        let answer = scene.decide(&pending.id, approve()).await;
        assert!(matches!(answer, Err(ClaimFault::Transition { .. })), "{answer:?}");
        assert_eq!(scene.store.caller_of_key("aa", START).await.unwrap(), None);
        assert_eq!(scene.store.keys(&acme(), &added.service_id).await.unwrap(), Err(ServiceFault::NotFound));
        let answer = scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::NotFound));
    }

    async fn nothing_stays_approved_where_approvals_and_a_deletion_meet(scene: Scene) {
        let mut ids = Vec::new();
        for _ in 0..15 {
            ids.push(scene.submit().await.id);
        }
        let approvals: Vec<_> = ids
            .iter()
            .map(|id| {
                let (store, id) = (scene.store.clone(), id.clone());
                tokio::spawn(async move { store.decide_claim(&alice(), &id, approve(), OWNER, START).await.unwrap() })
            })
            .collect();
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        for approval in approvals {
            let _ = approval.await.unwrap();
        }
        for id in &ids {
            assert_eq!(scene.status(id).await, ClaimStatus::Revoked);
        }
    }

    async fn key_opens_its_service_until_it_is_revoked(scene: Scene) {
        let added = scene.add_key("aa", true).await.unwrap();
        let caller = scene.store.caller_of_key("aa", START).await.unwrap().unwrap();
        assert_eq!((&caller.key, &caller.service, caller.all_services), (&added.id, &scene.service, true));
        assert_eq!(scene.store.caller_of_key("bb", START).await.unwrap(), None);
        let other = add_service(&scene.store, &acme(), "calendar").await;
        for (owner, service) in [(&alice(), &scene.service.id), (&acme(), &unknown())] {
            let answer = scene.store.revoke_key(owner, service, &added.id).await.unwrap();
            assert_eq!(answer, Err(ServiceFault::NotFound));
        }
        let answer = scene.store.revoke_key(&acme(), &other.id, &added.id).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::NoSuch("key")));
        scene.store.revoke_key(&acme(), &scene.service.id, &added.id).await.unwrap().unwrap();
        assert_eq!(scene.store.caller_of_key("aa", START).await.unwrap(), None);
        let answer = scene.store.revoke_key(&acme(), &scene.service.id, &added.id).await.unwrap();
        assert_eq!(answer, Err(ServiceFault::NoSuch("key")));
        assert_eq!(scene.store.keys(&acme(), &scene.service.id).await.unwrap(), Ok(Vec::new()));
    }

    async fn service_has_so_many_active_keys_and_no_more(scene: Scene) {
        let tasks: Vec<_> = (0..12)
            .map(|number| {
                let (store, id) = (scene.store.clone(), scene.service.id.clone());
                tokio::spawn(async move {
                    let sha256 = format!("sha-{number}");
                    store.add_key(&acme(), &id, new_key(&sha256, false), 5, START).await.unwrap()
                })
            })
            .collect();
        let mut added = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(key) => added.push(key),
                Err(fault) => {
                    let what = "the number of active keys of a service";
                    assert_eq!(fault, ServiceFault::Limit { what, most: 5 });
                }
            }
        }
        assert_eq!(added.len(), 5);
        assert_eq!(scene.store.keys(&acme(), &scene.service.id).await.unwrap().unwrap().len(), 5);
        scene.store.revoke_key(&acme(), &scene.service.id, &added[0].id).await.unwrap().unwrap();
        scene.add_key("another", false).await.unwrap();
        let id = &scene.service.id;
        let answer = scene.store.add_key(&alice(), id, new_key("x", false), 5, START).await;
        assert_eq!(answer.unwrap(), Err(ServiceFault::NotFound));
    }

    async fn service_stands_with_its_first_webhook_or_not_at_all(scene: Scene) {
        let webhook = || NewWebhook {
            url: "https://hooks.example.com/a".parse().unwrap(),
            events: vec![WebhookEvent::Approved],
            sealed_secret: "sealed".to_owned(),
            auth: None,
        };
        let add = |most_webhooks| {
            let (store, new) = (&scene.store, new_service("calendar"));
            async move {
                let id = ServiceId::from_random([7; 16]);
                store.add_service_with_webhook(&acme(), id, new, webhook(), (10, most_webhooks), START).await
            }
        };
        let refused = add(0).await.unwrap();
        assert_eq!(refused, Err(ServiceFault::Limit { what: "the number of webhooks of a service", most: 0 }));
        assert_eq!(scene.store.service_of_slug(&acme(), &slug("calendar")).await.unwrap(), None);
        let (service, hook) = add(1).await.unwrap().unwrap();
        assert_eq!((&service.id, &hook.service_id), (&ServiceId::from_random([7; 16]), &service.id));
        assert_eq!(scene.store.webhooks(&acme(), &service.id).await.unwrap(), Ok(vec![hook]));
        assert_eq!(add(1).await.unwrap(), Err(ServiceFault::SlugTaken(slug("calendar"))));
    }

    async fn replicas_hear_whose_keys_open_less_than_before(scene: Scene) {
        let other = scene.database.open().await;
        let (mut here, mut there) = (scene.store.signals(), other.signals());
        let key = scene.add_key("aa", true).await.unwrap();
        scene.add_key("bb", true).await.unwrap();
        let known = scene.store.keys_in_force(["aa", "bb", "cc"], START).await.unwrap();
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["aa", "bb"]);
        scene.store.revoke_key(&acme(), &scene.service.id, &key.id).await.unwrap().unwrap();
        assert_eq!(here.recv().await.unwrap(), Signal::Access { owner: "acme".to_owned() });
        let known = scene.store.keys_in_force(["aa", "bb"], START).await.unwrap();
        assert_eq!(known.into_iter().collect::<Vec<_>>(), ["bb"]);
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        assert_eq!(here.recv().await.unwrap(), Signal::Access { owner: "acme".to_owned() });
        assert_eq!(scene.store.keys_in_force(["aa", "bb"], START).await.unwrap().len(), 0);
        // Of SQLite there is one process.
        if matches!(scene.database, Database::Postgres(_)) {
            assert_eq!(there.recv().await.unwrap(), Signal::Access { owner: "acme".to_owned() });
        }
    }

    async fn use_of_a_key_is_noted_to_the_minute(scene: Scene) {
        let added = scene.add_key("aa", false).await.unwrap();
        assert_eq!(added.last_used_at, None);
        let (half, over) = (START.plus(MINUTE / 2), START.plus(MINUTE));
        for (now, noted) in [(START, START), (half, START), (over, over)] {
            scene.store.caller_of_key("aa", now).await.unwrap().unwrap();
            let keys = scene.store.keys(&acme(), &scene.service.id).await.unwrap().unwrap();
            assert_eq!(keys, [ApiKeyRecord { last_used_at: Some(noted), ..added.clone() }]);
        }
    }
}

impl Scene {
    async fn add_key(&self, sha256: &str, all_services: bool) -> Result<ApiKeyRecord, ServiceFault> {
        let new = new_key(sha256, all_services);
        self.store.add_key(&acme(), &self.service.id, new, 5, START).await.unwrap()
    }
}

fn unknown() -> ServiceId {
    ServiceId::from_random([0; 16])
}
