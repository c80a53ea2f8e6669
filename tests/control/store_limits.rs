//! The limits of a namespace, under concurrency too.

use sigilum::control::domain::claim::{
    ClaimFault, ClaimFilter, ClaimStatus, Decision, Submission, Submitted,
};
use sigilum::control::domain::owner::OwnerSettings;

use super::store_scene::*;

on_both_databases! {
    async fn fifty_approvals_at_once_keep_to_the_limit_of_ten_agents(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 100, ..OwnerSettings::default() }).await;
        let mut ids = Vec::new();
        for _ in 0..50 {
            ids.push(scene.submit().await.id);
        }
        let settings =
            OwnerSettings { max_pending_limit: 100, max_agents_per_service: 10, ..OwnerSettings::default() };
        scene.settings(settings).await;
        let cursor = scene.cursor().await;
        let second = scene.database.open().await;
        let tasks: Vec<_> = ids
            .into_iter()
            .enumerate()
            .map(|(number, id)| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                tokio::spawn(async move {
                    store.decide_claim(&alice(), &id, approve(), OWNER, START).await.unwrap()
                })
            })
            .collect();
        let mut refused = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(claim) => assert_eq!(claim.status, ClaimStatus::Approved),
                Err(ClaimFault::Limit { what, most }) => {
                    assert_eq!((what, most), ("the number of agents on one service", 10));
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(refused, 40);
        assert_eq!(scene.told(&cursor).await.len(), 10);
        let approved =
            ClaimFilter { status: Some(ClaimStatus::Approved), limit: 100, ..ClaimFilter::default() };
        assert_eq!(scene.store.claims_of(&alice(), &approved).await.unwrap().1, 10);
    }

    async fn approvals_at_once_keep_to_the_limit_of_services(scene: Scene) {
        let mut ids = Vec::new();
        for number in 0..8 {
            let service = add_service(&scene.store, &acme(), &format!("service-{number}")).await;
            ids.push(scene.submit_as(submission(&service)).await.id);
        }
        scene.settings(OwnerSettings { max_services: 3, ..OwnerSettings::default() }).await;
        let tasks: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let store = scene.store.clone();
                tokio::spawn(async move {
                    store.decide_claim(&alice(), &id, approve(), OWNER, START).await.unwrap()
                })
            })
            .collect();
        let mut approved = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => approved += 1,
                Err(fault) => assert!(matches!(fault, ClaimFault::Limit { most: 3, .. }), "{fault}"),
            }
        }
        assert_eq!(approved, 3);
    }

    async fn another_agent_on_a_service_is_no_further_service(scene: Scene) {
        scene.settings(OwnerSettings { max_services: 1, ..OwnerSettings::default() }).await;
        scene.approved().await;
        scene.approved().await;
        let other = add_service(&scene.store, &acme(), "calendar").await;
        let made = scene.submit_as(submission(&other)).await;
        assert_eq!((made.status, made.decided_by.as_deref()), (ClaimStatus::Rejected, Some("limit")));
    }

    async fn room_is_free_again_after_a_revocation_or_an_end(scene: Scene) {
        scene.settings(OwnerSettings { max_agents_per_service: 1, ..OwnerSettings::default() }).await;
        let waiting = scene.submit().await;
        let first = scene.approved().await;
        assert!(matches!(scene.decide(&waiting.id, approve()).await, Err(ClaimFault::Limit { most: 1, .. })));
        assert_eq!(scene.status(&waiting.id).await, ClaimStatus::Pending);
        scene.decide(&first.id, Decision::Revoke).await.unwrap();
        scene.decide(&waiting.id, approve_until(START.plus(MINUTE))).await.unwrap();
        // Over, though nobody has expired it yet.
        let now = START.plus(MINUTE);
        let next = match scene.store.submit_claim(submission(&scene.service), now).await.unwrap().unwrap() {
            Submitted::Made(claim) => claim,
            Submitted::Standing(claim) => panic!("{claim:?}"),
        };
        assert!(scene.store.decide_claim(&alice(), &next.id, approve(), OWNER, now).await.unwrap().is_ok());
    }

    async fn pending_claim_above_the_limit_is_rejected(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 5, ..OwnerSettings::default() }).await;
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (store, asked) = (scene.store.clone(), submission(&scene.service));
                tokio::spawn(async move { store.submit_claim(asked, START).await.unwrap().unwrap() })
            })
            .collect();
        let mut pending = 0;
        for task in tasks {
            match task.await.unwrap() {
                Submitted::Made(claim) if claim.status == ClaimStatus::Pending => pending += 1,
                Submitted::Made(claim) => {
                    assert_eq!(claim.status, ClaimStatus::Rejected);
                    assert_eq!((claim.decided_by.as_deref(), claim.decided_at), (Some("limit"), Some(START)));
                }
                Submitted::Standing(claim) => panic!("{claim:?}"),
            }
        }
        assert_eq!(pending, 5);
    }

    async fn strangers_services_do_not_crowd_out_claims_on_the_owners_own(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 2, ..OwnerSettings::default() }).await;
        let own = add_service(&scene.store, &alice(), "own-mail").await;
        for status in [ClaimStatus::Pending, ClaimStatus::Pending, ClaimStatus::Rejected] {
            assert_eq!(scene.submit().await.status, status);
        }
        for status in [ClaimStatus::Pending, ClaimStatus::Pending, ClaimStatus::Rejected] {
            assert_eq!(scene.submit_as(submission(&own)).await.status, status);
        }
    }

    async fn of_what_limits_rejected_the_newest_thousand_are_kept(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 0, ..OwnerSettings::default() }).await;
        for _ in 0..1_005 {
            scene.submit().await;
        }
        let later = START.plus(MINUTE);
        let last = match scene.store.submit_claim(submission(&scene.service), later).await.unwrap().unwrap() {
            Submitted::Made(claim) => claim,
            Submitted::Standing(claim) => panic!("{claim:?}"),
        };
        assert_eq!(scene.store.prune_rejected().await.unwrap(), 6);
        assert_eq!(scene.store.prune_rejected().await.unwrap(), 0);
        let all = ClaimFilter { limit: 1, ..ClaimFilter::default() };
        let (newest, total) = scene.store.claims_of(&alice(), &all).await.unwrap();
        assert_eq!((newest[0].id.clone(), total), (last.id, 1_000));
    }

    async fn rejected_by_a_limit_it_may_be_asked_for_again(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 0, ..OwnerSettings::default() }).await;
        let asked = submission(&scene.service);
        assert_eq!(scene.submit_as(asked.clone()).await.status, ClaimStatus::Rejected);
        scene.settings(OwnerSettings::default()).await;
        let again = Submission { nonce: "again".to_owned(), ..asked };
        assert_eq!(scene.submit_as(again).await.status, ClaimStatus::Pending);
    }
}
