//! Row 11: a signature works once, its nonce counts within its namespace, and only a request that is let through uses it.

use serde_json::json;

use super::scene::{CONNECTION, Scene, assert_refused};
use crate::support::agent::Agent;
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

const TARGET: &str = "/proxy/openai/v1/chat?a=b";

#[test]
fn signature_works_once() {
    let scene = Scene::start();
    let request = scene.draft(TARGET).sign();
    assert_eq!(scene.gateway.send(&request).status, 200);
    for _ in 0..3 {
        assert_refused("again", &scene.gateway.send(&request), 403, "AUTH_REPLAY_DETECTED", "");
    }
    let nonce = "one-nonce-for-two";
    assert_eq!(scene.gateway.send(&scene.draft(TARGET).nonce(nonce).sign()).status, 200);
    let second = scene.draft("/proxy/openai/another").nonce(nonce).sign();
    assert_refused("another request", &scene.gateway.send(&second), 403, "AUTH_REPLAY_DETECTED", "");
    assert_eq!(scene.upstream.wait_for(2).len(), 2);
}

#[test]
fn same_nonce_of_another_namespace_is_another_nonce() {
    let (upstream, nonce) = (Upstream::answering(Reply::ok("")), "shared-nonce-0001");
    let (alice, bob) = (Agent::new("alice"), Agent::new("bob-1"));
    let gateway = Setup::new()
        .bearer(CONNECTION, &upstream.url(), "s")
        .claim(&alice, &[CONNECTION])
        .claim(&bob, &[CONNECTION])
        .start();
    for agent in [&alice, &bob] {
        let request = agent.request("GET", gateway.url(), TARGET).nonce(nonce).sign();
        assert_eq!(gateway.send(&request).status, 200);
        assert_refused("again", &gateway.send(&request), 403, "AUTH_REPLAY_DETECTED", "");
    }
}

#[test]
fn forged_signature_leaves_nonce_unused() {
    let scene = Scene::start();
    let request = scene.draft(TARGET).sign();
    let forged = request.clone().resigned(&Agent::new("mallory"), str::to_owned);
    assert_refused(
        "forged",
        &scene.gateway.send(&forged),
        403,
        "AUTH_SIGNATURE_INVALID",
        "SIG_VERIFICATION_FAILED",
    );
    assert_eq!(scene.gateway.send(&request).status, 200);
}

#[test]
fn request_outside_its_scope_leaves_nonce_unused() {
    let agent = Agent::new("alice");
    let mut claim = agent.claim(&[CONNECTION]);
    claim["scopes"] = json!(["GET /allowed"]);
    let upstream = Upstream::answering(Reply::ok(""));
    let gateway = Setup::new().bearer(CONNECTION, &upstream.url(), "s").claim_entry(claim).start();
    let nonce = "nonce-of-two-requests";
    let outside = agent.request("GET", gateway.url(), "/proxy/openai/other").nonce(nonce).sign();
    assert_refused("outside", &gateway.send(&outside), 403, "AUTH_SCOPE_DENIED", "");
    let inside = agent.request("GET", gateway.url(), "/proxy/openai/allowed").nonce(nonce).sign();
    assert_eq!(gateway.send(&inside).status, 200);
}

#[test]
fn signature_made_before_the_gateway_began_is_refused() {
    let scene = Scene::start();
    let early = scene.draft(TARGET).created_in(-20).sign();
    assert_refused("early", &scene.gateway.send(&early), 403, "AUTH_REPLAY_DETECTED", "");
    scene.upstream.assert_zero_bytes();
    assert_eq!(scene.get(TARGET).status, 200);
}

#[test]
fn refusal_keeps_the_connection_for_the_next_request() {
    let scene = Scene::start();
    let mut client = scene.gateway.connect();
    client.send(scene.draft(TARGET).sign().without("signature").to_bytes());
    assert_eq!(client.response().status, 403);
    client.send(scene.draft(TARGET).sign().to_bytes());
    assert_eq!(client.response().status, 200);
}
