//! What is beyond a limit is refused at once, and room that is given back is room again.

use serde_json::json;

use super::scene::{CONNECTION, SECRET, Scene, assert_refused, seconds};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::raw::RawClient;
use crate::support::upstream::{Reply, StreamHand, Upstream};

const TARGET: &str = "/proxy/openai/";

/// A connection with these limits, whose first answer hangs on the hand and whose others are plain.
fn limited(limits: serde_json::Value, change: impl FnOnce(Setup) -> Setup) -> (Scene, StreamHand) {
    let (hand, streamed) = Reply::streamed("text/plain");
    let upstream = Upstream::start(
        move |request| if request.target == "/held" { streamed.clone() } else { Reply::ok("") },
    );
    let scene = Scene::before(upstream, |setup, url| {
        let auth = json!({ "mode": "bearer", "secret": "env:TEST_SECRET" });
        let provider = json!({ "id": CONNECTION, "base_url": url, "auth": auth, "limits": limits });
        change(setup.provider(provider).env("TEST_SECRET", SECRET))
    });
    (scene, hand)
}

/// A request whose answer has begun and does not end.
fn held(scene: &Scene) -> RawClient {
    let mut client = scene.gateway.connect();
    client.send(scene.draft("/proxy/openai/held").sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    client
}

#[test]
fn rate_of_a_connection_is_kept() {
    let (scene, _hand) = limited(json!({ "requests_per_second": 1 }), |setup| setup);
    let refused = eventually("the limit", || Some(scene.get(TARGET)).filter(|answer| answer.status != 200));
    assert_refused("rate", &refused, 429, "RATE_LIMITED", "");
    assert!(seconds(&refused) >= 1);
    eventually("the next second", || (scene.get(TARGET).status == 200).then_some(()));
}

#[test]
fn refused_by_rate_leaves_the_nonce_for_the_retry() {
    let (scene, _hand) = limited(json!({ "requests_per_second": 1 }), |setup| setup);
    let request = eventually("the limit", || {
        let request = scene.draft(TARGET).sign();
        (scene.gateway.send(&request).status == 429).then_some(request)
    });
    let answer = eventually("room", || Some(scene.gateway.send(&request)).filter(|a| a.status != 429));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn requests_at_once_on_a_connection_are_bounded_and_room_comes_back() {
    let (scene, hand) = limited(json!({ "concurrent": 1 }), |setup| setup);
    let mut first = held(&scene);
    for _ in 0..2 {
        assert_refused("full", &scene.get(TARGET), 503, "OVERLOADED", "");
    }
    let before = scene.upstream.requests().len();
    hand.finish();
    assert_eq!(first.chunk(), Some(Vec::new()));
    eventually("room", || (scene.get(TARGET).status == 200).then_some(()));
    assert_eq!(before, 1);
}

#[test]
fn room_comes_back_when_the_client_leaves() {
    let (scene, _hand) = limited(json!({ "concurrent": 1 }), |setup| setup);
    let first = held(&scene);
    assert_refused("full", &scene.get(TARGET), 503, "OVERLOADED", "");
    drop(first);
    eventually("room", || (scene.get(TARGET).status == 200).then_some(()));
}

#[test]
fn one_namespace_cannot_take_the_room_of_another() {
    let bob = Agent::new("bob-1");
    let claim = bob.claim(&[CONNECTION]);
    let (scene, hand) = limited(json!({}), |setup| {
        setup.set("limits.per_namespace", json!({ "concurrent": 1 })).claim_entry(claim)
    });
    let _first = held(&scene);
    assert_refused("alice", &scene.get(TARGET), 503, "OVERLOADED", "");
    // One after the other: the place of a request that was answered is free for the next.
    for _ in 0..40 {
        assert_eq!(scene.gateway.send(&bob.get(scene.gateway.url(), TARGET)).status, 200);
    }
    hand.finish();
    eventually("room", || (scene.get(TARGET).status == 200).then_some(()));
}

#[test]
fn rate_of_a_namespace_is_its_own() {
    let bob = Agent::new("bob-1");
    let claim = bob.claim(&[CONNECTION]);
    let (scene, _hand) = limited(json!({}), |setup| {
        setup.set("limits.per_namespace", json!({ "requests_per_second": 1 })).claim_entry(claim)
    });
    let refused = eventually("the limit", || Some(scene.get(TARGET)).filter(|answer| answer.status != 200));
    assert_refused("alice", &refused, 429, "RATE_LIMITED", "");
    assert_eq!(scene.gateway.send(&bob.get(scene.gateway.url(), TARGET)).status, 200);
}

#[test]
fn requests_in_flight_are_bounded_for_the_whole_gateway() {
    let (scene, hand) = limited(json!({}), |setup| setup.set("limits.requests_in_flight", 1));
    let _first = held(&scene);
    assert_refused("full", &scene.get(TARGET), 503, "OVERLOADED", "");
    assert_eq!(scene.gateway.metric("sigilum_gateway_requests_in_flight"), Some(1.0));
    hand.finish();
    eventually("room", || (scene.get(TARGET).status == 200).then_some(()));
    scene.gateway.wait_for_metric("sigilum_gateway_requests_in_flight", 0.0);
}

#[test]
fn liveness_is_told_while_the_gateway_is_full() {
    let (scene, _hand) = limited(json!({}), |setup| setup.set("limits.requests_in_flight", 1));
    let _first = held(&scene);
    assert_refused("full", &scene.get(TARGET), 503, "OVERLOADED", "");
    for path in ["/health", "/health/live", "/health/ready"] {
        let mut client = scene.gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert_eq!(client.response().status, 200, "{path}");
    }
}

#[test]
fn full_replay_store_refuses_and_lets_no_replay_through() {
    let (scene, _hand) = limited(json!({}), |setup| setup.set("replay.capacity", 2));
    let first = scene.draft(TARGET).sign();
    assert_eq!(scene.gateway.send(&first).status, 200);
    assert_eq!(scene.get(TARGET).status, 200);
    assert_refused("full", &scene.get(TARGET), 503, "OVERLOADED", "");
    assert_refused("seen", &scene.gateway.send(&first), 403, "AUTH_REPLAY_DETECTED", "");
    assert_eq!(scene.upstream.requests().len(), 2);
}

#[test]
fn strangers_take_no_room_of_a_connection() {
    let (scene, _hand) = limited(json!({ "requests_per_second": 1, "concurrent": 1 }), |setup| setup);
    let stranger = Agent::new("mallory");
    for _ in 0..5 {
        let refused = scene.gateway.send(&stranger.get(scene.gateway.url(), TARGET));
        assert_refused("stranger", &refused, 403, "AUTH_CLAIM_REQUIRED", "");
    }
    assert_eq!(scene.get(TARGET).status, 200);
}
