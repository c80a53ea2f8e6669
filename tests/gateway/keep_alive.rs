//! Kept connections on both sides: reused where that is safe, never shared, never poisoned, never trusted when stale.

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::gateway::Setup;
use crate::support::h2_client::H2Client;
use crate::support::upstream::{Reply, Upstream};

/// A body that tells which request it belongs to.
fn body(at: usize, size: usize) -> Vec<u8> {
    (0..size).map(|byte| ((byte + at * 31) % 251) as u8).collect()
}

#[test]
fn requests_in_a_row_share_one_connection_to_the_upstream() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
    let gateway = Setup::new().set("limits.threads", 1).bearer("up", &upstream.url(), "canary");
    let gateway = gateway.claim(&agent, &["up"]).start();
    let mut client = gateway.connect();
    for at in 0..20 {
        let request = match at % 4 {
            0 => agent.get(gateway.url(), "/proxy/up/").to_bytes(),
            1 => agent.post(gateway.url(), "/proxy/up/", "{}").to_bytes(),
            2 => agent.post(gateway.url(), "/proxy/up/", "[1,2]").to_chunked_bytes(2),
            _ => agent.request("POST", gateway.url(), "/proxy/up/").body(body(at, 100_000)).sign().to_bytes(),
        };
        client.send(request);
        assert_eq!(client.response().status, 200, "request {at}");
    }
    assert_eq!(upstream.wait_for(20).len(), 20);
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn connections_to_one_address_are_not_shared_between_providers() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
    let gateway = Setup::new()
        .set("limits.threads", 1)
        .bearer("one", &upstream.url(), "canary-one")
        .bearer("two", &upstream.url(), "canary-two")
        .claim(&agent, &["one", "two"])
        .start();
    let mut client = gateway.connect();
    for id in ["one", "two", "one", "two", "two", "one"] {
        client.send(agent.get(gateway.url(), &format!("/proxy/{id}/")).to_bytes());
        assert_eq!(client.response().status, 200);
    }
    let requests = upstream.wait_for(6);
    for first in &requests {
        for second in &requests {
            let same_secret = first.header("authorization") == second.header("authorization");
            assert_eq!(first.connection == second.connection, same_secret);
        }
    }
}

#[test]
fn pipelined_requests_are_each_checked_and_answered_in_order() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let good = |target: &str| agent.post(gateway.url(), target, "{}");
    let mut bytes = good("/proxy/up/1").to_bytes();
    bytes.extend(agent.get(gateway.url(), "/proxy/up/2").to_bytes());
    bytes.extend(agent.get(gateway.url(), "/proxy/up/3").target_swapped("/proxy/up/forged").to_bytes());
    bytes.extend(good("/proxy/up/4").to_bytes());
    let mut client = gateway.connect();
    client.send(bytes);
    let answers: Vec<_> = (0..4).map(|_| client.response()).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 403, 200]);
    assert_eq!(
        (answers[0].text(), answers[1].text(), answers[3].text()),
        ("/1".into(), "/2".into(), "/4".into())
    );
    let targets: Vec<_> = upstream.wait_for(3).into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/1", "/2", "/4"]);
}

#[test]
fn connection_ends_with_a_refusal_whose_body_was_not_read() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let mut bytes =
        agent.post(gateway.url(), "/proxy/up/1", "{}").target_swapped("/proxy/up/forged").to_bytes();
    bytes.extend(agent.get(gateway.url(), "/proxy/up/2").to_bytes());
    let mut client = gateway.connect();
    client.send(bytes);
    let answer = client.response();
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    client.assert_closed();
    upstream.assert_zero_bytes();
}

#[test]
fn request_pipelined_behind_chunks_is_checked_or_never_served() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target));
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let mut bytes = agent.post(gateway.url(), "/proxy/up/1", "{}").to_chunked_bytes(1);
    bytes.extend(agent.get(gateway.url(), "/proxy/up/2").target_swapped("/proxy/up/forged").to_bytes());
    let mut client = gateway.connect();
    client.send(bytes);
    assert_eq!(client.response().text(), "/1");
    let second = client.try_response();
    assert!(second.as_ref().is_none_or(|answer| answer.status == 403), "{second:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn client_s_connection_goes_on_after_a_refusal() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let mut client = gateway.connect();
    client.send(agent.get(gateway.url(), "/proxy/up/").without("signature").to_bytes());
    assert_eq!(client.response().status, 403);
    client.send(agent.post(gateway.url(), "/proxy/up/", "{}").body_swapped("[]").to_bytes());
    assert_eq!(client.response().reason(), "SIG_CONTENT_DIGEST_MISMATCH");
    client.send(agent.get(gateway.url(), "/proxy/up/").to_bytes());
    assert_eq!(client.response().status, 200);
}

