//! The way out: what runs is finished, nothing new is taken, nothing is waited for without need.

use std::net::TcpStream;

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::upstream::{Reply, StreamHand, Upstream};

fn streaming(drain: &str) -> (StreamHand, Upstream, Agent, Gateway) {
    let (hand, reply) = Reply::streamed("text/event-stream");
    let (upstream, agent) = (Upstream::answering(reply), Agent::new("alice"));
    let provider = json!({ "id": "up", "base_url": upstream.url(), "auth": { "mode": "none" } });
    let setup = Setup::new().provider(provider).claim(&agent, &["up"]).set("shutdown.drain", drain);
    (hand, upstream, agent, setup.start())
}

/// Waits until the gateway takes no connection any more.
fn wait_until_closed(gateway: &Gateway) {
    let address = gateway.address();
    eventually("the listener to close", || TcpStream::connect(address).is_err().then_some(()));
}

#[test]
fn running_request_is_finished_and_no_new_one_is_taken() {
    let (hand, _upstream, agent, mut gateway) = streaming("20s");
    let mut client = gateway.connect();
    client.send(agent.get(gateway.url(), "/proxy/up/").to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    hand.send("before");
    assert_eq!(client.chunk().unwrap(), b"before");
    gateway.signal("TERM");
    wait_until_closed(&gateway);
    hand.send("after");
    assert_eq!(client.chunk().unwrap(), b"after");
    hand.finish();
    assert_eq!(client.chunk(), Some(Vec::new()));
    client.assert_closed();
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(gateway.decisions().len(), 1, "{}", gateway.output());
}

#[test]
fn running_h2_stream_is_finished() {
    let (hand, _upstream, agent, mut gateway) = streaming("20s");
    let client = H2Client::connect(gateway.address());
    let exchange = client.begin(agent.get(gateway.url(), "/proxy/up/").to_h2(), true).unwrap();
    let mut answer = exchange.streamed().unwrap();
    hand.send("before");
    assert_eq!(answer.part().unwrap(), Some(b"before".to_vec()));
    gateway.signal("TERM");
    wait_until_closed(&gateway);
    hand.send("after");
    assert_eq!(answer.part().unwrap(), Some(b"after".to_vec()));
    hand.finish();
    assert_eq!(answer.part().unwrap(), None);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn idle_connections_are_not_waited_for() {
    // A drain longer than the test's patience: whoever waits for it fails.
    let (_hand, _upstream, _agent, mut gateway) = streaming("10m");
    let mut idle = gateway.connect();
    let mut kept = gateway.connect();
    kept.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    let h2 = H2Client::connect(gateway.address());
    let health = http::Request::get(format!("{}/health", gateway.url())).body(()).unwrap();
    assert_eq!(h2.request(health, None).unwrap().status, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    idle.assert_closed();
    kept.assert_closed();
}

#[test]
fn request_that_outlasts_the_drain_is_cut() {
    let (hand, _upstream, agent, mut gateway) = streaming("300ms");
    let mut client = gateway.connect();
    client.send(agent.get(gateway.url(), "/proxy/up/").to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    hand.send("half");
    assert_eq!(client.chunk().unwrap(), b"half");
    gateway.signal("TERM");
    assert_eq!(client.chunk(), None);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn tunnel_that_outlasts_the_drain_is_cut() {
    let (upstream, agent) = (Upstream::answering(Reply::Upgrade), Agent::new("alice"));
    let provider = json!({ "id": "up", "base_url": upstream.url(), "auth": { "mode": "none" } });
    let setup = Setup::new().provider(provider).claim(&agent, &["up"]).set("shutdown.drain", "300ms");
    let mut gateway = setup.start();
    let mut client = gateway.connect();
    let draft = agent.request("GET", gateway.url(), "/proxy/up/");
    client.send(draft.header("connection", "Upgrade").header("upgrade", "websocket").sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 101);
    client.send("open");
    assert_eq!(client.exactly(4), b"open");
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    client.assert_closed();
}

#[test]
fn request_begun_on_a_kept_connection_before_the_signal_is_served_to_its_end() {
    let (hand, upstream, agent, mut gateway) = streaming("20s");
    let mut client = gateway.connect();
    let request = agent.post(gateway.url(), "/proxy/up/", "whole");
    client.send(request.head("content-length: 5\r\n"));
    client.send("wh");
    eventually("the request to be under way", || {
        (gateway.metric("sigilum_gateway_requests_in_flight") == Some(1.0)).then_some(())
    });
    gateway.signal("TERM");
    wait_until_closed(&gateway);
    client.send("ole");
    assert_eq!(client.head().unwrap().status, 200);
    hand.finish();
    assert_eq!(client.chunk(), Some(Vec::new()));
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(upstream.requests()[0].body, b"whole");
}

#[test]
fn second_signal_or_interrupt_ends_it_as_well() {
    let (_hand, _upstream, _agent, mut gateway) = streaming("10m");
    gateway.signal("INT");
    assert_eq!(gateway.wait().code(), Some(0));
}
