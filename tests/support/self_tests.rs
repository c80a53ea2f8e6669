//! The kit must itself be right, or what it proves is nothing.

use std::time::Duration;

use sigilum::clock::Clock;
use sigilum::protocol::{Freshness, Message, Uncached, verify};

use super::agent::{Agent, Signed};
use super::certs::Authority;
use super::gateway::Setup;
use super::h2_client::H2Client;
use super::raw::RawClient;
use super::upstream::{Reply, Upstream};
use super::upstream_h2::{H2Reply, H2Upstream, StreamEnd};

#[test]
fn upstream_keeps_every_byte_and_every_request() {
    let upstream = Upstream::answering(Reply::Echo);
    upstream.assert_zero_bytes();
    let mut client = RawClient::connect(upstream.address());
    let first = "POST /a?b HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\nX-Twice: 1\r\nx-twice: 2\r\n\r\nabc";
    let second =
        "PUT /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;ext=1\r\nde\r\n1\r\nf\r\n0\r\nt: r\r\n\r\n";
    client.send(first);
    assert_eq!(client.response().json()["body"], "abc");
    client.send_byte_by_byte(second.as_bytes(), Duration::ZERO);
    assert_eq!(client.response().json()["body"], "def");

    let requests = upstream.wait_for(2);
    assert_eq!((requests[0].method.as_str(), requests[0].target.as_str()), ("POST", "/a?b"));
    assert_eq!(requests[0].all("X-TWICE"), ["1", "2"]);
    assert_eq!((requests[1].connection, requests[1].nth), (0, 2));
    assert_eq!(upstream.received(), [first, second].concat().into_bytes());
}

#[test]
fn upstream_tells_a_cut_body_from_a_whole_one() {
    let upstream = Upstream::answering(Reply::ok(""));
    let mut client = RawClient::connect(upstream.address());
    client.send("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nfour");
    drop(client);
    upstream.wait_closed(0);
    let requests = upstream.requests();
    assert_eq!((requests.len(), requests[0].body.as_slice(), requests[0].complete), (1, &b"four"[..], false));
}

#[test]
#[should_panic(expected = "the upstream received")]
fn a_single_byte_is_not_zero_bytes() {
    let upstream = Upstream::answering(Reply::Hang);
    let mut client = RawClient::connect(upstream.address());
    client.send("x");
    drop(client);
    upstream.wait_closed(0);
    upstream.assert_zero_bytes();
}

