//! What agents did is told to the control plane, in the background and once.

use std::collections::HashSet;

use serde_json::{Value, json};
use sigilum::clock::Clock;

use super::scene::CONNECTION;
use crate::control::server::{Behaviour, Server};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};

fn told(result: &str) -> String {
    format!("sigilum_gateway_usage_events_total{{result=\"{result}\"}}")
}

/// A gateway that wants nothing of its control plane but to tell it usage.
struct Town {
    server: Server,
    upstream: Upstream,
    gateway: Gateway,
    agent: Agent,
}

impl Town {
    fn start() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (server, agent) = (Server::start(&Clock::system()), Agent::new("alice"));
        let upstream = Upstream::answering(Reply::ok("hello"));
        let setup = Setup::new()
            .bearer(CONNECTION, &upstream.url(), "sk-canary-4711")
            .set("control_plane.url", server.url().to_string())
            .set("control_plane.service_api_key", server.key_source().to_string())
            .set("control_plane.claims", json!({ "source": "none" }))
            .set("control_plane.auto_register_claims", false)
            .set("control_plane.usage", true)
            .claim(&agent, &[CONNECTION]);
        let gateway = change(setup).start();
        Self { server, upstream, gateway, agent }
    }

    /// Sends one request, which must be answered.
    fn call(&self, path: &str) {
        let target = format!("/proxy/openai{path}");
        let answer = self.gateway.send(&self.agent.get(self.gateway.url(), &target));
        assert_eq!(answer.text(), "hello");
    }

    /// The events of all calls so far, in the order of their coming.
    fn events(&self) -> Vec<Value> {
        let calls = self.server.seen().into_iter().filter(|seen| seen.target == "/v1/usage/events");
        calls.flat_map(|seen| seen.body["events"].as_array().unwrap().clone()).collect()
    }

    fn wait_for_events(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} usage events"), || {
            Some(self.events()).filter(|events| events.len() >= count)
        })
    }
}

fn paths(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["request_path"].as_str().unwrap()).collect()
}

#[test]
fn allowed_request_is_told_with_all_that_the_contract_names_and_nothing_secret() {
    let town = Town::start();
    let draft = town.agent.request("POST", town.gateway.url(), "/proxy/openai/v1/chat?key=canary");
    let request = draft.subject("customer-12345").agent_id("support-bot").body("{}").sign();
    assert_eq!(town.gateway.send(&request).status, 200);
    let event = town.wait_for_events(1).remove(0);
    let id = event["event_id"].as_str().unwrap();
    assert!(id.strip_prefix("ue_").is_some_and(|rest| rest.len() == 32), "{id}");
    assert!(event["duration_ms"].is_u64());
    let mut rest = event.clone();
    for random in ["event_id", "duration_ms"] {
        rest.as_object_mut().unwrap().remove(random);
    }
    assert_eq!(
        rest,
        json!({
            "namespace": "alice", "service": "openai", "public_key": town.agent.public_key(),
            "subject": "customer-12345", "agent_id": "support-bot", "protocol": "http",
            "action": "proxy.request", "outcome": "success", "status_code": 200, "response_bytes": 5,
            "request_method": "POST", "request_path": "/v1/chat", "remote_ip": "127.0.0.1",
        })
    );
    let seen = town.server.seen().pop().unwrap();
    assert_eq!(seen.namespace.as_str(), "test-gateway", "the gateway signs, and not the agent");
    assert!(!seen.body.to_string().contains("canary"));
    town.gateway.wait_for_metric(&told("sent"), 1.0);
}

#[test]
fn client_behind_a_trusted_proxy_is_told_by_its_own_address() {
    let town = Town::with(|setup| setup.set("trusted_proxies", json!(["127.0.0.1"])));
    let request =
        town.agent.get(town.gateway.url(), "/proxy/openai/v1").also("x-forwarded-for", "203.0.113.9");
    assert_eq!(town.gateway.send(&request).status, 200);
    assert_eq!(town.wait_for_events(1)[0]["remote_ip"], "203.0.113.9");
}

