//! Upstreams that refuse, hang, fail or move, and what their clients are told.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::http1;
use crate::support::upstream::{Reply, Upstream};

/// A gateway with one provider `up`, changed by `more`.
fn stage(base_url: &str, more: Value) -> (Gateway, Agent) {
    let mut provider = json!({ "id": "up", "base_url": base_url, "auth": { "mode": "none" } });
    provider.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    if provider.get("endpoints").is_some() {
        provider.as_object_mut().unwrap().remove("base_url");
    }
    let agent = Agent::new("alice");
    (Setup::new().provider(provider).claim(&agent, &["up"]).start(), agent)
}

fn ask((gateway, agent): &(Gateway, Agent)) -> (u16, String) {
    let answer = gateway.send(&agent.get(gateway.url(), "/proxy/up/v1"));
    let code = if answer.status == 200 { answer.text() } else { answer.code() };
    (answer.status, code)
}

fn told(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// An address where nobody listens.
fn dead_url() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", socket.local_addr().unwrap())
}

#[test]
fn refused_connection_is_an_error_of_the_upstream() {
    let stage = stage(&dead_url(), json!({}));
    assert_eq!(ask(&stage), told(502, "UPSTREAM_ERROR"));
    stage.0.wait_for_metric("sigilum_gateway_upstream_error_total{class=\"connect\"}", 1.0);
}

#[test]
fn upstream_that_never_answers_times_out() {
    let upstream = Upstream::answering(Reply::Hang);
    let stage = stage(&upstream.url(), json!({ "timeouts": { "read": "200ms" } }));
    assert_eq!(ask(&stage), told(504, "UPSTREAM_TIMEOUT"));
    upstream.wait_closed(0);
    // What may have been done is not asked for twice.
    assert_eq!(upstream.requests().len(), 1);
    stage.0.wait_for_metric("sigilum_gateway_upstream_error_total{class=\"timeout\"}", 1.0);
}

#[test]
fn upstream_that_falls_silent_in_its_answer_is_cut() {
    let (hand, reply) = Reply::streamed("text/plain");
    let upstream = Upstream::answering(reply);
    let (gateway, agent) = stage(&upstream.url(), json!({ "timeouts": { "read": "200ms" } }));
    let mut client = gateway.connect();
    let request =
        agent.request("GET", gateway.url(), "/proxy/up/").header("x-request-id", "silent-01").sign();
    client.send(request.to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    hand.send("half");
    assert_eq!(client.chunk().unwrap(), b"half");
    assert_eq!(client.chunk(), None);
    assert_eq!(gateway.wait_for_decision("silent-01")["code"], "UPSTREAM_TIMEOUT");
}

#[test]
fn whole_time_ends_an_upstream_that_never_answers() {
    let upstream = Upstream::answering(Reply::Hang);
    let stage = stage(&upstream.url(), json!({ "timeouts": { "total": "200ms" } }));
    assert_eq!(ask(&stage), told(504, "UPSTREAM_TIMEOUT"));
}

#[test]
fn whole_time_ends_an_answer_that_goes_on() {
    let (hand, reply) = Reply::streamed("text/plain");
    let upstream = Upstream::answering(reply);
    let (gateway, agent) = stage(&upstream.url(), json!({ "timeouts": { "total": "300ms" } }));
    let mut client = gateway.connect();
    let request =
        agent.request("GET", gateway.url(), "/proxy/up/").header("x-request-id", "goes-on-1").sign();
    client.send(request.to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    let cut = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&cut);
    let feeder = std::thread::spawn(move || {
        while !until.load(Ordering::SeqCst) {
            hand.send("x");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    while client.chunk().is_some_and(|chunk| !chunk.is_empty()) {}
    cut.store(true, Ordering::SeqCst);
    feeder.join().unwrap();
    assert_eq!(gateway.wait_for_decision("goes-on-1")["code"], "UPSTREAM_TIMEOUT");
}

#[test]
fn body_that_stalls_is_the_client_s_fault() {
    let upstream = Upstream::answering(Reply::ok("taken"));
    let (gateway, agent) = stage(&upstream.url(), json!({ "timeouts": { "read": "200ms" } }));
    let mut client = gateway.connect();
    client.send(agent.post(gateway.url(), "/proxy/up/", "whole").head("transfer-encoding: chunked\r\n"));
    client.send(http1::chunk(b"wh"));
    let answer = client.response();
    assert_eq!((answer.status, answer.code().as_str()), (408, "REQUEST_TIMEOUT"));
    assert!(upstream.requests().iter().all(|request| !request.complete));
}

/// A listener whose queue is full: further connections are neither taken nor refused.
fn deaf() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = listener_with_a_short_queue();
    let address = socket.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 5_000, "the queue never fills");
    }
    (format!("http://{address}"), socket, waiting)
}

fn listener_with_a_short_queue() -> TcpListener {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1).unwrap().into_std().unwrap()
    });
    socket.set_nonblocking(false).unwrap();
    socket
}

