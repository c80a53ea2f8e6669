//! Submitting claims, listing them, and the pages of approved ones.

use sigilum::control::domain::claim::{
    ClaimFault, ClaimFilter, ClaimStatus, Decision, Submission, Submitted,
};
use sigilum::control::store::PageFrom;
use sigilum::names::Namespace;

use super::store_scene::*;

on_both_databases! {
    async fn submitted_claim_is_pending_and_comes_back_as_it_was_stored(scene: Scene) {
        let asked = Submission {
            subject: "usr_ü 世界".to_owned(),
            agent_id: Some("agent-1".to_owned()),
            agent_name: Some("The Agent".to_owned()),
            agent_ip: "2001:db8::7".parse().unwrap(),
            scopes: vec!["GET /v1/models/**".parse().unwrap(), "tool:read_*".parse().unwrap()],
            ttl_seconds: Some(3_600),
            ..submission(&scene.service)
        };
        let claim = scene.submit_as(asked.clone()).await;
        assert_eq!(claim.status, ClaimStatus::Pending);
        assert_eq!((&claim.namespace, claim.public_key), (&alice(), asked.public_key));
        assert_eq!((&claim.service, &claim.service_owner), (&slug("mail"), &acme()));
        assert_eq!(claim.subject, asked.subject);
        assert_eq!((&claim.agent_id, &claim.agent_name), (&asked.agent_id, &asked.agent_name));
        assert_eq!((claim.agent_ip, &claim.scopes), (asked.agent_ip, &asked.scopes));
        assert_eq!((claim.created_at, claim.expires_at), (START, Some(START.plus(HOUR))));
        assert_eq!((claim.approved_at, claim.decided_at, &claim.decided_by), (None, None, &None));
        assert_eq!(scene.store.claim(&alice(), &claim.id).await.unwrap(), Some(claim));
    }

    async fn claim_of_another_namespace_is_not_found(scene: Scene) {
        let claim = scene.submit().await;
        assert_eq!(scene.store.claim(&acme(), &claim.id).await.unwrap(), None);
        let answer = scene.store.decide_claim(&acme(), &claim.id, approve(), OWNER, START).await.unwrap();
        assert_eq!(answer, Err(ClaimFault::NotFound(claim.id.clone())));
        assert_eq!(scene.status(&claim.id).await, ClaimStatus::Pending);
    }

    async fn nonce_used_twice_is_a_replay_for_a_day_at_least(scene: Scene) {
        let first = submission(&scene.service);
        scene.submit_as(first.clone()).await;
        let again = Submission { public_key: key(), ..first.clone() };
        for now in [START, START.plus(DAY)] {
            scene.store.forget_nonces(now).await.unwrap();
            let answer = scene.store.submit_claim(again.clone(), now).await.unwrap();
            assert_eq!(answer, Err(ClaimFault::NonceReplay));
        }
        scene.store.add_owner(&"bob".parse().unwrap(), "bob@example.org", START).await.unwrap();
        scene.submit_as(Submission { namespace: "bob".parse().unwrap(), ..again.clone() }).await;
        let later = START.plus(3 * DAY);
        scene.store.forget_nonces(later).await.unwrap();
        assert!(scene.store.submit_claim(again, later).await.unwrap().is_ok());
    }

    async fn standing_claim_comes_back_instead_of_a_second_one(scene: Scene) {
        let asked = submission(&scene.service);
        let claim = scene.submit_as(asked.clone()).await;
        let again = Submission { nonce: "another".to_owned(), ..asked.clone() };
        let answer = scene.store.submit_claim(again, START).await.unwrap().unwrap();
        assert_eq!(answer, Submitted::Standing(claim.clone()));
        let approved = scene.decide(&claim.id, approve()).await.unwrap();
        let again = Submission { nonce: "a third".to_owned(), ..asked.clone() };
        let answer = scene.store.submit_claim(again, START).await.unwrap().unwrap();
        assert_eq!(answer, Submitted::Standing(approved));
        scene.decide(&claim.id, Decision::Revoke).await.unwrap();
        let after = scene.submit_as(Submission { nonce: "a fourth".to_owned(), ..asked }).await;
        assert_ne!(after.id, claim.id);
    }

    async fn nonce_of_a_submission_that_found_a_standing_claim_is_used_too(scene: Scene) {
        let asked = submission(&scene.service);
        scene.submit_as(asked.clone()).await;
        let again = Submission { nonce: "another".to_owned(), ..asked };
        assert!(scene.store.submit_claim(again.clone(), START).await.unwrap().is_ok());
        let answer = scene.store.submit_claim(again, START).await.unwrap();
        assert_eq!(answer, Err(ClaimFault::NonceReplay));
    }

    async fn claim_whose_time_is_over_does_not_stand_in_the_way(scene: Scene) {
        let asked = submission(&scene.service);
        let claim = scene.submit_as(asked.clone()).await;
        scene.decide(&claim.id, approve_until(START.plus(MINUTE))).await.unwrap();
        let cursor = scene.cursor().await;
        let again = Submission { nonce: "another".to_owned(), ..asked };
        let answer = scene.store.submit_claim(again, START.plus(MINUTE)).await.unwrap().unwrap();
        assert!(matches!(answer, Submitted::Made(made) if made.status == ClaimStatus::Pending));
        assert_eq!(scene.status(&claim.id).await, ClaimStatus::Expired);
        assert_eq!(scene.told(&cursor).await, [format!("expired {}", claim.id)]);
    }

    async fn submission_needs_a_namespace_and_a_service_that_stand(scene: Scene) {
        let nobody: sigilum::names::Namespace = "nobody".parse().unwrap();
        let asked = Submission { namespace: nobody.clone(), ..submission(&scene.service) };
        let answer = scene.store.submit_claim(asked, START).await.unwrap();
        assert_eq!(answer, Err(ClaimFault::NoNamespace(nobody)));
        let asked = submission(&scene.service);
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        let answer = scene.store.submit_claim(asked, START).await.unwrap();
        assert_eq!(answer, Err(ClaimFault::NoService(scene.service.id.clone())));
    }

    async fn submissions_of_one_key_at_once_make_one_claim(scene: Scene) {
        let asked = submission(&scene.service);
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let store = scene.store.clone();
                let asked = Submission { nonce: format!("at-once-{number}"), ..asked.clone() };
                tokio::spawn(async move { store.submit_claim(asked, START).await.unwrap().unwrap() })
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            made += usize::from(matches!(task.await.unwrap(), Submitted::Made(_)));
        }
        assert_eq!(made, 1);
        assert_eq!(scene.store.claims_of(&alice(), &all()).await.unwrap().1, 1);
    }

    async fn listing_is_newest_first_filtered_and_paged(scene: Scene) {
        let other = add_service(&scene.store, &acme(), "calendar").await;
        let mut ids = Vec::new();
        for minute in 0..6 {
            let service = if minute % 2 == 0 { &scene.service } else { &other };
            let at = START.plus(minute * MINUTE);
            match scene.store.submit_claim(submission(service), at).await.unwrap().unwrap() {
                Submitted::Made(claim) => ids.push(claim.id),
                Submitted::Standing(claim) => panic!("{claim:?}"),
            }
        }
        scene.decide(&ids[0], approve()).await.unwrap();
        let found = |filter: ClaimFilter| {
            let store = scene.store.clone();
            async move {
                let (claims, total) = store.claims_of(&alice(), &filter).await.unwrap();
                (claims.into_iter().map(|claim| claim.id).collect::<Vec<_>>(), total)
            }
        };
        let newest: Vec<_> = ids.iter().rev().cloned().collect();
        assert_eq!(found(all()).await, (newest.clone(), 6));
        assert_eq!(found(ClaimFilter { limit: 2, offset: 1, ..all() }).await, (newest[1..3].to_vec(), 6));
        let approved = ClaimFilter { status: Some(ClaimStatus::Approved), ..all() };
        assert_eq!(found(approved).await, (vec![ids[0].clone()], 1));
        let both = ClaimFilter { status: Some(ClaimStatus::Pending), service: Some(slug("mail")), ..all() };
        assert_eq!(found(both).await, (vec![ids[4].clone(), ids[2].clone()], 2));
        assert_eq!(scene.store.claims_of(&acme(), &all()).await.unwrap(), (Vec::new(), 0));
    }

    async fn pages_of_approved_claims_miss_none_and_leave_out_what_is_over(scene: Scene) {
        let mut ids = Vec::new();
        for _ in 0..7 {
            ids.push(scene.approved().await.id);
        }
        ids.sort();
        let over = scene.submit().await;
        scene.decide(&over.id, approve_until(START.plus(MINUTE))).await.unwrap();
        scene.submit().await;
        let now = START.plus(MINUTE);
        let mut seen = Vec::new();
        let mut from = PageFrom::Offset(0);
        loop {
            let page = scene.store.approved_claims(&acme(), &slug("mail"), from, 3, now).await.unwrap();
            assert_eq!(page.total, 7);
            seen.extend(page.claims.iter().map(|claim| claim.id.clone()));
            // One goes while the pages are read: an offset would skip another for it.
            if seen.len() == 3 {
                scene.decide(&ids[0], Decision::Revoke).await.unwrap();
                scene.approved().await;
            }
            match (page.has_more, page.claims.last()) {
                (true, Some(last)) => from = PageFrom::After(last.id.clone()),
                _ => break,
            }
            assert!(seen.len() < 20, "the pages do not end");
        }
        assert!(ids.iter().all(|id| seen.contains(id)), "{seen:?} lacks one of {ids:?}");
        let page = scene.store.approved_claims(&acme(), &slug("mail"), PageFrom::Offset(6), 3, now).await.unwrap();
        assert_eq!((page.claims.len(), page.has_more), (1, false));
        let none = scene.store.approved_claims(&alice(), &slug("mail"), PageFrom::Offset(0), 3, now).await.unwrap();
        assert_eq!((none.claims, none.total, none.has_more), (Vec::new(), 0, false));
    }

    async fn cursor_of_a_page_is_where_the_feed_stood(scene: Scene) {
        let before = scene.approved().await;
        let page = scene.store.approved_claims(&acme(), &slug("mail"), PageFrom::Offset(0), 10, START).await.unwrap();
        assert_eq!(page.claims, [before]);
        assert_eq!(page.cursor, scene.cursor().await);
        let after = scene.approved().await;
        assert_eq!(scene.told(&page.cursor).await, [format!("approved {}", after.id)]);
    }

    async fn verification_finds_only_what_is_approved_and_not_over(scene: Scene) {
        let asked = submission(&scene.service);
        let claim = scene.submit_as(asked.clone()).await;
        let verify = |key, service: &'static str, owner: Option<Namespace>, now| {
            let store = scene.store.clone();
            async move {
                let found = store.verify_claim(&alice(), &key, &slug(service), owner.as_ref(), now).await;
                found.unwrap().map(|claim| claim.id)
            }
        };
        assert_eq!(verify(asked.public_key, "mail", None, START).await, None);
        scene.decide(&claim.id, approve_until(START.plus(MINUTE))).await.unwrap();
        assert_eq!(verify(asked.public_key, "mail", None, START).await, Some(claim.id.clone()));
        assert_eq!(verify(asked.public_key, "mail", None, START.plus(MINUTE)).await, None);
        assert_eq!(verify(key(), "mail", None, START).await, None);
        assert_eq!(verify(asked.public_key, "calendar", None, START).await, None);
        assert_eq!(verify(asked.public_key, "mail", Some(acme()), START).await, Some(claim.id));
        add_service(&scene.store, &alice(), "mail").await;
        assert_eq!(verify(asked.public_key, "mail", Some(alice()), START).await, None);
    }
}

fn all() -> ClaimFilter {
    ClaimFilter { limit: 100, ..ClaimFilter::default() }
}