#[test]
fn outcome_says_who_was_at_fault_and_refused_callers_are_not_told() {
    let town = Town::start();
    let stranger = Agent::new("mallory");
    assert_eq!(town.gateway.send(&stranger.get(town.gateway.url(), "/proxy/openai/stranger")).status, 403);
    let spoiled = town.agent.post(town.gateway.url(), "/proxy/openai/spoiled", "{}").body_swapped("[]");
    assert_eq!(town.gateway.send(&spoiled).status, 403);
    let upstream = town.upstream.address();
    drop(town.upstream);
    let failed = town.gateway.send(&town.agent.get(town.gateway.url(), "/proxy/openai/failed"));
    assert_eq!(failed.code(), "UPSTREAM_ERROR", "nobody listens at {upstream} any more");
    let events = eventually("two usage events", || {
        let calls = town.server.seen().into_iter();
        let events: Vec<Value> =
            calls.flat_map(|seen| seen.body["events"].as_array().unwrap().clone()).collect();
        Some(events).filter(|events| events.len() >= 2)
    });
    let mut told: Vec<_> = events
        .iter()
        .map(|event| (event["request_path"].clone(), event["outcome"].clone(), event["status_code"].clone()))
        .collect();
    // They came on connections of their own, so that either may have been over first.
    told.sort_by_key(|(path, ..)| path.to_string());
    assert_eq!(
        told,
        [(json!("/failed"), json!("error"), json!(502)), (json!("/spoiled"), json!("rejected"), json!(403))]
    );
}

#[test]
fn requests_are_served_while_the_control_plane_hangs_and_told_in_their_order_when_it_answers() {
    let town = Town::start();
    town.server.behave(Behaviour::Hold);
    let expected: Vec<String> = (0..40).map(|n| format!("/{n}")).collect();
    // On one connection each request is over before the next one is read.
    let mut client = town.gateway.connect();
    let mut call = |path: &str| {
        let target = format!("/proxy/openai{path}");
        client.send(town.agent.get(town.gateway.url(), &target).to_bytes());
        assert_eq!(client.response().text(), "hello");
    };
    call("/0");
    eventually("a call that is held", || (!town.events().is_empty()).then_some(()));
    expected.iter().skip(1).for_each(|path| call(path));
    assert_eq!(town.gateway.metric(&told("sent")), Some(0.0));
    town.server.behave(Behaviour::Serve);
    town.server.release();
    town.gateway.wait_for_metric(&told("sent"), 40.0);
    assert_eq!(paths(&town.events()), expected);
    assert_eq!(town.gateway.metric(&told("dropped")), Some(0.0));
}

