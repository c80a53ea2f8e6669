//! Namespaces, owners, their policy, and what is left when they go.

use std::time::Duration;

use sigilum::control::domain::claim::{ClaimFault, ClaimFilter, ClaimStatus, Decision, Submitted};
use sigilum::control::domain::owner::OwnerSettings;
use sigilum::control::store::{DidState, StoreFault};
use sigilum::names::Namespace;

use super::store_scene::*;

on_both_databases! {
    async fn owner_is_added_once_and_found_by_its_id(scene: Scene) {
        let bob: Namespace = "bob".parse().unwrap();
        assert_eq!(scene.store.namespace(&bob).await.unwrap(), None);
        let owner = scene.store.add_owner(&bob, "Bob@Example.org", START).await.unwrap();
        assert_eq!((owner.namespace.clone(), owner.email.as_str()), (bob.clone(), "bob@example.org"));
        assert!(owner.id.starts_with("usr_") && owner.id.len() == 36, "{}", owner.id);
        let again = scene.store.add_owner(&bob, "bob@example.ORG", START.plus(HOUR)).await.unwrap();
        assert_eq!(again, owner);
        let second = scene.store.add_owner(&bob, "carol@example.org", START).await.unwrap();
        assert_ne!(second.id, owner.id);
        assert_eq!(scene.store.owner(&owner.id).await.unwrap(), Some(owner));
        assert_eq!(scene.store.owner("usr_0").await.unwrap(), None);
        let record = scene.store.namespace(&bob).await.unwrap().unwrap();
        assert_eq!((record.created_at, record.settings), (START, OwnerSettings::default()));
    }

    async fn changes_of_the_settings_at_once_are_all_kept(scene: Scene) {
        let one_more = |settings: OwnerSettings| {
            let max_pending_limit = settings.max_pending_limit + 1;
            Ok::<_, &str>(OwnerSettings { max_pending_limit, ..settings })
        };
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let store = scene.store.clone();
                tokio::spawn(async move { store.change_settings(&alice(), OWNER, one_more).await.unwrap() })
            })
            .collect();
        for task in tasks {
            let (before, after) = task.await.unwrap().unwrap().unwrap();
            assert_eq!(after.max_pending_limit, before.max_pending_limit + 1);
        }
        let kept = scene.store.namespace(&alice()).await.unwrap().unwrap().settings;
        assert_eq!(kept.max_pending_limit, OwnerSettings::default().max_pending_limit + 10);
        let refused = scene.store.change_settings(&alice(), OWNER, |_| Err("no")).await.unwrap();
        assert_eq!(refused, Some(Err("no")));
        assert_eq!(scene.store.namespace(&alice()).await.unwrap().unwrap().settings, kept);
        let nobody = "nobody".parse().unwrap();
        assert_eq!(scene.store.change_settings(&nobody, OWNER, one_more).await.unwrap(), None);
    }

    async fn settings_are_kept_as_they_were_set(scene: Scene) {
        let settings = OwnerSettings {
            max_pending_limit: 3,
            auto_approve_trusted: true,
            trusted_services: vec!["mail".to_owned()],
            auto_approve_ip: true,
            trusted_ip_ranges: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            auto_expire: false,
            default_claim_ttl: Some(60),
            default_scopes: vec!["*".to_owned()],
            require_second_approver: true,
            second_approver_waived_by: None,
            max_agents_per_service: 4,
            max_services: 5,
        };
        scene.settings(settings.clone()).await;
        assert_eq!(scene.store.namespace(&alice()).await.unwrap().unwrap().settings, settings);
        assert_eq!(scene.store.namespace(&acme()).await.unwrap().unwrap().settings, OwnerSettings::default());
    }

    async fn deleted_namespace_takes_its_owners_services_and_claims_with_it(scene: Scene) {
        let owner = scene.store.add_owner(&alice(), OWNER, START).await.unwrap();
        let own = add_service(&scene.store, &alice(), "own-mail").await;
        let approved = scene.approved().await;
        let pending = scene.submit().await;
        let cursor = scene.cursor().await;
        scene.store.delete_namespace(&alice(), START.plus(HOUR)).await.unwrap();
        assert_eq!(scene.told(&cursor).await, [format!("revoked {}", approved.id)]);
        assert_eq!(scene.status(&approved.id).await, ClaimStatus::Revoked);
        assert_eq!(scene.status(&pending.id).await, ClaimStatus::Revoked);
        assert_eq!(scene.store.namespace(&alice()).await.unwrap(), None);
        assert_eq!(scene.store.owner(&owner.id).await.unwrap(), None);
        assert_eq!(scene.store.service(&alice(), &own.id).await.unwrap(), None);
        let answer = scene.store.submit_claim(submission(&scene.service), START).await.unwrap();
        assert_eq!(answer, Err(ClaimFault::NoNamespace(alice())));
        let answer = scene.decide(&approved.id, Decision::Revoke).await;
        assert_eq!(answer, Err(ClaimFault::NotFound(approved.id)));
        scene.store.delete_namespace(&alice(), START).await.unwrap();
    }

    async fn claims_on_the_services_of_a_deleted_namespace_are_revoked(scene: Scene) {
        let claim = scene.approved().await;
        let cursor = scene.cursor().await;
        scene.store.delete_namespace(&acme(), START).await.unwrap();
        assert_eq!(scene.status(&claim.id).await, ClaimStatus::Revoked);
        assert_eq!(scene.told(&cursor).await, [format!("revoked {}", claim.id)]);
    }

    async fn name_of_a_deleted_namespace_is_not_given_again(scene: Scene) {
        scene.store.delete_namespace(&alice(), START).await.unwrap();
        let answer = scene.store.add_owner(&alice(), "mallory@example.org", START).await;
        assert!(matches!(answer, Err(StoreFault::NamespaceGone(gone)) if gone == alice()));
        let answer = scene.store.seed_claim(&alice(), &slug("mail"), &key(), true, START).await;
        assert!(matches!(answer, Err(StoreFault::NamespaceGone(_))), "{answer:?}");
    }

    async fn many_claims_are_revoked_with_their_service_at_once(scene: Scene) {
        let settings = OwnerSettings { max_pending_limit: 5_000, ..OwnerSettings::default() };
        scene.settings(settings).await;
        let cursor = scene.cursor().await;
        for _ in 0..620 {
            scene.store.seed_claim(&alice(), &slug("mail"), &key(), true, START).await.unwrap();
        }
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        let told = scene.told(&cursor).await;
        let count = |word: &str| told.iter().filter(|line| line.starts_with(word)).count();
        assert_eq!((count("approved "), count("revoked ")), (620, 620));
        // Others had their turn in between: what one transaction wrote has one tag.
        let mut revoked: Vec<_> = scene.events(&cursor).await.into_iter().skip(620).map(|event| event.tag).collect();
        revoked.dedup();
        assert_eq!(revoked.len(), 2);
    }

    async fn deletion_that_was_cut_off_is_finished_by_the_next_one(scene: Scene) {
        for _ in 0..620 {
            scene.store.seed_claim(&alice(), &slug("mail"), &key(), true, START).await.unwrap();
        }
        let (cursor, mut head) = (scene.cursor().await, scene.store.feed_head());
        let store = scene.store.clone();
        let cut = tokio::spawn(async move { store.delete_namespace(&alice(), START).await });
        soon("the first batch", head.wait_for(|head| *head > cursor.seq)).await.unwrap();
        cut.abort();
        let _ = cut.await;
        scene.store.delete_namespace(&alice(), START).await.unwrap();
        let mut told = scene.told(&cursor).await;
        told.sort();
        told.dedup();
        assert_eq!((told.len(), scene.cursor().await.seq), (620, cursor.seq + 620), "each one once");
        assert_eq!(scene.store.namespace(&alice()).await.unwrap(), None);
    }

    async fn claims_that_are_made_while_their_service_goes_are_revoked_too(scene: Scene) {
        scene.settings(OwnerSettings {
            max_pending_limit: 5_000,
            auto_approve_trusted: true,
            trusted_services: vec!["mail".to_owned()],
            ..OwnerSettings::default()
        }).await;
        for _ in 0..520 {
            scene.store.seed_claim(&alice(), &slug("mail"), &key(), true, START).await.unwrap();
        }
        let (store, service) = (scene.store.clone(), scene.service.clone());
        let asking = tokio::spawn(async move {
            while let Ok(made) = store.submit_claim(submission(&service), START).await.unwrap() {
                assert!(matches!(made, Submitted::Made(_)), "{made:?}");
            }
        });
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        asking.await.unwrap();
        for status in [ClaimStatus::Pending, ClaimStatus::Approved] {
            let filter = ClaimFilter { status: Some(status), limit: 1, ..ClaimFilter::default() };
            assert_eq!(scene.store.claims_of(&alice(), &filter).await.unwrap().1, 0, "{status:?}");
        }
    }

    async fn did_is_made_from_the_approved_keys_oldest_first(scene: Scene) {
        let nobody: Namespace = "nobody".parse().unwrap();
        assert_eq!(scene.store.did_state(&nobody).await.unwrap(), DidState::Unknown);
        let none = DidState::Active { keys: Vec::new(), created_at: START, updated_at: START };
        assert_eq!(scene.store.did_state(&alice()).await.unwrap(), none);
        let mut keys = Vec::new();
        for minute in 0..3 {
            let asked = submission(&scene.service);
            keys.push(asked.public_key);
            let claim = scene.submit_as(asked).await;
            let at = START.plus(minute * MINUTE);
            scene.store.decide_claim(&alice(), &claim.id, approve(), OWNER, at).await.unwrap().unwrap();
            if minute == 1 {
                keys.pop();
                let end = Decision::Revoke;
                scene.store.decide_claim(&alice(), &claim.id, end, OWNER, START.plus(HOUR)).await.unwrap().unwrap();
            }
        }
        scene.submit().await;
        let state = DidState::Active { keys, created_at: START, updated_at: START.plus(HOUR) };
        assert_eq!(scene.store.did_state(&alice()).await.unwrap(), state);
    }

    async fn did_names_a_key_once_and_256_of_them(scene: Scene) {
        let mut keys = Vec::new();
        for second in 0..260 {
            keys.push(key());
            let at = START.plus(second * Duration::from_secs(1));
            scene.store.seed_claim(&alice(), &slug("mail"), &keys[keys.len() - 1], true, at).await.unwrap();
        }
        add_service(&scene.store, &acme(), "calendar").await;
        scene.store.seed_claim(&alice(), &slug("calendar"), &keys[3], true, START.plus(HOUR)).await.unwrap();
        let state = scene.store.did_state(&alice()).await.unwrap();
        let DidState::Active { keys: named, updated_at, .. } = state else { panic!("{state:?}") };
        assert_eq!(named, keys[..256]);
        assert_eq!(updated_at, START.plus(HOUR));
    }

    async fn did_of_a_namespace_that_is_gone_is_deactivated_where_claims_are_left(scene: Scene) {
        scene.approved().await;
        scene.store.delete_namespace(&alice(), START).await.unwrap();
        assert_eq!(scene.store.did_state(&alice()).await.unwrap(), DidState::Deactivated);
        scene.store.delete_namespace(&acme(), START).await.unwrap();
        assert_eq!(scene.store.did_state(&acme()).await.unwrap(), DidState::Unknown);
    }

    async fn seed_makes_and_revokes_claims_without_an_owner(scene: Scene) {
        let cursor = scene.cursor().await;
        let (seeded, bob) = (key(), "bob".parse().unwrap());
        for _ in 0..2 {
            scene.store.seed_claim(&bob, &slug("mail"), &seeded, true, START).await.unwrap();
        }
        let claim = scene.store.verify_claim(&bob, &seeded, &slug("mail"), None, START).await.unwrap().unwrap();
        assert_eq!((&claim.service_owner, claim.decided_by.as_deref()), (&acme(), Some("auto")));
        for _ in 0..2 {
            scene.store.seed_claim(&bob, &slug("mail"), &seeded, false, START).await.unwrap();
        }
        assert_eq!(scene.told(&cursor).await, [format!("approved {}", claim.id), format!("revoked {}", claim.id)]);
        scene.store.seed_claim(&bob, &slug("new-one"), &seeded, true, START).await.unwrap();
        assert!(scene.store.service_of_slug(&bob, &slug("new-one")).await.unwrap().is_some());
        let waiting = submission(&scene.service);
        let pending = scene.submit_as(waiting.clone()).await;
        scene.store.seed_claim(&alice(), &slug("mail"), &waiting.public_key, true, START).await.unwrap();
        assert_eq!(scene.status(&pending.id).await, ClaimStatus::Revoked);
        let stands = scene.store.verify_claim(&alice(), &waiting.public_key, &slug("mail"), None, START).await;
        assert!(stands.unwrap().is_some());
    }

    async fn nonce_of_a_request_is_taken_once_until_its_time_is_over(scene: Scene) {
        let second = scene.database.open().await;
        let end = START.plus(MINUTE);
        assert!(scene.store.note_nonce(&alice(), "n", end, START).await.unwrap());
        assert!(!scene.store.note_nonce(&alice(), "n", end, START).await.unwrap());
        assert!(!second.note_nonce(&alice(), "n", end, START).await.unwrap());
        assert!(second.note_nonce(&acme(), "n", end, START).await.unwrap());
        scene.store.forget_nonces(START).await.unwrap();
        assert!(!scene.store.note_nonce(&alice(), "n", end, START).await.unwrap());
        assert!(scene.store.note_nonce(&alice(), "n", end.plus(MINUTE), end).await.unwrap());
        assert!(!scene.store.note_nonce(&alice(), "n", end.plus(MINUTE), end).await.unwrap());
    }

    async fn nonce_noted_at_once_by_many_is_taken_by_one(scene: Scene) {
        let second = scene.database.open().await;
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                tokio::spawn(async move {
                    store.note_nonce(&alice(), "n", START.plus(MINUTE), START).await.unwrap()
                })
            })
            .collect();
        let mut taken = 0;
        for task in tasks {
            taken += usize::from(task.await.unwrap());
        }
        assert_eq!(taken, 1);
    }
}
