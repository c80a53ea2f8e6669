//! One owner of the control plane against another, and a stolen token against the owners of one namespace.

use serde_json::{Value, json};
use sigilum::clock::UnixTime;

use crate::control::api_scene::{Desk, refused};
use crate::support::agent::Agent;
use crate::support::control::{Control, Owner};
use crate::support::raw::Response;

const SETTINGS: &str = "/v1/auth/settings";

fn settings(desk: &Desk, owner: &Owner, change: &Value) -> Value {
    let answer = desk.control.as_owner(owner, "PATCH", SETTINGS, Some(change));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn no_owner_sees_or_changes_what_is_another_s_by_its_ids() {
    let desk = Desk::start();
    let mallory = desk.control.owner("mallory");
    let own = desk.control.service(&mallory, "openai");
    let claim = desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let hook =
        json!({ "url": "http://127.0.0.1:9/", "secret": "0123456789abcdef", "events": ["request.approved"] });
    let webhooks = format!("/v1/services/{}/webhooks", desk.openai.id);
    let made = desk.post(&desk.acme, &webhooks, &hook);
    let webhook = made.json()["id"].as_str().unwrap().to_owned();
    let started = desk.post(&desk.acme, "/v1/gateway/pairing/start", &json!({}));
    let session = started.json()["session_id"].as_str().unwrap().to_owned();
    let (service, key) = (&desk.openai.id, &desk.openai.key_id);
    let command = json!({ "session_id": session, "method": "GET", "path": "/health" });
    for (method, path, body) in [
        ("GET", format!("/v1/claims/{claim}"), None),
        ("POST", format!("/v1/claims/{claim}/revoke"), None),
        ("GET", format!("/v1/services/{service}"), None),
        ("PATCH", format!("/v1/services/{service}"), Some(json!({ "name": "mine" }))),
        ("DELETE", format!("/v1/services/{service}"), None),
        ("GET", format!("/v1/services/{service}/keys"), None),
        ("POST", format!("/v1/services/{service}/keys"), Some(json!({ "all_services": true }))),
        ("DELETE", format!("/v1/services/{service}/keys/{key}"), None),
        // By the id of a service of its own, too.
        ("DELETE", format!("/v1/services/{}/keys/{key}", own.id), None),
        ("GET", webhooks.clone(), None),
        ("POST", webhooks.clone(), Some(hook.clone())),
        ("DELETE", format!("{webhooks}/{webhook}"), None),
        ("DELETE", format!("/v1/services/{}/webhooks/{webhook}", own.id), None),
        ("GET", "/v1/namespaces/alice/claims".to_owned(), None),
        ("GET", "/v1/namespaces/alice/usage".to_owned(), None),
        ("GET", format!("/v1/gateway/pairing/status?session_id={session}"), None),
        ("POST", "/v1/gateway/pairing/command".to_owned(), Some(command)),
        ("DELETE", format!("/v1/gateway/pairing/{session}"), None),
        ("POST", "/v1/gateway/pairing/start".to_owned(), Some(json!({ "namespace": "acme" }))),
    ] {
        let answer = desk.control.as_owner(&mallory, method, &path, body.as_ref());
        assert!(matches!(answer.status, 403 | 404), "{method} {path}: {}", answer.text());
        let told = answer.text();
        assert!(!told.contains(&desk.alice.email) && !told.contains(&desk.acme.email), "{told}");
    }
    let lists = ["/v1/services", "/v1/gateway/pairing"].map(|path| desk.get(&mallory, path).text());
    for list in lists {
        assert!(!list.contains(service) && !list.contains(&session), "{list}");
    }
    // All of it stands as it was.
    assert_eq!(desk.page("")["claims"][0]["claim_id"], claim);
    assert_eq!(desk.get(&desk.acme, &webhooks).json()["webhooks"].as_array().unwrap().len(), 1);
}

#[test]
fn key_of_another_owner_opens_no_service_of_the_same_slug() {
    let desk = Desk::start();
    let mallory = desk.control.owner("mallory");
    let forged = desk.control.service(&mallory, "openai");
    let wide = desk.control.all_services_key(&mallory, &forged);
    desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let gateway = Agent::new("mallory");
    let page = |key: &str| -> Response {
        let target = "/v1/namespaces/claims?service=openai";
        desk.control.as_service(&gateway, key, "GET", target, None)
    };
    for key in [&forged.key, &wide.key] {
        assert_eq!(page(key).json()["pagination"]["total"], 0);
        let query = format!("namespace=alice&public_key={}&service=openai", encoded(desk.agent.public_key()));
        let verified = desk.control.as_service(&gateway, key, "GET", &format!("/v1/verify?{query}"), None);
        assert_eq!(verified.json()["authorized"], false, "{}", verified.text());
    }
}

fn encoded(key: impl AsRef<str>) -> String {
    url::form_urlencoded::byte_serialize(key.as_ref().as_bytes()).collect()
}

#[test]
fn one_owner_alone_does_not_get_around_the_second_approver_by_switching_it_off() {
    let desk = Desk::start();
    let bob = desk.control.owner_named("alice", "bob@example.com");
    settings(&desk, &desk.alice, &json!({ "requireSecondApprover": true }));
    let id = desk.control.submit(&desk.agent, &desk.openai);
    let off = json!({ "requireSecondApprover": false });
    for _ in 0..2 {
        let told = settings(&desk, &desk.alice, &off);
        assert_eq!(told["requireSecondApprover"], true, "{told}");
        assert_eq!(told["secondApproverWaivedBy"], "alice@example.com");
    }
    assert_eq!(desk.control.decide(&desk.alice, &id, "approve")["status"], "pending");
    // Whoever sends the wish of another in its own name is refused.
    let forged = json!({ "secondApproverWaivedBy": "bob@example.com" });
    refused(&desk.control.as_owner(&desk.alice, "PATCH", SETTINGS, Some(&forged)), 400, "FIELD_INVALID");
    // The other one may insist, or agree.
    assert!(
        settings(&desk, &bob, &json!({ "requireSecondApprover": true }))
            .get("secondApproverWaivedBy")
            .is_none()
    );
    assert_eq!(settings(&desk, &desk.alice, &off)["requireSecondApprover"], true);
    assert_eq!(settings(&desk, &bob, &off)["requireSecondApprover"], false);
}

#[test]
fn two_owners_who_change_the_policy_at_once_both_change_it() {
    let desk = Desk::start();
    let bob = desk.control.owner_named("alice", "bob@example.com");
    std::thread::scope(|scope| {
        let alices = scope.spawn(|| {
            for limit in 1..=40 {
                settings(&desk, &desk.alice, &json!({ "maxPendingLimit": limit }));
            }
        });
        for services in 1..=40 {
            settings(&desk, &bob, &json!({ "maxServices": services }));
        }
        alices.join().unwrap();
    });
    let now = desk.get(&desk.alice, "/v1/auth/me").json()["settings"].clone();
    assert_eq!((&now["maxPendingLimit"], &now["maxServices"]), (&json!(40), &json!(40)));
}

#[test]
fn token_of_an_owner_who_is_gone_opens_nothing() {
    let desk = Desk::start();
    assert_eq!(desk.control.as_owner(&desk.alice, "DELETE", "/v1/auth/account", None).status, 204);
    for path in ["/v1/auth/me", "/v1/services", "/v1/namespaces/alice/claims", "/v1/gateway/pairing"] {
        refused(&desk.get(&desk.alice, path), 401, "AUTH_TOKEN_INVALID");
    }
    // Nor does the name come back, to whoever would like to have what it had.
    let store = desk.control.store().clone();
    let again = desk.control.call(async move {
        store.add_owner(&"alice".parse().unwrap(), "m@example.com", UnixTime::from_secs(1_800_000_000)).await
    });
    assert!(again.is_err(), "{again:?}");
}

#[test]
fn one_owner_s_streams_leave_places_for_those_of_others() {
    let desk = Desk::over(Control::with(|config| {
        config.limits.streams = 3;
        config.limits.streams_per_owner = 2;
    }));
    let mallory = desk.control.owner("mallory");
    let (service, gateway) = (desk.control.service(&mallory, "anything"), Agent::new("mallory"));
    let _hoard = [(); 2].map(|()| desk.control.stream(&gateway, &service.key, "service=anything"));
    let target = "/v1/namespaces/claims/stream?service=anything";
    refused(&desk.control.as_service(&gateway, &service.key, "GET", target, None), 503, "OVERLOADED");
    let mut stream = desk.control.stream(&desk.gateway, &desk.openai.key, "service=openai");
    assert_eq!(stream.next().unwrap().name, "heartbeat");
}

#[test]
fn stream_of_a_revoked_key_ends_however_busy_the_feed_is() {
    let desk = Desk::start();
    let mut stream = desk.control.stream(&desk.gateway, &desk.openai.key, "service=openai");
    assert_eq!(stream.next().unwrap().name, "heartbeat");
    let (plane, stop) = (desk.control.plane().clone(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let stopped = stop.clone();
    let busy = async move {
        let key = *Agent::new("busy").identity().public_key();
        for turn in 0_u64.. {
            let (namespace, service) = ("busy".parse().unwrap(), "busy-service".parse().unwrap());
            let approved = turn.is_multiple_of(2);
            plane.store.seed_claim(&namespace, &service, &key, approved, plane.clock.now()).await.unwrap();
        }
    };
    let running = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            desk.control.call(async move {
                tokio::select! { () = busy => {} () = stopped.notified() => {} }
            });
        });
        let key = format!("/v1/services/{}/keys/{}", desk.openai.id, desk.openai.key_id);
        assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &key, None).status, 204);
        // Of the events that still come there are no more than of two heartbeats.
        let beats = std::iter::from_fn(|| stream.next()).take(4).count();
        stop.notify_one();
        busy.join().unwrap();
        beats
    });
    assert!(running < 4, "the stream went on for {running} heartbeats");
}
