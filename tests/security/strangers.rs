//! One agent cannot use what is another's, whatever it makes of headers that it has seen.

use super::stage::{SECRET, Stage};
use crate::support::agent::{Agent, Signed};
use crate::support::gateway::Setup;

const NAMES: [&str; 8] = [
    "sigilum-namespace",
    "sigilum-subject",
    "sigilum-agent-id",
    "sigilum-agent-key",
    "sigilum-agent-cert",
    "content-digest",
    "signature-input",
    "signature",
];

/// A stage with a second agent, approved for the same connection.
fn two() -> (Stage, Agent) {
    let bob = Agent::new("bob");
    (Stage::with(|setup| setup.claim(&bob, &["echo"])), bob)
}

fn signed(agent: &Agent, stage: &Stage, body: &str) -> Signed {
    agent
        .request("POST", stage.gateway.url(), "/proxy/echo/mixed")
        .subject(agent.namespace())
        .agent_id(body)
        .body(body)
        .sign()
}

#[test]
fn no_mixture_of_two_agents_headers_passes() {
    let (stage, bob) = two();
    let of_alice = signed(&stage.agent, &stage, "alice's");
    let of_bob = signed(&bob, &stage, "bob's own");
    let everything = 1 << NAMES.len();
    // Each bit says whose header it is. All of one agent's would be no mixture.
    for mixture in 1..everything - 1 {
        let mut mixed = of_alice.clone();
        for (bit, name) in NAMES.iter().enumerate() {
            if mixture & (1 << bit) != 0 {
                mixed = mixed.replace(name, of_bob.header(name));
            }
        }
        let answer = stage.gateway.send(&mixed);
        assert_eq!(answer.status, 403, "{mixture:08b}: {}", answer.text());
        assert!(answer.code().starts_with("AUTH_"), "{mixture:08b}: {}", answer.text());
    }
    stage.upstream.assert_zero_bytes();
    // Nothing of that used up a nonce.
    assert_eq!(stage.gateway.send(&of_alice).status, 200);
    assert_eq!(stage.gateway.send(&of_bob).status, 200);
    assert_eq!(stage.gateway.send(&of_bob).code(), "AUTH_REPLAY_DETECTED");
}

#[test]
fn claim_of_another_agent_opens_nothing() {
    let (upstream_only, eve) = (Stage::new(), Agent::new("eve"));
    // Eve takes alice's name with a key of her own, and has a certificate made for it.
    let impostor = Agent::new("alice");
    for stranger in [&eve, &impostor] {
        let refused = upstream_only.gateway.send(&stranger.get(upstream_only.gateway.url(), "/proxy/echo/x"));
        assert_eq!((refused.status, refused.code().as_str()), (403, "AUTH_CLAIM_REQUIRED"));
        assert!(!refused.text().contains(SECRET));
    }
    upstream_only.upstream.assert_zero_bytes();
}

#[test]
fn connection_of_another_agent_stays_closed() {
    let bob = Agent::new("bob");
    let stage = Stage::with(|setup: Setup| {
        setup.bearer("private", "http://127.0.0.1:9", "of-bob-4711").claim(&bob, &["private"])
    });
    let url = stage.gateway.url();
    for (agent, path) in [(&stage.agent, "/proxy/private/x"), (&bob, "/proxy/echo/x")] {
        let refused = stage.gateway.send(&agent.get(url, path));
        assert_eq!((refused.status, refused.code().as_str()), (403, "AUTH_CLAIM_REQUIRED"), "{path}");
    }
    // What was signed for one connection is nothing for the other.
    let moved = bob.get(url, "/proxy/private/x").target_swapped("/proxy/echo/x");
    assert_eq!(stage.gateway.send(&moved).reason(), "SIG_VERIFICATION_FAILED");
    stage.upstream.assert_zero_bytes();
}

#[test]
fn nonces_of_two_agents_do_not_meet() {
    let (stage, bob) = two();
    for agent in [&stage.agent, &bob] {
        let request =
            agent.request("GET", stage.gateway.url(), "/proxy/echo/same").nonce("the-same-nonce").sign();
        assert_eq!(stage.gateway.send(&request).status, 200);
        assert_eq!(stage.gateway.send(&request).code(), "AUTH_REPLAY_DETECTED");
    }
}

#[test]
fn connection_header_takes_nothing_of_the_gateway_s_own_away() {
    let stage = Stage::new();
    for (named, status) in [
        ("authorization", 200),
        ("close, Authorization", 200),
        ("sigilum-subject", 200),
        ("host", 400),
        ("content-length", 200),
    ] {
        let request = stage.agent.post(stage.gateway.url(), "/proxy/echo/named", "abc");
        let answer = stage.gateway.send(&request.also("connection", named));
        assert_eq!(answer.status, status, "{named}: {}", answer.text());
    }
    for request in stage.forwarded() {
        assert_eq!(request.all("authorization"), [format!("Bearer {SECRET}")], "{request:?}");
        assert_eq!((request.all("host").len(), request.body.as_slice()), (1, &b"abc"[..]), "{request:?}");
        // An upstream that obeyed it would drop the secret.
        assert!(request.all("connection").iter().all(|value| !value.contains("uthorization")), "{request:?}");
    }
}