#[test]
fn batch_that_failed_is_told_again_with_the_same_ids() {
    let town = Town::start();
    town.server.behave(Behaviour::Refuse(503));
    town.call("/once");
    town.wait_for_events(1);
    town.server.behave(Behaviour::Serve);
    town.gateway.wait_for_metric(&told("sent"), 1.0);
    let events = town.events();
    assert!(events.len() >= 2, "told once and once more");
    let ids: HashSet<_> = events.iter().map(|event| event["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn refused_batch_is_dropped_and_counted_and_said_once() {
    let town = Town::start();
    town.server.behave(Behaviour::Refuse(403));
    town.call("/1");
    town.gateway.wait_for_metric(&told("refused"), 1.0);
    town.call("/2");
    town.gateway.wait_for_metric(&told("refused"), 2.0);
    assert_eq!(
        town.gateway.output().matches("usage cannot be told to the control plane; it is dropped").count(),
        1
    );
    town.server.behave(Behaviour::Serve);
    town.call("/3");
    town.gateway.wait_for_metric(&told("sent"), 1.0);
    assert_eq!(paths(&town.events()), ["/1", "/2", "/3"]);
}

#[test]
fn events_of_services_with_keys_of_their_own_are_told_apart() {
    let other = Upstream::answering(Reply::ok("hello"));
    let town = Town::with(|setup| {
        setup
            .bearer("slack", &other.url(), "s")
            .claim(&Agent::new("nobody"), &["slack"])
            .env("SIGILUM_SERVICE_API_KEY_SLACK", "sk_live_slack")
    });
    town.call("/of-openai");
    let event = town.wait_for_events(1).remove(0);
    assert_eq!(event["service"], "openai");
    // The stand-in takes one key only, so this proves which one was sent.
    let seen = town.server.seen().pop().unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer sk_live_first");
}

#[test]
fn service_that_is_refused_takes_no_other_s_events_with_it() {
    let other = Upstream::answering(Reply::ok("hello"));
    let robert = Agent::new("robert");
    let town = Town::with(|setup| setup.bearer("slack", &other.url(), "s").claim(&robert, &["slack"]));
    town.server.behave(Behaviour::Only(CONNECTION));
    town.call("/1");
    let target = "/proxy/slack/2";
    assert_eq!(town.gateway.send(&robert.get(town.gateway.url(), target)).text(), "hello");
    town.call("/3");
    town.gateway.wait_for_metric(&told("sent"), 2.0);
    town.gateway.wait_for_metric(&told("refused"), 1.0);
    assert_eq!(town.gateway.send(&robert.get(town.gateway.url(), target)).text(), "hello");
    town.call("/4");
    town.gateway.wait_for_metric(&told("sent"), 3.0);
    town.gateway.wait_for_metric(&told("refused"), 2.0);
    let said = |what: &str| town.gateway.output().matches(what).count();
    assert_eq!(said("usage cannot be told to the control plane; it is dropped"), 1, "of slack, once");
    assert_eq!(said("usage again"), 0);
    town.server.behave(Behaviour::Serve);
    assert_eq!(town.gateway.send(&robert.get(town.gateway.url(), target)).text(), "hello");
    town.gateway.wait_for_metric(&told("sent"), 4.0);
    eventually("a word of it", || (said("takes a service's usage again") == 1).then_some(()));
}

#[test]
fn event_of_a_connection_that_can_be_no_service_is_not_sent() {
    let other = Upstream::answering(Reply::ok("hello"));
    let robert = Agent::new("robert");
    let town = Town::with(|setup| setup.bearer("ai", &other.url(), "s").claim(&robert, &["ai"]));
    assert_eq!(town.gateway.send(&robert.get(town.gateway.url(), "/proxy/ai/1")).text(), "hello");
    town.call("/2");
    town.gateway.wait_for_metric(&told("sent"), 1.0);
    assert_eq!(paths(&town.events()), ["/2"]);
    assert_eq!(town.gateway.metric(&told("dropped")), Some(1.0));
}

#[test]
fn what_is_left_at_the_stop_is_told_before_the_process_ends() {
    let town = Town::start();
    town.call("/last");
    let (status, output) = town.gateway.stop();
    assert!(status.success(), "{output}");
    let calls = town.server.seen().into_iter();
    let events: Vec<Value> = calls.flat_map(|seen| seen.body["events"].as_array().unwrap().clone()).collect();
    assert_eq!(paths(&events), ["/last"]);
}

#[test]
fn stop_does_not_wait_for_a_control_plane_that_hangs() {
    let town = Town::start();
    town.server.behave(Behaviour::Hold);
    town.call("/lost");
    let (status, output) = town.gateway.stop();
    assert!(status.success(), "{output}");
    assert!(output.contains("usage was not told to the control plane before the end"), "{output}");
}

#[test]
fn nothing_is_told_when_it_is_switched_off() {
    let town = Town::with(|setup| {
        // The first claims show that the control plane is asked for something at all.
        setup
            .set("control_plane.claims", json!({ "source": "poll", "refresh": "1s" }))
            .env("GATEWAY_USAGE_EVENTS", "false")
    });
    town.call("/1");
    let Town { server, gateway, .. } = town;
    let (status, _) = gateway.stop();
    assert!(status.success());
    assert!(!server.seen().is_empty());
    assert!(server.seen().iter().all(|seen| seen.target != "/v1/usage/events"));
}