/// What HTTP/2 clients may do at a body's end: the last data with the end, or the end in an empty frame of its own.
#[test]
fn chunks_made_of_h2_bodies_leave_the_kept_connection_clean() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
    let gateway = Setup::new()
        .set("limits.threads", 1)
        .set("limits.body.window", "4KiB")
        .bearer("up", &upstream.url(), "canary")
        .claim(&agent, &["up"])
        .start();
    let client = H2Client::connect(gateway.address());
    let mut sent = Vec::new();
    for size in [0, 1, 4_095, 4_096, 4_097, 70_000] {
        for end_apart in [false, true] {
            let body = body(sent.len(), size);
            let request = agent.request("POST", gateway.url(), "/proxy/up/").body(&body).sign();
            let mut exchange = client.begin(request.to_h2(), false).unwrap();
            exchange.send(&body, !end_apart).unwrap();
            if end_apart {
                exchange.send(b"", true).unwrap();
            }
            assert_eq!(exchange.response().unwrap().status, 200, "{size}, {end_apart}");
            sent.push(body);
        }
    }
    let after = agent.get(gateway.url(), "/proxy/up/after");
    assert_eq!(client.request(after.to_h2(), None).unwrap().status, 200);
    let requests = upstream.wait_for(sent.len() + 1);
    assert_eq!(upstream.connections().len(), 1, "a connection was given up");
    for (request, body) in requests.iter().zip(&sent) {
        assert!(request.body == *body, "{} bytes became {}", body.len(), request.body.len());
    }
    assert_eq!(requests.last().unwrap().target, "/after");
}

#[test]
fn wrong_body_never_leaves_a_connection_behind_for_another_request() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
    let gateway = Setup::new()
        .set("limits.threads", 1)
        .set("limits.body.window", "4KiB")
        .bearer("up", &upstream.url(), "canary")
        .claim(&agent, &["up"])
        .start();
    for at in 0..5 {
        let right = agent.request("POST", gateway.url(), "/proxy/up/right").body(body(at, 20_000)).sign();
        let wrong = right.clone().replace("x-none", "1");
        let wrong = agent
            .request("POST", gateway.url(), "/proxy/up/wrong")
            .body(body(at, 20_000))
            .sign()
            .body_swapped(body(at + 1, wrong.body.unwrap().len()));
        let mut client = gateway.connect();
        client.send(wrong.to_chunked_bytes(1_000));
        assert_eq!(client.response().status, 403);
        let mut client = gateway.connect();
        client.send(right.to_chunked_bytes(1_000));
        assert_eq!(client.response().status, 200);
    }
    let whole: Vec<_> = upstream.requests().into_iter().filter(|request| request.complete).collect();
    assert_eq!(whole.len(), 5);
    for (at, request) in whole.iter().enumerate() {
        assert!(request.target == "/right" && request.body == body(at, 20_000));
    }
}

/// Answers the first request of each connection and hangs up on the second: the pooled connection was stale.
fn stale() -> Upstream {
    Upstream::start(|request| if request.nth == 1 { Reply::ok("taken") } else { Reply::Unanswered })
}

#[test]
fn idempotent_request_on_a_stale_connection_is_sent_again() {
    let (upstream, agent) = (stale(), Agent::new("alice"));
    let gateway = Setup::new().set("limits.threads", 1).bearer("up", &upstream.url(), "canary");
    let gateway = gateway.claim(&agent, &["up"]).start();
    let put = |size| agent.request("PUT", gateway.url(), "/proxy/up/").body(body(3, size)).sign();
    assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/up/")).status, 200);
    // Each of these finds the connection of the one before it stale.
    assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/up/")).status, 200);
    assert_eq!(gateway.send(&put(30_000)).status, 200);
    let mut client = gateway.connect();
    client.send(put(20_000).to_chunked_bytes(999));
    assert_eq!(client.response().status, 200);
    let requests = upstream.wait_for(7);
    let answered: Vec<_> = requests.iter().filter(|request| request.nth == 1).collect();
    assert_eq!(answered.len(), 4);
    assert!(answered[2].body == body(3, 30_000) && answered[3].body == body(3, 20_000));
    let ids: Vec<_> = requests[1..3].iter().map(|request| request.header("authorization")).collect();
    assert_eq!(ids, [Some("Bearer canary"); 2]);
}

#[test]
fn request_with_effects_on_a_stale_connection_is_not_sent_again() {
    let (upstream, agent) = (stale(), Agent::new("alice"));
    let gateway = Setup::new().set("limits.threads", 1).bearer("up", &upstream.url(), "canary");
    let gateway = gateway.claim(&agent, &["up"]).start();
    assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/up/")).status, 200);
    let answer = gateway.send(&agent.post(gateway.url(), "/proxy/up/", "{}"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"));
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(upstream.connections().len(), 1);
}

#[test]
fn upstream_that_closes_after_each_answer_is_asked_anew() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken").then_close()), Agent::new("alice"));
    let provider = json!({ "id": "up", "base_url": upstream.url(), "auth": { "mode": "none" } });
    let gateway = Setup::new().provider(provider).claim(&agent, &["up"]).start();
    let mut client = gateway.connect();
    for at in 0..5 {
        client.send(agent.get(gateway.url(), "/proxy/up/").to_bytes());
        assert_eq!(client.response().status, 200, "request {at}");
        upstream.wait_closed(at);
    }
    assert_eq!(upstream.connections().len(), 5);
}
