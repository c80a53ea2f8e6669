//! Answers that come in parts pass in parts, and an answer that broke is seen to be broken.

use std::io::Write as _;
use std::net::TcpListener;

use crate::support::agent::Agent;
use crate::support::certs::Authority;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::http1::Reader;
use crate::support::upstream::{Reply, StreamHand, Upstream};

const SECRET: &str = "canary-4b77-of-the-provider";

struct Stage {
    upstream: Upstream,
    agent: Agent,
    gateway: Gateway,
}

impl Stage {
    fn answering(reply: Reply) -> Self {
        let (upstream, agent) = (Upstream::answering(reply), Agent::new("alice"));
        let gateway = Setup::new().bearer("up", &upstream.url(), SECRET).claim(&agent, &["up"]).start();
        Self { upstream, agent, gateway }
    }

    fn streaming(content_type: &str) -> (StreamHand, Self) {
        let (hand, reply) = Reply::streamed(content_type);
        (hand, Self::answering(reply))
    }

    fn request(&self) -> crate::support::agent::Signed {
        let draft = self.agent.request("POST", self.gateway.url(), "/proxy/up/v1/chat");
        draft.header("x-request-id", "streamed-1").body("{}").sign()
    }
}

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    let (hand, stage) = Stage::streaming("text/event-stream");
    let mut client = stage.gateway.connect();
    client.send(stage.request().to_bytes());
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    for at in 0..50 {
        let event = format!("data: {{\"at\":{at}}}\n\n");
        hand.send(&event);
        assert_eq!(client.chunk().unwrap(), event.as_bytes());
    }
    hand.finish();
    assert_eq!(client.chunk(), Some(Vec::new()));
    assert_eq!(stage.gateway.wait_for_decision("streamed-1")["decision"], "allow");
}

#[test]
fn each_event_arrives_at_once_over_h2_too() {
    let (hand, stage) = Stage::streaming("text/event-stream");
    let client = H2Client::connect(stage.gateway.address());
    let mut exchange = client.begin(stage.request().to_h2(), false).unwrap();
    exchange.send(b"{}", true).unwrap();
    let mut answer = exchange.streamed().unwrap();
    assert_eq!(answer.status, 200);
    for at in 0..50 {
        let event = format!("data: {at}\n\n");
        hand.send(&event);
        assert_eq!(answer.part().unwrap(), Some(event.into_bytes()));
    }
    hand.finish();
    assert_eq!(answer.part().unwrap(), None);
}

#[test]
fn client_that_leaves_ends_the_stream_at_the_upstream() {
    let (hand, stage) = Stage::streaming("text/event-stream");
    let mut client = stage.gateway.connect();
    client.send(stage.request().to_bytes());
    client.head().unwrap();
    hand.send("data: 1\n\n");
    client.chunk().unwrap();
    drop(client);
    stage.upstream.wait_closed(0);
    stage.gateway.wait_for_decision("streamed-1");
}

#[test]
fn h2_client_that_resets_ends_the_stream_at_the_upstream() {
    let (hand, stage) = Stage::streaming("text/event-stream");
    let client = H2Client::connect(stage.gateway.address());
    let mut exchange = client.begin(stage.request().to_h2(), false).unwrap();
    exchange.send(b"{}", true).unwrap();
    let mut answer = exchange.streamed().unwrap();
    hand.send("data: 1\n\n");
    answer.part().unwrap();
    answer.reset(h2::Reason::CANCEL);
    stage.upstream.wait_closed(0);
}

fn assert_upstream_s_error(stage: &Stage) {
    let decision = stage.gateway.wait_for_decision("streamed-1");
    assert_eq!(
        (&decision["decision"], &decision["code"]),
        (&"error".into(), &"UPSTREAM_ERROR".into()),
        "{decision}"
    );
}

#[test]
fn chunked_answer_that_breaks_is_cut_for_the_client() {
    let (hand, stage) = Stage::streaming("text/plain");
    let mut client = stage.gateway.connect();
    client.send(stage.request().to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    hand.send("half");
    assert_eq!(client.chunk().unwrap(), b"half");
    hand.cut();
    assert_eq!(client.chunk(), None);
    assert_upstream_s_error(&stage);
}

#[test]
fn answer_shorter_than_its_length_is_cut_for_the_client() {
    let stage = Stage::answering(Reply::Cut { promised: 10, sent: b"half".to_vec() });
    let mut client = stage.gateway.connect();
    client.send(stage.request().to_bytes());
    let answer = client.response();
    assert_eq!((answer.status, answer.body.as_slice(), answer.complete), (200, &b"half"[..], false));
    assert_upstream_s_error(&stage);
}

#[test]
fn answer_that_breaks_resets_the_stream_of_an_h2_client() {
    let (hand, stage) = Stage::streaming("text/plain");
    let client = H2Client::connect(stage.gateway.address());
    let mut exchange = client.begin(stage.request().to_h2(), false).unwrap();
    exchange.send(b"{}", true).unwrap();
    let mut answer = exchange.streamed().unwrap();
    hand.send("half");
    assert_eq!(answer.part().unwrap(), Some(b"half".to_vec()));
    hand.cut();
    let error = answer.part().expect_err("the stream must not end as if it were whole");
    assert!(error.is_reset(), "{error}");
    assert_upstream_s_error(&stage);
}

#[test]
fn short_answer_resets_the_stream_of_an_h2_client() {
    let stage = Stage::answering(Reply::Cut { promised: 10, sent: b"half".to_vec() });
    let client = H2Client::connect(stage.gateway.address());
    let answer = client.request(stage.request().to_h2(), Some(b"{}"));
    assert!(answer.as_ref().is_err_and(h2::Error::is_reset), "{answer:?}");
    assert_upstream_s_error(&stage);
}

#[test]
fn answer_without_a_frame_ends_with_its_connection() {
    let stage = Stage::answering(Reply::Raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()));
    let answer = stage.gateway.send(&stage.request());
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "until the end", true));
}