#[test]
fn upstream_that_takes_no_connection_times_out() {
    let (url, _socket, _waiting) = deaf();
    let stage = stage(&url, json!({ "timeouts": { "connect": "200ms" } }));
    assert_eq!(ask(&stage), told(504, "UPSTREAM_TIMEOUT"));
}

#[test]
fn answer_that_is_not_http_is_an_error_of_the_upstream() {
    const ANSWERS: [&[u8]; 4] = [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ];
    let upstream = Upstream::start(|request| {
        let at: usize = request.target.trim_start_matches('/').parse().unwrap();
        Reply::Raw(ANSWERS[at].to_vec())
    });
    let (gateway, agent) = stage(&upstream.url(), json!({}));
    for (at, bytes) in ANSWERS.iter().enumerate() {
        let answer = gateway.send(&agent.get(gateway.url(), &format!("/proxy/up/{at}")));
        let code = (answer.status, answer.code());
        assert_eq!(code, told(502, "UPSTREAM_ERROR"), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn answers_of_the_upstream_pass_as_they_are() {
    let upstream = Upstream::start(|request| {
        let status = request.target.trim_start_matches('/').parse().unwrap();
        Reply::status(status, "theirs").with("retry-after", "7")
    });
    let (gateway, agent) = stage(&upstream.url(), json!({}));
    for status in [400, 401, 403, 404, 429, 500, 503] {
        let answer = gateway.send(&agent.get(gateway.url(), &format!("/proxy/up/{status}")));
        assert_eq!((answer.status, answer.text().as_str()), (status, "theirs"));
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
}

#[test]
fn redirect_is_passed_on_and_never_followed() {
    let other = Upstream::answering(Reply::ok("never"));
    let target = format!("{}/elsewhere", other.url());
    let upstream = Upstream::answering(Reply::redirect(&target));
    let (gateway, agent) = stage(&upstream.url(), json!({}));
    let answer = gateway.send(&agent.get(gateway.url(), "/proxy/up/"));
    assert_eq!((answer.status, answer.header("location")), (302, Some(target.as_str())));
    other.assert_zero_bytes();
}

#[test]
fn name_that_does_not_resolve_leaves_no_endpoint() {
    // A label of more than 63 characters is in no DNS, and asked of none.
    let stage = stage(&format!("http://{}.invalid", "x".repeat(64)), json!({}));
    assert_eq!(ask(&stage), told(503, "UPSTREAM_UNAVAILABLE"));
    let answer = stage.0.send(&stage.1.get(stage.0.url(), "/proxy/up/"));
    assert!(answer.header("retry-after").is_some());
}

/// An upstream whose `/health` answers as the flag says, and everything else with its name.
fn probed(name: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let healthy = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&healthy);
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/health" if flag.load(Ordering::SeqCst) => Reply::ok("well"),
        "/health" => Reply::status(503, "ill"),
        _ => Reply::ok(name),
    });
    (upstream, healthy)
}

#[test]
fn endpoint_that_fails_its_probe_is_left_out_until_it_is_well() {
    let ((one, one_well), (two, two_well)) = (probed("one"), probed("two"));
    let stage = stage(
        "",
        json!({
            "endpoints": [{ "url": one.url() }, { "url": two.url() }],
            "health_check": { "path": "/health", "interval": "100ms", "healthy": 1, "unhealthy": 1 },
        }),
    );
    let names = |count: usize| {
        let mut names: Vec<String> = (0..count).map(|_| ask(&stage).1).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(names(4), ["one", "two"]);
    one_well.store(false, Ordering::SeqCst);
    eventually("endpoint one to be left out", || (names(4) == ["two"]).then_some(()));
    two_well.store(false, Ordering::SeqCst);
    eventually("no endpoint", || (ask(&stage) == told(503, "UPSTREAM_UNAVAILABLE")).then_some(()));
    one_well.store(true, Ordering::SeqCst);
    eventually("endpoint one to come back", || (names(4) == ["one"]).then_some(()));
    two_well.store(true, Ordering::SeqCst);
    eventually("endpoint two to come back", || (names(4) == ["one", "two"]).then_some(()));
}

#[test]
fn probes_carry_no_secret() {
    let (upstream, _) = probed("one");
    let agent = Agent::new("alice");
    let provider = json!({
        "id": "up", "base_url": upstream.url(), "auth": { "mode": "bearer", "secret": "env:UP" },
        "health_check": { "path": "/health", "interval": "100ms" },
    });
    let _gateway =
        Setup::new().provider(provider).env("UP", "canary-of-probes").claim(&agent, &["up"]).start();
    upstream.wait_for(3);
    assert!(!String::from_utf8_lossy(&upstream.received()).contains("canary"));
}

#[test]
fn endpoints_are_chosen_by_their_weights() {
    let (one, two) = (Upstream::answering(Reply::ok("one")), Upstream::answering(Reply::ok("two")));
    let endpoints = json!([{ "url": one.url(), "weight": 3 }, { "url": two.url(), "weight": 1 }]);
    let stage = stage("", json!({ "endpoints": endpoints }));
    for _ in 0..40 {
        assert_eq!(ask(&stage).0, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (30, 10));
    for upstream in [&one, &two] {
        let own = upstream.address().to_string();
        assert!(upstream.requests().iter().all(|request| request.all("host") == [own.as_str()]));
    }
}

#[test]
fn same_agent_stays_with_its_endpoint_where_that_is_asked_for() {
    let upstreams: Vec<_> = (0..3).map(|at| Upstream::answering(Reply::ok(&at.to_string()))).collect();
    let endpoints: Vec<_> = upstreams.iter().map(|upstream| json!({ "url": upstream.url() })).collect();
    let agents: Vec<_> = (0..16).map(|at| Agent::new(&format!("agent-{at:02}"))).collect();
    let provider = json!({
        "id": "up", "endpoints": endpoints, "auth": { "mode": "none" }, "load_balancing": "consistent",
    });
    let setup =
        agents.iter().fold(Setup::new().provider(provider), |setup, agent| setup.claim(agent, &["up"]));
    let gateway = setup.start();
    let mut chosen = Vec::new();
    for agent in &agents {
        let ask = || gateway.send(&agent.get(gateway.url(), "/proxy/up/")).text();
        let first = ask();
        assert!((0..3).all(|_| ask() == first));
        chosen.push(first);
    }
    chosen.sort();
    chosen.dedup();
    assert!(chosen.len() > 1, "16 agents all went to endpoint {chosen:?}");
}

#[test]
fn dead_endpoint_is_passed_over_without_a_probe() {
    let upstream = Upstream::answering(Reply::ok("alive"));
    let endpoints = json!([{ "url": dead_url() }, { "url": upstream.url() }, { "url": dead_url() }]);
    let stage = stage("", json!({ "endpoints": endpoints, "retries": { "attempts": 3 } }));
    for at in 0..60 {
        assert_eq!(ask(&stage), told(200, "alive"), "request {at}");
    }
}

#[test]
fn no_attempt_follows_where_none_is_allowed() {
    let upstream = Upstream::answering(Reply::ok("alive"));
    let endpoints = json!([{ "url": dead_url() }, { "url": upstream.url() }]);
    let stage = stage("", json!({ "endpoints": endpoints, "retries": { "attempts": 1 } }));
    let statuses: Vec<_> = (0..4).map(|_| ask(&stage).0).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 1, "{statuses:?}");
}
