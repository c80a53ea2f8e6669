//! More than the gateway takes: further ones are told so at once, and places come back.

use crate::security::stage::Stage;
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Reply, Upstream};

fn assert_overloaded(answer: &Response) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.header("x-request-id").is_some());
}

#[test]
fn connection_too_many_is_told_so_and_places_come_back() {
    let stage = Stage::with(|setup| setup.set("limits.connections", 3));
    let mut held: Vec<RawClient> = (0..3).map(|_| stage.connect()).collect();
    for client in &mut held {
        client.send(stage.get("/held").to_bytes());
        assert_eq!(client.response().status, 200);
    }
    for _ in 0..5 {
        let mut late = stage.connect();
        let answer = late.response();
        assert_overloaded(&answer);
        assert_eq!(answer.header("connection"), Some("close"));
        late.assert_closed();
    }
    // Those that have a place keep it.
    held[0].send(stage.get("/again").to_bytes());
    assert_eq!(held[0].response().status, 200);
    held.pop();
    eventually("a place", || {
        let mut client = stage.connect();
        client.send(stage.get("/late").to_bytes());
        client.try_response().filter(|answer| answer.status == 200)
    });
    let counted = r#"sigilum_gateway_requests_total{outcome="rejected",protocol="http"}"#;
    assert!(stage.gateway.metric(counted).unwrap() >= 5.0);
}

#[test]
fn request_too_many_is_told_so_and_places_come_back() {
    let (hand, reply) = Reply::streamed("text/plain");
    let reply = std::sync::Mutex::new(reply);
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/slow" => reply.lock().unwrap().clone(),
        _ => Reply::ok("fine"),
    });
    let agent = Agent::new("alice");
    let gateway = Setup::new()
        .set("limits.requests_in_flight", 1)
        .bearer("echo", &upstream.url(), "secret")
        .claim(&agent, &["echo"])
        .start();
    let get = |path: &str| agent.get(gateway.url(), &format!("/proxy/echo{path}")).to_bytes();
    let mut running = gateway.connect();
    running.send(get("/slow"));
    assert_eq!(running.head().unwrap().status, 200);
    let mut second = gateway.connect();
    second.send(get("/too-many"));
    assert_overloaded(&second.response());
    hand.finish();
    assert_eq!(running.chunk(), Some(Vec::new()));
    // On the same connection: to be told to come later is no reason to hang up.
    eventually("a place", || {
        second.send(get("/later"));
        Some(second.response()).filter(|answer| answer.status == 200)
    });
    assert!(upstream.requests().iter().all(|request| request.target != "/too-many"));
}

#[test]
fn gateway_out_of_descriptors_serves_again_when_they_come_back() {
    let stage = Stage::with(|setup| setup.descriptors(64).set("limits.threads", 2));
    let mut flood: Vec<RawClient> = (0..200).map(|_| stage.connect()).collect();
    // Some of them were accepted, and those speak; nobody needs an answer now.
    for client in &mut flood {
        client.send(stage.get("/flood").to_bytes());
    }
    drop(flood);
    eventually("an answer after the flood", || {
        let mut client = stage.connect();
        client.send(stage.get("/after").to_bytes());
        client.try_response().filter(|answer| answer.status == 200)
    });
    stage.assert_sound();
}

#[test]
fn flood_of_connections_leaves_descriptors_for_upstreams_and_for_the_operator() {
    let stage = Stage::with(|setup| setup.descriptors(64).set("limits.threads", 2));
    let mut flood: Vec<RawClient> = (0..200).map(|_| stage.connect()).collect();
    assert_overloaded(&flood.last_mut().unwrap().response());
    // The first of them have places, and all of these can be served at once.
    for client in &mut flood[..3] {
        client.send(stage.get("/in-the-flood").to_bytes());
    }
    for client in &mut flood[..3] {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(stage.gateway.admin_get("/health").status, 200);
    let output = stage.gateway.output();
    assert!(output.contains("limit of open files is too low"), "{output}");
}