#[test]
fn old_answer_is_passed_on_whole() {
    let stage =
        Stage::answering(Reply::Raw(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nold".to_vec()));
    let answer = stage.gateway.send(&stage.request());
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "old", true));
}

#[test]
fn large_answer_arrives_byte_for_byte() {
    let body: Vec<u8> = (0..8_000_000_usize).map(|at| (at * 7 % 251) as u8).collect();
    let reply = Reply::Fixed { status: 200, headers: Vec::new(), body: body.clone() };
    let stage = Stage::answering(reply);
    assert!(stage.gateway.send(&stage.request()).body == body);
    let client = H2Client::connect(stage.gateway.address());
    let request = stage.request();
    assert!(client.request(request.to_h2(), Some(b"{}")).unwrap().body == body);
}

#[test]
fn answers_that_have_no_body_have_none() {
    for status in [204, 304] {
        let stage = Stage::answering(Reply::status(status, ""));
        let mut client = stage.gateway.connect();
        for _ in 0..2 {
            client.send(stage.request().to_bytes());
            let answer = client.response();
            assert_eq!((answer.status, answer.body.len()), (status, 0));
        }
        assert_eq!(stage.upstream.connections().len(), 1);
    }
    let stage = Stage::answering(Reply::ok("four"));
    let mut client = stage.gateway.connect();
    for _ in 0..2 {
        client.send(stage.agent.request("HEAD", stage.gateway.url(), "/proxy/up/").sign().to_bytes());
        let answer = client.response_to("HEAD");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("4")));
    }
}

#[test]
fn answer_that_ends_like_the_secret_begins_is_whole() {
    let end = format!("ends with {}", &SECRET[..SECRET.len() - 1]);
    let framed = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").into_bytes();
    for bytes in [
        framed(&format!("content-length: {}\r\n", end.len()), &end),
        framed("transfer-encoding: chunked\r\n", &format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len())),
        framed("connection: close\r\n", &end),
    ] {
        let stage = Stage::answering(Reply::Raw(bytes.clone()));
        let answer = stage.gateway.send(&stage.request());
        assert_eq!(
            (answer.text(), answer.complete),
            (end.clone(), true),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        // Another upstream: this one may have closed the connection that the gateway keeps.
        let stage = Stage::answering(Reply::Raw(bytes));
        let client = H2Client::connect(stage.gateway.address());
        let request = stage.request();
        assert_eq!(client.request(request.to_h2(), Some(b"{}")).unwrap().text(), end);
    }
}

#[test]
fn early_hints_do_not_end_the_answer() {
    let raw = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    let stage = Stage::answering(Reply::Raw(raw.to_vec()));
    let answer = stage.gateway.send(&stage.request());
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "done", true));
    let client = H2Client::connect(stage.gateway.address());
    let answer = client.request(stage.request().to_h2(), Some(b"{}")).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
}

/// A server that answers each request when its head is there, and reads nothing of its body.
fn hasty(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for wire in listener.incoming() {
            let Ok(mut wire) = wire else { return };
            let _ = Reader::new().head(&mut wire);
            let _ = wire.write_all(answer);
            kept.push(wire);
        }
    });
    url
}

#[test]
fn answer_that_comes_before_the_body_s_end_reaches_the_client() {
    let url = hasty(b"HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large");
    let agent = Agent::new("alice");
    let gateway = Setup::new().bearer("up", &url, SECRET).claim(&agent, &["up"]).start();
    let request = || agent.request("POST", gateway.url(), "/proxy/up/").body(vec![7; 3_000_000]).sign();
    let mut client = gateway.connect();
    let signed = request();
    client.send(signed.head("content-length: 3000000\r\n"));
    // The upstream is shown the head, and as much of the body as leaves the window.
    client.send(&signed.body.as_deref().unwrap()[..1_500_000]);
    let answer = client.response();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too large"));

    let client = H2Client::connect(gateway.address());
    let signed = request();
    let mut exchange = client.begin(signed.to_h2(), false).unwrap();
    exchange.send(&signed.body.as_deref().unwrap()[..1_500_000], false).unwrap();
    let answer = exchange.response().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too large"));
}

#[test]
fn answer_of_a_tls_upstream_streams_too() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let server = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["http/1.1"]);
    let (hand, reply) = Reply::streamed("text/event-stream");
    let reply = std::sync::Mutex::new(reply);
    let upstream = Upstream::start_tls(server, move |_| reply.lock().unwrap().clone());
    let provider = serde_json::json!({
        "id": "up", "base_url": upstream.url_by_name(), "tls": { "ca": authority.ca_file() },
        "auth": { "mode": "none" },
    });
    let gateway = Setup::new().provider(provider).claim(&agent, &["up"]).start();
    let mut client = gateway.connect();
    client.send(agent.get(gateway.url(), "/proxy/up/").to_bytes());
    client.head().unwrap();
    for part in ["one", "two", "three"] {
        hand.send(part);
        assert_eq!(client.chunk().unwrap(), part.as_bytes());
    }
    hand.finish();
    assert_eq!(client.chunk(), Some(Vec::new()));
}
