//! The owner's rules: what is approved at once, and what is filled in where nobody said.

use sigilum::control::domain::claim::{ClaimStatus, Decision, Submission};
use sigilum::control::domain::owner::OwnerSettings;
use sigilum::control::store::StoreFault;

use super::store_scene::*;

fn trusting(services: &[&str]) -> OwnerSettings {
    OwnerSettings {
        auto_approve_trusted: true,
        trusted_services: services.iter().map(|name| (*name).to_owned()).collect(),
        ..OwnerSettings::default()
    }
}

fn by_address(range: &str) -> OwnerSettings {
    OwnerSettings {
        auto_approve_ip: true,
        trusted_ip_ranges: vec![range.parse().unwrap()],
        ..OwnerSettings::default()
    }
}

on_both_databases! {
    async fn trusted_service_is_approved_at_once_and_told(scene: Scene) {
        scene.settings(trusting(&["mail"])).await;
        let cursor = scene.cursor().await;
        let claim = scene.submit_as(Submission { ttl_seconds: Some(60), ..submission(&scene.service) }).await;
        assert_eq!((claim.status, claim.decided_by.as_deref()), (ClaimStatus::Approved, Some("auto")));
        assert_eq!((claim.approved_at, claim.expires_at), (Some(START), Some(START.plus(MINUTE))));
        assert_eq!(scene.store.claim(&alice(), &claim.id).await.unwrap(), Some(claim.clone()));
        assert_eq!(scene.told(&cursor).await, [format!("approved {}", claim.id)]);
        let other = add_service(&scene.store, &acme(), "calendar").await;
        assert_eq!(scene.submit_as(submission(&other)).await.status, ClaimStatus::Pending);
    }

    async fn list_of_trusted_services_counts_only_while_it_is_switched_on(scene: Scene) {
        scene.settings(OwnerSettings { auto_approve_trusted: false, ..trusting(&["mail"]) }).await;
        assert_eq!(scene.submit().await.status, ClaimStatus::Pending);
    }

    async fn strangers_service_of_a_trusted_slug_is_not_trusted(scene: Scene) {
        scene.settings(trusting(&["mail"])).await;
        scene.store.add_owner(&"mallory".parse().unwrap(), "m@example.org", START).await.unwrap();
        let forged = add_service(&scene.store, &"mallory".parse().unwrap(), "mail").await;
        assert_eq!(scene.submit_as(submission(&forged)).await.status, ClaimStatus::Pending);
        // The one that was meant still is.
        assert_eq!(scene.submit().await.status, ClaimStatus::Approved);
        scene.settings(trusting(&["acme/mail"])).await;
        assert_eq!(scene.submit().await.status, ClaimStatus::Approved);
        assert_eq!(scene.submit_as(submission(&forged)).await.status, ClaimStatus::Pending);
        scene.settings(trusting(&["mail"])).await;
        let own = add_service(&scene.store, &alice(), "mail").await;
        assert_eq!(scene.submit_as(submission(&own)).await.status, ClaimStatus::Approved);
    }

    async fn slug_that_nobody_had_when_it_was_written_down_is_nobodys(scene: Scene) {
        scene.settings(trusting(&["calendar"])).await;
        scene.store.add_owner(&"mallory".parse().unwrap(), "m@example.org", START).await.unwrap();
        let squatted = add_service(&scene.store, &"mallory".parse().unwrap(), "calendar").await;
        assert_eq!(scene.submit_as(submission(&squatted)).await.status, ClaimStatus::Pending);
        // Nor does another change of the policy make it so.
        scene.settings(OwnerSettings { max_pending_limit: 9, ..trusting(&["calendar"]) }).await;
        assert_eq!(scene.submit_as(submission(&squatted)).await.status, ClaimStatus::Pending);
        let own = add_service(&scene.store, &alice(), "calendar").await;
        assert_eq!(scene.submit_as(submission(&own)).await.status, ClaimStatus::Approved);
    }

    async fn slug_of_a_deleted_service_is_not_trusted_in_strange_hands(scene: Scene) {
        scene.settings(trusting(&["mail"])).await;
        scene.store.delete_service(&acme(), &scene.service.id, START).await.unwrap().unwrap();
        scene.store.add_owner(&"mallory".parse().unwrap(), "m@example.org", START).await.unwrap();
        let taken_over = add_service(&scene.store, &"mallory".parse().unwrap(), "mail").await;
        assert_eq!(scene.submit_as(submission(&taken_over)).await.status, ClaimStatus::Pending);
    }

    async fn trusted_address_counts_on_the_owners_and_on_trusted_services_alone(scene: Scene) {
        scene.settings(by_address("10.0.0.0/8")).await;
        // Whoever runs a service can name any address.
        assert_eq!(scene.submit().await.status, ClaimStatus::Pending);
        let own = add_service(&scene.store, &alice(), "own-mail").await;
        assert_eq!(scene.submit_as(submission(&own)).await.status, ClaimStatus::Approved);
        let elsewhere = Submission { agent_ip: "192.0.2.1".parse().unwrap(), ..submission(&own) };
        assert_eq!(scene.submit_as(elsewhere).await.status, ClaimStatus::Pending);
        scene.settings(OwnerSettings {
            trusted_services: vec!["acme/mail".to_owned()],
            ..by_address("10.0.0.0/8")
        }).await;
        assert_eq!(scene.submit().await.status, ClaimStatus::Approved);
    }

    async fn rules_do_not_approve_above_the_limits(scene: Scene) {
        scene.settings(OwnerSettings { max_agents_per_service: 1, ..trusting(&["mail"]) }).await;
        assert_eq!(scene.submit().await.status, ClaimStatus::Approved);
        let above = scene.submit().await;
        assert_eq!((above.status, above.decided_by.as_deref()), (ClaimStatus::Rejected, Some("limit")));
    }

    async fn rules_do_not_wait_behind_pending_claims(scene: Scene) {
        scene.settings(OwnerSettings { max_pending_limit: 0, ..trusting(&["mail"]) }).await;
        assert_eq!(scene.submit().await.status, ClaimStatus::Approved);
    }

    async fn rules_approve_nothing_alone_where_a_second_approver_is_wanted(scene: Scene) {
        scene.settings(OwnerSettings { require_second_approver: true, ..trusting(&["mail"]) }).await;
        let claim = scene.submit().await;
        assert_eq!((claim.status, claim.first_approver.as_deref()), (ClaimStatus::Pending, None));
        let first = scene.decide(&claim.id, approve()).await.unwrap();
        assert_eq!(first.status, ClaimStatus::Pending);
    }

    async fn defaults_are_filled_in_where_nobody_said(scene: Scene) {
        scene.settings(OwnerSettings {
            default_claim_ttl: Some(3_600),
            default_scopes: vec!["GET /v1/**".to_owned()],
            ..OwnerSettings::default()
        }).await;
        let claim = scene.submit().await;
        assert_eq!(claim.scopes, ["GET /v1/**".parse().unwrap()]);
        assert_eq!(claim.expires_at, Some(START.plus(HOUR)));
        let approved = scene.decide(&claim.id, approve()).await.unwrap();
        assert_eq!((&approved.scopes, approved.expires_at), (&claim.scopes, Some(START.plus(HOUR))));
        let said = Submission {
            scopes: vec!["*".parse().unwrap()],
            ttl_seconds: Some(60),
            ..submission(&scene.service)
        };
        let claim = scene.submit_as(said).await;
        assert_eq!((claim.scopes, claim.expires_at), (vec!["*".parse().unwrap()], Some(START.plus(MINUTE))));
    }

    async fn defaults_of_the_approval_count_where_nobody_said(scene: Scene) {
        let (scopes, ttl) = (vec!["GET /v1/**".to_owned()], Some(3_600));
        let defaults = OwnerSettings { default_claim_ttl: ttl, default_scopes: scopes, ..OwnerSettings::default() };
        let (bare, said) = (scene.submit().await, scene.submit().await);
        scene.settings(defaults).await;
        let at = START.plus(MINUTE);
        let approved = scene.store.decide_claim(&alice(), &bare.id, approve(), OWNER, at).await.unwrap().unwrap();
        assert_eq!((approved.scopes, approved.expires_at), (vec!["GET /v1/**".parse().unwrap()], Some(at.plus(HOUR))));
        let everything = Decision::Approve { expires_at: Some(None), scopes: Some(Vec::new()) };
        let approved = scene.decide(&said.id, everything).await.unwrap();
        assert_eq!((approved.scopes, approved.expires_at), (Vec::new(), None));
    }

    async fn defaults_do_not_change_what_the_first_of_two_approved(scene: Scene) {
        let two = OwnerSettings { require_second_approver: true, ..OwnerSettings::default() };
        scene.settings(two.clone()).await;
        let claim = scene.submit().await;
        let everything = Decision::Approve { expires_at: Some(None), scopes: Some(Vec::new()) };
        scene.decide(&claim.id, everything).await.unwrap();
        scene.settings(OwnerSettings { default_claim_ttl: Some(60), ..two }).await;
        let second = scene.store.decide_claim(&alice(), &claim.id, approve(), "bob@example.org", START).await;
        let second = second.unwrap().unwrap();
        assert_eq!((second.status, second.expires_at), (ClaimStatus::Approved, None));
    }

    async fn default_scope_that_is_none_makes_no_claim(scene: Scene) {
        let default_scopes = vec!["everything".to_owned()];
        scene.settings(OwnerSettings { default_scopes, ..OwnerSettings::default() }).await;
        let answer = scene.store.submit_claim(submission(&scene.service), START).await;
        assert!(matches!(answer, Err(StoreFault::Unreadable { what: "scope", .. })), "{answer:?}");
    }
}
