//! HTTP/2 in and out: prior knowledge, TLS, many streams at once, and what one stream may not do to another.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::certs::Authority;
use crate::support::gateway::Setup;
use crate::support::h2_client::H2Client;
use crate::support::upstream::{Reply, Upstream};
use crate::support::upstream_h2::{H2Reply, H2Upstream, StreamEnd};

fn number_of(target: &str) -> String {
    target.rsplit('/').next().unwrap_or_default().to_owned()
}

#[test]
fn many_streams_of_one_connection_get_each_its_own_answer() {
    let upstream = Upstream::start(|request| Reply::ok(&number_of(&request.target)));
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let client = H2Client::connect(gateway.address());
    let begin = |at: usize| {
        let target = format!("/proxy/up/items/{at}");
        let draft = agent.request("POST", gateway.url(), &target);
        let request = draft.body(vec![(at % 251) as u8; at]).sign();
        let mut exchange = client.begin(request.to_h2(), false).unwrap();
        exchange.send(request.body.as_deref().unwrap(), true).unwrap();
        exchange
    };
    let exchanges: Vec<_> = (0..60).map(begin).collect();
    for (at, exchange) in exchanges.into_iter().enumerate() {
        let answer = exchange.response().unwrap();
        assert_eq!((answer.status, answer.text()), (200, at.to_string()));
    }
    let requests = upstream.wait_for(60);
    for request in &requests {
        let at: usize = number_of(&request.target).parse().unwrap();
        assert_eq!(request.body, vec![(at % 251) as u8; at]);
    }
}

#[test]
fn each_stream_is_judged_for_itself() {
    let upstream = Upstream::answering(Reply::ok("taken"));
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let client = H2Client::connect(gateway.address());
    let good = agent.get(gateway.url(), "/proxy/up/a");
    assert_eq!(client.request(good.to_h2(), None).unwrap().status, 200);
    let forged = agent.get(gateway.url(), "/proxy/up/a").target_swapped("/proxy/up/b");
    assert_eq!(client.request(forged.to_h2(), None).unwrap().status, 403);
    let replayed = client.request(good.to_h2(), None).unwrap();
    assert_eq!(replayed.code(), "AUTH_REPLAY_DETECTED");
    let after = agent.get(gateway.url(), "/proxy/up/c");
    assert_eq!(client.request(after.to_h2(), None).unwrap().status, 200);
    assert_eq!(upstream.wait_for(2).len(), 2);
}

#[test]
fn stream_waiting_for_its_answer_does_not_hold_another_up() {
    let upstream =
        Upstream::start(|request| if request.target == "/hang" { Reply::Hang } else { Reply::ok("now") });
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let client = H2Client::connect(gateway.address());
    let hanging = client.begin(agent.get(gateway.url(), "/proxy/up/hang").to_h2(), true).unwrap();
    upstream.wait_until("the hanging request", |requests| (!requests.is_empty()).then_some(()));
    let answer = client.request(agent.get(gateway.url(), "/proxy/up/now").to_h2(), None).unwrap();
    assert_eq!(answer.text(), "now");
    hanging.reset(h2::Reason::CANCEL);
    upstream.wait_closed(0);
}

#[test]
fn one_connection_to_an_h2_upstream_carries_many_requests() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let server = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["h2"]);
    let upstream = H2Upstream::start(server, |request| H2Reply::Fixed {
        status: 200,
        headers: Vec::new(),
        body: number_of(&request.uri).into_bytes(),
    });
    let gateway = Setup::new()
        .provider(json!({
            "id": "up", "base_url": upstream.url_by_name(), "tls": { "ca": authority.ca_file() },
            "auth": { "mode": "bearer", "secret": "env:UP" },
        }))
        .env("UP", "canary-9c1e")
        .claim(&agent, &["up"])
        .start();
    let client = H2Client::connect(gateway.address());
    let exchanges: Vec<_> = (0..40)
        .map(|at| {
            let request = agent.get(gateway.url(), &format!("/proxy/up/items/{at}"));
            client.begin(request.to_h2(), true).unwrap()
        })
        .collect();
    for (at, exchange) in exchanges.into_iter().enumerate() {
        assert_eq!(exchange.response().unwrap().text(), at.to_string());
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 40);
    for request in requests {
        let names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(request.end, StreamEnd::Complete);
        assert!(request.headers.contains(&("authorization".into(), "Bearer canary-9c1e".into())));
        assert!(request.uri.starts_with(&upstream.url_by_name()), "{}", request.uri);
        let ours = |name: &&str| name.starts_with("sigilum-") || name.starts_with("signature");
        assert!(!names.iter().any(ours) && !names.contains(&"content-digest"), "{names:?}");
    }
}

#[test]
fn stream_that_an_h2_upstream_refused_unread_is_tried_again() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let server = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["h2"]);
    let count = AtomicUsize::new(0);
    let upstream = H2Upstream::start(server, move |_| match count.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => H2Reply::Reset(h2::Reason::REFUSED_STREAM),
        _ => H2Reply::Fixed { status: 200, headers: Vec::new(), body: b"taken".to_vec() },
    });
    let provider = json!({
        "id": "up", "base_url": upstream.url_by_name(), "tls": { "ca": authority.ca_file() },
        "auth": { "mode": "none" },
    });
    let gateway = Setup::new().provider(provider).claim(&agent, &["up"]).start();
    let body = vec![5; 20_000];
    let request = || agent.request("POST", gateway.url(), "/proxy/up/").body(&body).sign();
    assert_eq!(gateway.send(&request()).status, 200);
    let mut client = gateway.connect();
    client.send(request().to_chunked_bytes(3_000));
    assert_eq!(client.response().status, 200);
    let requests = upstream.wait_for_ends(4);
    assert!(requests.len() == 4 && requests.iter().all(|request| request.body == body));
}

#[test]
fn reset_of_an_h2_upstream_is_told_as_its_error() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let server = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["h2"]);
    let upstream = H2Upstream::start(server, |_| H2Reply::Reset(h2::Reason::INTERNAL_ERROR));
    let provider = json!({
        "id": "up", "base_url": upstream.url_by_name(), "tls": { "ca": authority.ca_file() },
        "auth": { "mode": "none" },
    });
    let gateway = Setup::new().provider(provider).claim(&agent, &["up"]).start();
    let answer = gateway.send(&agent.post(gateway.url(), "/proxy/up/", "{}"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"));
    // A POST that the upstream may have acted on is not sent twice.
    assert_eq!(upstream.wait_for_ends(1).len(), 1);
}

#[test]
fn head_of_the_upstream_reaches_an_h2_client_without_hop_by_hop_fields() {
    let reply = Reply::ok("x").with("connection", "x-private").with("x-private", "1").with("x-kept", "2");
    let (upstream, agent) = (Upstream::answering(reply), Agent::new("alice"));
    let gateway = Setup::new().bearer("up", &upstream.url(), "canary").claim(&agent, &["up"]).start();
    let client = H2Client::connect(gateway.address());
    let answer = client.request(agent.get(gateway.url(), "/proxy/up/").to_h2(), None).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
    assert_eq!(answer.header("connection"), None);
    assert_eq!(answer.header("x-kept"), Some("2"));
}