#[test]
fn streamed_answer_takes_only_the_steps_of_the_test() {
    let (hand, reply) = Reply::streamed("text/event-stream");
    let upstream = Upstream::answering(reply);
    let mut client = RawClient::connect(upstream.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.head().unwrap().header("content-type"), Some("text/event-stream"));
    hand.send("data: 1\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    hand.send("data: 2\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 2\n\n");
    hand.finish();
    assert_eq!(client.chunk(), Some(Vec::new()));
}

#[test]
fn cut_answers_are_seen_as_cut() {
    let (hand, reply) = Reply::streamed("text/plain");
    for (reply, hand) in [(Reply::Cut { promised: 10, sent: b"half".to_vec() }, None), (reply, Some(hand))] {
        let upstream = Upstream::answering(reply);
        let mut client = RawClient::connect(upstream.address());
        client.send("GET / HTTP/1.1\r\n\r\n");
        if let Some(hand) = hand {
            hand.send("half");
            hand.cut();
        }
        let response = client.response();
        assert_eq!((response.body.as_slice(), response.complete), (&b"half"[..], false));
    }
}

#[test]
fn streaming_upstream_sees_its_reader_leave() {
    let (hand, reply) = Reply::streamed("text/event-stream");
    let upstream = Upstream::answering(reply);
    let mut client = RawClient::connect(upstream.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    client.head().unwrap();
    drop(client);
    upstream.wait_closed(0);
    drop(hand);
}

#[test]
fn kept_connection_dies_when_the_script_says_so() {
    let upstream =
        Upstream::start(|request| if request.nth == 1 { Reply::ok("one") } else { Reply::Unanswered });
    let mut client = RawClient::connect(upstream.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().text(), "one");
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert!(client.try_response().is_none());

    let quiet = Upstream::answering(Reply::redirect("/elsewhere").then_close());
    let mut client = RawClient::connect(quiet.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.header("location")), (302, Some("/elsewhere")));
    client.assert_closed();
}

#[test]
fn upgraded_bytes_come_back() {
    let upstream = Upstream::answering(Reply::Upgrade);
    let mut client = RawClient::connect(upstream.address());
    client.send("GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 101);
    client.send("anything");
    assert_eq!(client.exactly(8), b"anything");
}

#[test]
fn tls_upstream_asks_for_the_client_certificate() {
    let authority = Authority::new();
    let server = authority.server_config(&authority.server("server", &["localhost"]), true, &[]);
    let upstream = Upstream::start_tls(server, |_| Reply::ok("secret"));

    let with = authority.client_config(Some(&authority.client("agent")), &[]);
    let mut client = RawClient::connect_tls(upstream.address(), with, "localhost").unwrap();
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().text(), "secret");
    let seen = &upstream.connections()[0];
    assert_eq!((seen.server_name.as_deref(), seen.client_certificate), (Some("localhost"), true));

    // In TLS 1.3 the client learns only after its own part of the handshake that it was refused.
    if let Ok(mut client) =
        RawClient::connect_tls(upstream.address(), authority.client_config(None, &[]), "localhost")
    {
        let _ = client.try_send(b"GET / HTTP/1.1\r\n\r\n");
    }
    upstream.wait_closed(1);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn h2_upstream_tells_a_reset_stream_from_a_whole_one() {
    let authority = Authority::new();
    let server = authority.server_config(&authority.server("server", &["localhost"]), false, &["h2"]);
    let upstream = H2Upstream::start(server, |request| H2Reply::Fixed {
        status: 201,
        headers: vec![("x-length".into(), request.body.len().to_string())],
        body: request.body.clone(),
    });
    let client =
        H2Client::connect_tls(upstream.address(), authority.client_config(None, &["h2"]), "localhost");
    let request = || http::Request::post("https://localhost/path?query").body(()).unwrap();

    let body = vec![7; 200_000];
    let response = client.request(request(), Some(&body)).unwrap();
    assert_eq!((response.status, response.header("x-length")), (201, Some("200000")));
    assert_eq!(response.body, body);

    let mut exchange = client.begin(request(), false).unwrap();
    exchange.send(b"half", false).unwrap();
    exchange.reset(h2::Reason::CANCEL);
    let requests = upstream.wait_for_ends(2);
    assert_eq!((requests[0].method.as_str(), requests[0].end), ("POST", StreamEnd::Complete));
    assert!(requests[0].uri.ends_with("/path?query"));
    assert_eq!(requests[1].end, StreamEnd::Reset(h2::Reason::CANCEL));
}

/// What the library says of a request as the agent would send it.
fn verdict(request: &Signed) -> Result<String, (String, Option<&'static str>)> {
    let head = request.to_h2();
    let message = Message {
        method: &request.method,
        target_uri: &format!("{}{}", request.origin, request.target),
        headers: head.headers(),
        has_body: request.body.is_some(),
    };
    let freshness =
        Freshness { created_tolerance: Duration::from_secs(300), future_skew: Duration::from_secs(30) };
    verify(&message, freshness, Clock::system().now(), &Uncached)
        .map(|verified| verified.agent().public_key.to_string())
        .map_err(|refusal| (refusal.code().to_owned(), refusal.reason()))
}

#[test]
fn agent_signs_rightly_and_spoils_only_what_it_is_told_to() {
    let (agent, other) = (Agent::new("alice"), Agent::new("bob"));
    let origin = "http://127.0.0.1:38100";
    let right = agent.post(origin, "/proxy/echo/v1?a=b", "{}");
    assert_eq!(verdict(&right), Ok(agent.public_key()));
    assert_ne!(
        right.header("signature-input"),
        agent.post(origin, "/proxy/echo/v1?a=b", "{}").header("signature-input")
    );

    let invalid = |reason| Err(("AUTH_SIGNATURE_INVALID".to_owned(), Some(reason)));
    let draft = || agent.request("GET", origin, "/proxy/echo/");
    for (spoiled, expected) in [
        (right.clone().target_swapped("/proxy/echo/v2?a=b"), invalid("SIG_VERIFICATION_FAILED")),
        (right.clone().method_swapped("PUT"), invalid("SIG_VERIFICATION_FAILED")),
        (right.clone().without("signature"), invalid("SIG_MISSING_SIGNATURE_HEADERS")),
        (right.clone().replace("signature", &other.signature_over(b"x")), invalid("SIG_VERIFICATION_FAILED")),
        (draft().created_in(-400).sign(), invalid("SIG_TIMESTAMP_OUT_OF_RANGE")),
        (
            draft()
                .nonce("long-enough")
                .sign()
                .resigned(&agent, |input| input.replace("long-enough", "short")),
            Err(("AUTH_NONCE_INVALID".to_owned(), None)),
        ),
        (
            draft().sign().resigned(&agent, |input| input.replace("\"@target-uri\" ", "")),
            Err(("AUTH_SIGNED_COMPONENTS_INVALID".to_owned(), Some("SIG_SIGNED_COMPONENTS_INVALID"))),
        ),
        (
            right.clone().replace("sigilum-agent-key", &other.public_key()),
            Err(("AUTH_IDENTITY_INVALID".to_owned(), Some("SIG_KEY_MISMATCH"))),
        ),
    ] {
        assert_eq!(verdict(&spoiled), expected, "{spoiled:?}");
    }
    assert_eq!(verdict(&draft().sign().resigned(&agent, str::to_owned)), Ok(agent.public_key()));
    assert_eq!(verdict(&draft().subject("user-17").agent_id("planner").sign()), Ok(agent.public_key()));
}

#[test]
fn agent_writes_the_bytes_that_it_says() {
    let request = Agent::new("alice").post("http://127.0.0.1:9", "/x", "abcde");
    let whole = String::from_utf8(request.to_bytes()).unwrap();
    assert!(whole.starts_with("POST /x HTTP/1.1\r\nhost: 127.0.0.1:9\r\n"), "{whole}");
    assert!(whole.ends_with("content-length: 5\r\n\r\nabcde"), "{whole}");
    let chunked = String::from_utf8(request.to_chunked_bytes(3)).unwrap();
    assert!(
        chunked.ends_with("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        "{chunked}"
    );
}

#[test]
fn gateway_starts_answers_tells_and_stops() {
    let upstream = Upstream::answering(Reply::Echo);
    let agent = Agent::new("alice");
    let secret = "canary-7c1f-never-to-be-shown";
    let gateway = Setup::new().bearer("echo", &upstream.url(), secret).claim(&agent, &["echo"]).start();

    let request = agent
        .request("POST", gateway.url(), "/proxy/echo/v1?a=b")
        .header("x-request-id", "self-test-1")
        .body("hello")
        .sign();
    let response = gateway.send(&request);
    assert_eq!((response.status, &response.json()["body"]), (200, &"hello".into()), "{}", response.text());
    let seen = &upstream.wait_for(1)[0];
    assert_eq!(seen.target, "/v1?a=b");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {secret}").as_str()));

    let refused = gateway.send(&request);
    assert_eq!(refused.code(), "AUTH_REPLAY_DETECTED");
    assert_eq!(gateway.wait_for_decisions(2).len(), 2);
    assert_eq!(gateway.wait_for_decision("self-test-1")["connection"], "echo");
    gateway.wait_for_metric("sigilum_gateway_replay_detected_total", 1.0);
    gateway.assert_silent_about(secret);
    let (status, output) = gateway.stop();
    assert!(status.success(), "{status}:\n{output}");
}

#[test]
fn gateway_that_cannot_start_says_why() {
    let (status, output) = Setup::new().set("limits.connectoins", 5).refused();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("connectoins"), "{output}");
}
