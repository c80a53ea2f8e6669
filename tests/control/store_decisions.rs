//! What owners decide, what follows from where a claim is, and who hears of it.

use sigilum::control::domain::claim::{ClaimFault, ClaimStatus, Decision, Submission};
use sigilum::control::domain::owner::OwnerSettings;
use sigilum::control::store::{DidState, StoreFault};

use super::store_scene::*;

on_both_databases! {
    async fn approval_puts_the_claim_in_force_and_in_the_feed(scene: Scene) {
        let cursor = scene.cursor().await;
        let claim = scene.submit().await;
        let later = START.plus(MINUTE);
        let approved =
            scene.store.decide_claim(&alice(), &claim.id, approve(), OWNER, later).await.unwrap().unwrap();
        assert_eq!(approved.status, ClaimStatus::Approved);
        assert_eq!((approved.approved_at, approved.decided_at), (Some(later), Some(later)));
        assert_eq!(approved.decided_by.as_deref(), Some(OWNER));
        assert_eq!(scene.store.claim(&alice(), &claim.id).await.unwrap(), Some(approved.clone()));
        let events = scene.events(&cursor).await;
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].at, &events[0].service), (later, &slug("mail")));
        assert_eq!(
            events[0].change,
            sigilum::control::domain::feed::FeedChange::Approved(Box::new(approved))
        );
    }

    async fn time_to_live_counts_from_the_approval(scene: Scene) {
        let claim = scene.submit_as(Submission { ttl_seconds: Some(60), ..submission(&scene.service) }).await;
        let later = START.plus(HOUR);
        let approved =
            scene.store.decide_claim(&alice(), &claim.id, approve(), OWNER, later).await.unwrap().unwrap();
        assert_eq!(approved.expires_at, Some(later.plus(MINUTE)));
    }

    async fn approval_takes_over_the_end_and_the_scopes(scene: Scene) {
        let asked = Submission {
            ttl_seconds: Some(60),
            scopes: vec!["*".parse().unwrap()],
            ..submission(&scene.service)
        };
        let claim = scene.submit_as(asked.clone()).await;
        let scopes = vec!["POST /v1/chat/**".parse().unwrap()];
        let end = START.plus(DAY);
        let decision = Decision::Approve { expires_at: Some(Some(end)), scopes: Some(scopes.clone()) };
        let approved = scene.decide(&claim.id, decision).await.unwrap();
        assert_eq!((approved.expires_at, &approved.scopes), (Some(end), &scopes));
        let endless = scene.submit_as(Submission { public_key: key(), nonce: "n".to_owned(), ..asked }).await;
        let decision = Decision::Approve { expires_at: Some(None), scopes: None };
        assert_eq!(scene.decide(&endless.id, decision).await.unwrap().expires_at, None);
    }

    async fn end_that_is_said_holds_though_it_is_the_one_that_was_shown(scene: Scene) {
        let asked = || Submission { ttl_seconds: Some(3_600), ..submission(&scene.service) };
        let (claim, late) = (scene.submit_as(asked()).await, scene.submit_as(asked()).await);
        assert_eq!(claim.expires_at, Some(START.plus(HOUR)));
        let decision = || approve_until(START.plus(HOUR));
        let at = START.plus(50 * MINUTE);
        let approved = scene.store.decide_claim(&alice(), &claim.id, decision(), OWNER, at).await.unwrap().unwrap();
        assert_eq!(approved.expires_at, Some(START.plus(HOUR)));
        let answer = scene.store.decide_claim(&alice(), &late.id, decision(), OWNER, START.plus(2 * HOUR)).await;
        assert_eq!(answer.unwrap(), Err(ClaimFault::EndInPast(START.plus(HOUR))));
    }

    async fn second_approver_who_says_the_end_that_was_shown_approves_that_end(scene: Scene) {
        scene.settings(OwnerSettings { require_second_approver: true, ..OwnerSettings::default() }).await;
        let claim = scene.submit_as(Submission { ttl_seconds: Some(3_600), ..submission(&scene.service) }).await;
        let (other, shown, at) = ("bob@example.org", START.plus(HOUR), START.plus(50 * MINUTE));
        let decide = async |decision, by| {
            scene.store.decide_claim(&alice(), &claim.id, decision, by, at).await.unwrap().unwrap()
        };
        decide(approve(), OWNER).await;
        // That is not what the first one approved, an hour from the approval on.
        let after = decide(approve_until(shown), other).await;
        assert_eq!((after.status, after.first_approver.as_deref()), (ClaimStatus::Pending, Some(other)));
        let approved = decide(approve(), OWNER).await;
        assert_eq!((approved.status, approved.expires_at), (ClaimStatus::Approved, Some(shown)));
    }

    async fn end_in_the_past_is_refused(scene: Scene) {
        let claim = scene.submit().await;
        for end in [START, START.plus(MINUTE)] {
            let answer =
                scene.store.decide_claim(&alice(), &claim.id, approve_until(end), OWNER, START.plus(MINUTE)).await;
            assert_eq!(answer.unwrap(), Err(ClaimFault::EndInPast(end)));
        }
        assert_eq!(scene.status(&claim.id).await, ClaimStatus::Pending);
    }

    async fn every_transition_that_does_not_follow_is_refused(scene: Scene) {
        let pending = scene.submit().await;
        let approved = scene.approved().await;
        let rejected = scene.submit().await;
        scene.decide(&rejected.id, Decision::Reject).await.unwrap();
        let revoked = scene.approved().await;
        scene.decide(&revoked.id, Decision::Revoke).await.unwrap();
        let expired = scene.submit().await;
        scene.decide(&expired.id, approve_until(START.plus(MINUTE))).await.unwrap();
        assert_eq!(scene.store.expire_claims(START.plus(MINUTE)).await.unwrap(), 1);
        let cursor = scene.cursor().await;
        for (id, status, decision, wanted) in [
            (&approved.id, ClaimStatus::Approved, approve(), "approved"),
            (&approved.id, ClaimStatus::Approved, Decision::Reject, "rejected"),
            (&rejected.id, ClaimStatus::Rejected, approve(), "approved"),
            (&rejected.id, ClaimStatus::Rejected, Decision::Reject, "rejected"),
            (&rejected.id, ClaimStatus::Rejected, Decision::Revoke, "revoked"),
            (&revoked.id, ClaimStatus::Revoked, approve(), "approved"),
            (&revoked.id, ClaimStatus::Revoked, Decision::Revoke, "revoked"),
            (&expired.id, ClaimStatus::Expired, approve(), "approved"),
            (&expired.id, ClaimStatus::Expired, Decision::Revoke, "revoked"),
        ] {
            let answer = scene.decide(id, decision).await;
            assert_eq!(answer, Err(ClaimFault::Transition { status, wanted }), "{status:?} -> {wanted}");
            assert_eq!(scene.status(id).await, status);
        }
        assert_eq!(scene.told(&cursor).await, [""; 0]);
        assert_eq!(scene.status(&pending.id).await, ClaimStatus::Pending);
    }

    async fn revocation_of_an_approved_claim_is_in_the_feed_and_of_a_pending_one_is_not(scene: Scene) {
        let approved = scene.approved().await;
        let pending = scene.submit().await;
        let cursor = scene.cursor().await;
        let after = scene.decide(&pending.id, Decision::Revoke).await.unwrap();
        assert_eq!((after.status, after.decided_by.as_deref()), (ClaimStatus::Revoked, Some(OWNER)));
        scene.decide(&approved.id, Decision::Revoke).await.unwrap();
        assert_eq!(scene.told(&cursor).await, [format!("revoked {}", approved.id)]);
    }

    async fn claim_whose_time_is_over_is_not_decided_about(scene: Scene) {
        let approved = scene.submit().await;
        scene.decide(&approved.id, approve_until(START.plus(MINUTE))).await.unwrap();
        let pending = scene.submit().await;
        let cursor = scene.cursor().await;
        for (id, decision, wanted) in
            [(&approved.id, Decision::Revoke, "revoked"), (&pending.id, approve(), "approved")]
        {
            let answer = scene.store.decide_claim(&alice(), id, decision, OWNER, START.plus(DAY)).await.unwrap();
            let status = ClaimStatus::Expired;
            assert_eq!(answer, Err(ClaimFault::Transition { status, wanted }));
            assert_eq!(scene.status(id).await, status);
        }
        assert_eq!(scene.told(&cursor).await, [format!("expired {}", approved.id)]);
        assert_eq!(scene.store.expire_claims(START.plus(DAY)).await.unwrap(), 0);
    }

    async fn one_claim_approved_twenty_times_at_once_is_approved_once(scene: Scene) {
        let claim = scene.submit().await;
        let cursor = scene.cursor().await;
        let second = scene.database.open().await;
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                let id = claim.id.clone();
                tokio::spawn(async move {
                    store.decide_claim(&alice(), &id, approve(), OWNER, START).await.unwrap()
                })
            })
            .collect();
        let mut approved = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => approved += 1,
                Err(fault) => assert!(matches!(fault, ClaimFault::Transition { .. }), "{fault}"),
            }
        }
        assert_eq!(approved, 1);
        assert_eq!(scene.told(&cursor).await, [format!("approved {}", claim.id)]);
    }

    async fn approval_and_rejection_at_once_have_one_outcome(scene: Scene) {
        for _ in 0..10 {
            let claim = scene.submit().await;
            let cursor = scene.cursor().await;
            let (yes, no) =
                tokio::join!(scene.decide(&claim.id, approve()), scene.decide(&claim.id, Decision::Reject));
            assert!(yes.is_ok() != no.is_ok(), "{yes:?} {no:?}");
            let expected = if yes.is_ok() { vec![format!("approved {}", claim.id)] } else { Vec::new() };
            assert_eq!(scene.told(&cursor).await, expected);
        }
    }

    async fn second_approver_must_be_another_owner(scene: Scene) {
        scene.settings(OwnerSettings { require_second_approver: true, ..OwnerSettings::default() }).await;
        let claim = scene.submit_as(Submission { ttl_seconds: Some(60), ..submission(&scene.service) }).await;
        let cursor = scene.cursor().await;
        let first = scene.decide(&claim.id, approve()).await.unwrap();
        assert_eq!((first.status, first.first_approver.as_deref()), (ClaimStatus::Pending, Some(OWNER)));
        for same in [OWNER, "Alice@Example.org"] {
            let answer = scene.store.decide_claim(&alice(), &claim.id, approve(), same, START).await.unwrap();
            assert_eq!(answer, Err(ClaimFault::SecondApprover(OWNER.to_owned())));
        }
        assert_eq!(scene.told(&cursor).await, [""; 0]);
        let other = "bob@example.org";
        let second = scene.store.decide_claim(&alice(), &claim.id, approve(), other, START).await.unwrap().unwrap();
        assert_eq!((second.status, second.decided_by.as_deref()), (ClaimStatus::Approved, Some(other)));
        assert_eq!(second.expires_at, Some(START.plus(MINUTE)));
        assert_eq!(scene.told(&cursor).await, [format!("approved {}", claim.id)]);
    }

    async fn second_approver_who_gives_other_terms_is_the_first_of_these(scene: Scene) {
        scene.settings(OwnerSettings { require_second_approver: true, ..OwnerSettings::default() }).await;
        let claim = scene.submit().await;
        let narrow = vec!["GET /v1/models".parse().unwrap()];
        let first = Decision::Approve { expires_at: None, scopes: Some(narrow.clone()) };
        scene.decide(&claim.id, first).await.unwrap();
        let wide = Decision::Approve { expires_at: None, scopes: Some(Vec::new()) };
        let other = "bob@example.org";
        let after = scene.store.decide_claim(&alice(), &claim.id, wide, other, START).await.unwrap().unwrap();
        assert_eq!((after.status, after.first_approver.as_deref()), (ClaimStatus::Pending, Some(other)));
        let narrowed = Decision::Approve { expires_at: None, scopes: Some(narrow.clone()) };
        scene.decide(&claim.id, narrowed).await.unwrap();
        let approved = scene.store.decide_claim(&alice(), &claim.id, approve(), other, START).await.unwrap().unwrap();
        assert_eq!((approved.status, approved.scopes), (ClaimStatus::Approved, narrow));
    }

    async fn two_first_approvals_at_once_approve_nothing_alone(scene: Scene) {
        scene.settings(OwnerSettings { require_second_approver: true, ..OwnerSettings::default() }).await;
        let claim = scene.submit().await;
        let (one, two) = tokio::join!(scene.decide(&claim.id, approve()), scene.decide(&claim.id, approve()));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        assert_eq!(scene.status(&claim.id).await, ClaimStatus::Pending);
    }

    async fn expiry_takes_what_is_due_once_whoever_calls(scene: Scene) {
        let mut due = Vec::new();
        for _ in 0..12 {
            let claim = scene.submit().await;
            due.push(scene.decide(&claim.id, approve_until(START.plus(MINUTE))).await.unwrap().id);
        }
        let lasting = scene.approved().await;
        let waiting = scene.submit().await;
        let cursor = scene.cursor().await;
        let second = scene.database.open().await;
        assert_eq!(scene.store.expire_claims(START).await.unwrap(), 0);
        let now = START.plus(MINUTE);
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                tokio::spawn(async move { store.expire_claims(now).await.unwrap() })
            })
            .collect();
        let mut expired = 0;
        for task in tasks {
            expired += task.await.unwrap();
        }
        assert_eq!(expired, due.len());
        let mut told = scene.told(&cursor).await;
        told.sort();
        due.sort();
        assert_eq!(told, due.iter().map(|id| format!("expired {id}")).collect::<Vec<_>>());
        for (id, status) in [(&lasting.id, ClaimStatus::Approved), (&waiting.id, ClaimStatus::Pending)] {
            assert_eq!(scene.status(id).await, status);
        }
    }

    async fn pending_claim_expires_after_a_day_where_the_owner_lets_it(scene: Scene) {
        let claim = scene.submit().await;
        let cursor = scene.cursor().await;
        scene.settings(OwnerSettings { auto_expire: false, ..OwnerSettings::default() }).await;
        assert_eq!(scene.store.expire_claims(START.plus(2 * DAY)).await.unwrap(), 0);
        scene.settings(OwnerSettings::default()).await;
        assert_eq!(scene.store.expire_claims(START.plus(DAY - MINUTE)).await.unwrap(), 0);
        assert_eq!(scene.store.expire_claims(START.plus(DAY)).await.unwrap(), 1);
        assert_eq!(scene.status(&claim.id).await, ClaimStatus::Expired);
        assert_eq!(scene.told(&cursor).await, [""; 0]);
    }

    async fn ended_claims_are_forgotten_after_ninety_days_and_no_others(scene: Scene) {
        let ended = scene.submit().await;
        scene.decide(&ended.id, Decision::Reject).await.unwrap();
        let lasting = scene.approved().await;
        let later = START.plus(90 * DAY);
        assert_eq!(scene.store.prune_claims(START.plus(89 * DAY)).await.unwrap(), 0);
        assert_eq!(scene.store.prune_claims(later).await.unwrap(), 1);
        assert_eq!(scene.store.claim(&alice(), &ended.id).await.unwrap(), None);
        assert_eq!(scene.status(&lasting.id).await, ClaimStatus::Approved);
    }

    async fn first_claim_of_a_deleted_namespace_is_kept_and_keeps_its_did_deactivated(scene: Scene) {
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(scene.approved().await.id);
        }
        scene.store.delete_namespace(&alice(), START).await.unwrap();
        let later = START.plus(90 * DAY);
        assert_eq!(scene.store.prune_claims(later).await.unwrap(), 2);
        assert_eq!(scene.store.prune_claims(later).await.unwrap(), 0);
        assert_eq!(scene.store.did_state(&alice()).await.unwrap(), DidState::Deactivated);
    }

    async fn claim_that_cannot_be_read_holds_up_no_other(scene: Scene) {
        let (spoilt, sound) = (scene.submit().await, scene.submit().await);
        for claim in [&spoilt, &sound] {
            scene.decide(&claim.id, approve_until(START.plus(MINUTE))).await.unwrap();
        }
        scene.run(&format!("UPDATE claims SET scopes = 'spoilt' WHERE id = '{}'", spoilt.id)).await;
        assert_eq!(scene.store.expire_claims(START.plus(MINUTE)).await.unwrap(), 1);
        assert_eq!(scene.status(&sound.id).await, ClaimStatus::Expired);
        let fault = scene.store.expire_claims(START.plus(MINUTE)).await.unwrap_err();
        assert!(matches!(fault, StoreFault::Unreadable { .. }), "{fault}");
    }
}
