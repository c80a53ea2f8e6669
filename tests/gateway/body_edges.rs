//! Bodies at the edges: odd chunks, lengths that lie, clients that break off, limits, and what is asked for first.

use serde_json::json;

use crate::support::agent::{Agent, Draft, Signed};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::http1;
use crate::support::raw::RawClient;
use crate::support::upstream::{Reply, Upstream};

const SECRET: &str = "canary-5d0e-of-the-provider";

struct Stage {
    upstream: Upstream,
    agent: Agent,
    gateway: Gateway,
}

impl Stage {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
        let setup = Setup::new().bearer("up", &upstream.url(), SECRET).claim(&agent, &["up"]);
        let gateway = more(setup).start();
        Self { upstream, agent, gateway }
    }

    fn post(&self) -> Draft<'_> {
        self.agent.request("POST", self.gateway.url(), "/proxy/up/v1")
    }

    /// The gateway has done with the request that broke off, and given up the connection that carried it on.
    fn assert_ended(&self, request_id: &str) {
        let decision = self.gateway.wait_for_decision(request_id);
        assert_ne!(decision["status"], 200, "{decision}");
        for request in self.upstream.requests() {
            self.upstream.wait_closed(request.connection);
        }
    }

    /// A request without a fault, on a connection of its own: the gateway is well, and this is the upstream's only
    /// complete request.
    fn assert_well(&self) {
        assert_eq!(self.gateway.send(&self.post().body("well").sign()).status, 200);
        let requests = self.upstream.requests();
        let whole: Vec<_> = requests.iter().filter(|request| request.complete).collect();
        assert!(whole.len() == 1 && whole[0].body == b"well", "{requests:?}");
    }
}

fn chunks_of_one(request: &Signed) -> Vec<u8> {
    request.to_chunked_bytes(1)
}

#[test]
fn body_in_chunks_of_one_byte_arrives_whole() {
    let stage = Stage::new();
    let body: Vec<u8> = (0..20_000).map(|at| (at % 253) as u8).collect();
    let mut client = stage.gateway.connect();
    client.send(chunks_of_one(&stage.post().body(&body).sign()));
    assert_eq!(client.response().status, 200);
    assert!(stage.upstream.wait_for(1)[0].body == body);
}

#[test]
fn wrong_body_in_chunks_of_one_byte_sends_nothing_of_itself() {
    let stage = Stage::new();
    let mut client = stage.gateway.connect();
    let wrong = stage.post().body([1; 5_000]).sign().body_swapped([2; 5_000]);
    client.send(chunks_of_one(&wrong));
    let answer = client.response();
    assert_eq!((answer.status, answer.reason().as_str()), (403, "SIG_CONTENT_DIGEST_MISMATCH"));
    assert!(stage.upstream.requests().iter().all(|request| request.body.is_empty()));
    stage.assert_well();
}

#[test]
fn unannounced_trailers_are_dropped() {
    let stage = Stage::new();
    let request = stage.post().body("whole").sign();
    let mut client = stage.gateway.connect();
    client.send(request.head("transfer-encoding: chunked\r\n"));
    client.send("5\r\nwhole\r\n0\r\nx-trailer: smuggled\r\nauthorization: Bearer mine\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = &stage.upstream.wait_for(1)[0];
    assert_eq!(seen.body, b"whole");
    let bytes = String::from_utf8_lossy(&stage.upstream.received()).to_lowercase();
    assert!(!bytes.contains("smuggled") && !bytes.contains("bearer mine"), "{bytes}");
}

#[test]
fn announced_trailers_are_refused() {
    let stage = Stage::new();
    let request = stage.post().body("whole").header("trailer", "x-trailer").sign();
    let mut client = stage.gateway.connect();
    client.send(request.head("transfer-encoding: chunked\r\n"));
    client.send("5\r\nwhole\r\n0\r\nx-trailer: 1\r\n\r\n");
    assert_eq!(client.response().status, 400);
    let h2 = H2Client::connect(stage.gateway.address());
    let request = stage.post().body("whole").header("trailer", "x-trailer").sign();
    assert_eq!(h2.request(request.to_h2(), Some(b"whole")).unwrap().status, 400);
    stage.upstream.assert_zero_bytes();
}

#[test]
fn chunk_framing_that_lies_is_never_completed() {
    let stage = Stage::new();
    for framing in [
        "5\r\nwholeX\r\n0\r\n\r\n",
        "zz\r\nwhole\r\n0\r\n\r\n",
        "-5\r\nwhole\r\n0\r\n\r\n",
        "5\r\nwhol\r\n0\r\n\r\n",
        "10000000000000005\r\nwhole\r\n0\r\n\r\n",
        "5\nwhole\n0\n\n",
    ] {
        let mut client = stage.gateway.connect();
        client.send(stage.post().body("whole").sign().head("transfer-encoding: chunked\r\n"));
        client.send(framing);
        assert_eq!(client.response().status, 400, "{framing:?}");
    }
    stage.assert_well();
}

#[test]
fn h2_data_behind_a_length_of_nothing_reaches_nobody() {
    let stage = Stage::new();
    let client = H2Client::connect(stage.gateway.address());
    for (signed, body) in [("x", &b"x"[..]), ("", &b"x"[..]), ("", &[7; 100_000])] {
        let request = stage.post().body(signed).header("content-length", "0").sign();
        // Either answer is right: a refusal, or a stream reset as malformed.
        match client.request(request.to_h2(), Some(body)) {
            Ok(answer) => assert_eq!(answer.status, 400, "{}", answer.text()),
            Err(error) => assert!(error.is_reset(), "{error}"),
        }
    }
    stage.upstream.assert_zero_bytes();
}

#[test]
fn h2_body_of_another_length_than_declared_is_never_completed() {
    let stage = Stage::new();
    let client = H2Client::connect(stage.gateway.address());
    for (size, declared) in [(10, 9), (10, 11), (100_000, 99_999), (100_000, 100_001)] {
        let body = vec![7; size];
        let request = stage.post().body(&body).header("content-length", &declared.to_string()).sign();
        match client.request(request.to_h2(), Some(&body)) {
            Ok(answer) => assert_eq!(answer.status, 400, "{size} for {declared}: {}", answer.text()),
            Err(error) => assert!(error.is_reset(), "{error}"),
        }
    }
    stage.assert_well();
}

#[test]
fn body_that_ends_before_its_length_is_refused() {
    for size in [10, 100_000] {
        let stage = Stage::new();
        let body = vec![7; size];
        let mut client = stage.gateway.connect();
        let framing = format!("content-length: {}\r\n", size + 1);
        client.send(stage.post().body(&body).sign().head(&framing));
        client.send(&body);
        client.finish_sending();
        let answer = client.try_response();
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{answer:?}");
        stage.assert_well();
    }
}

#[test]
fn bytes_behind_the_length_are_another_request() {
    for size in [10, 100_000] {
        let stage = Stage::new();
        let body = vec![7; size];
        let mut client = stage.gateway.connect();
        client.send(stage.post().body(&body).sign().to_bytes());
        client.send("surplus\r\n\r\n");
        assert_eq!(client.response().status, 200);
        assert_eq!(client.response().status, 400);
        client.assert_closed();
        assert!(stage.upstream.wait_for(1)[0].body == body);
        assert_eq!(stage.upstream.requests().len(), 1);
    }
}

#[test]
fn client_that_breaks_off_leaves_no_complete_request() {
    let stage = Stage::new();
    for (at, (framing, size)) in [
        ("content-length: 10\r\n", 5),
        ("content-length: 1000000\r\n", 500_000),
        ("content-length: 3000000\r\n", 2_500_000),
        ("transfer-encoding: chunked\r\n", 10),
        ("transfer-encoding: chunked\r\n", 2_500_000),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("breaks-off-{at}");
        let request = stage.post().body(vec![7; size]).header("x-request-id", &id).sign();
        let mut client = stage.gateway.connect();
        client.send(request.head(framing));
        if framing.starts_with("transfer") {
            client.send(http1::chunk(&vec![7; size]));
        } else {
            client.send(vec![7; size]);
        }
        drop(client);
        stage.assert_ended(&id);
    }
    stage.assert_well();
}

#[test]
fn h2_client_that_resets_its_stream_leaves_no_complete_request() {
    let stage = Stage::new();
    let client = H2Client::connect(stage.gateway.address());
    for (size, id) in [(10, "breaks-off-small"), (2_500_000, "breaks-off-large")] {
        let body = vec![7; size];
        let request = stage.post().body(&body).header("x-request-id", id).sign();
        let mut exchange = client.begin(request.to_h2(), false).unwrap();
        exchange.send(&body, false).unwrap();
        exchange.reset(h2::Reason::CANCEL);
        stage.assert_ended(id);
    }
    stage.assert_well();
    // The connection itself goes on.
    let again = stage.post().body("again").sign();
    assert_eq!(client.request(again.to_h2(), Some(b"again")).unwrap().status, 200);
}

#[test]
fn body_over_the_limit_is_refused_by_its_length_before_it_is_sent() {
    let stage = Stage::with(|setup| setup.set("limits.body.max", "100KiB"));
    let body = vec![7; 100 * 1024 + 1];
    let mut client = stage.gateway.connect();
    let request = stage.post().body(&body).sign();
    client.send(request.head(&format!("content-length: {}\r\n", body.len())));
    let answer = client.response();
    assert_eq!((answer.status, answer.code().as_str()), (413, "REQUEST_BODY_TOO_LARGE"));
    let h2 = H2Client::connect(stage.gateway.address());
    let request = stage.post().body(&body).sign().also("content-length", &body.len().to_string());
    let answer = h2.begin(request.to_h2(), false).unwrap().response().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "REQUEST_BODY_TOO_LARGE"));
    stage.upstream.assert_zero_bytes();
    let fits = stage.post().body(&body[1..]).sign();
    assert_eq!(stage.gateway.send(&fits).status, 200);
}

#[test]
fn body_over_the_limit_without_a_length_is_refused_where_it_exceeds() {
    let stage = Stage::with(|setup| setup.set("limits.body.max", "100KiB"));
    let body = vec![7; 100 * 1024 + 1];
    let mut client = stage.gateway.connect();
    client.send(stage.post().body(&body).sign().to_chunked_bytes(4096));
    let answer = client.response();
    assert_eq!((answer.status, answer.code().as_str()), (413, "REQUEST_BODY_TOO_LARGE"));
    let h2 = H2Client::connect(stage.gateway.address());
    let answer = h2.request(stage.post().body(&body).sign().to_h2(), Some(&body)).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "REQUEST_BODY_TOO_LARGE"));
    for request in stage.upstream.requests() {
        stage.upstream.wait_closed(request.connection);
    }
    stage.assert_well();
}

#[test]
fn limit_of_nothing_takes_requests_without_a_body() {
    let stage = Stage::with(|setup| setup.set("limits.body.max", "0B"));
    assert_eq!(stage.gateway.send(&stage.post().body("x").sign()).status, 413);
    assert_eq!(stage.gateway.send(&stage.agent.get(stage.gateway.url(), "/proxy/up/v1")).status, 200);
}

/// The interim answer that asks for the body.
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n";

fn interim(client: &mut RawClient) -> String {
    String::from_utf8(client.some()).unwrap()
}

#[test]
fn body_is_asked_for_only_once_the_request_is_admitted() {
    let stage = Stage::with(|setup| setup.set("limits.body.max", "1MiB"));
    for size in [10, 200_000] {
        let body = vec![7; size];
        let length = format!("content-length: {size}\r\nexpect: 100-continue\r\n");
        for framing in [length.as_str(), "transfer-encoding: chunked\r\nexpect: 100-continue\r\n"] {
            let mut client = stage.gateway.connect();
            client.send(stage.post().body(&body).sign().head(framing));
            let interim = interim(&mut client);
            assert!(interim.starts_with(CONTINUE), "{interim}");
            if framing.starts_with("transfer") {
                client.send(http1::chunk(&body));
                client.send(http1::chunk(b""));
            } else {
                client.send(&body);
            }
            let answer = client.response();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let requests = stage.upstream.wait_for(4);
    assert!(requests.iter().all(|request| request.header("expect").is_none()), "{requests:?}");
}

#[test]
fn body_of_a_refused_request_is_not_asked_for() {
    let stage = Stage::with(|setup| setup.set("limits.body.max", "1MiB"));
    let framing = "content-length: 10\r\nexpect: 100-continue\r\n";
    let unsigned = stage.post().body("0123456789").sign().without("signature");
    let mut client = stage.gateway.connect();
    client.send(unsigned.head(framing));
    assert!(interim(&mut client).starts_with("HTTP/1.1 403 "));
    let mut client = stage.gateway.connect();
    let large = "content-length: 1048577\r\nexpect: 100-continue\r\n";
    client.send(stage.post().body("0123456789").sign().head(large));
    assert!(interim(&mut client).starts_with("HTTP/1.1 413 "));
    stage.upstream.assert_zero_bytes();
}

#[test]
fn digest_of_nothing_may_be_signed_without_a_body() {
    let stage = Stage::new();
    let request = stage.agent.request("GET", stage.gateway.url(), "/proxy/up/v1").body("").sign();
    let mut client = stage.gateway.connect();
    client.send(request.head(""));
    assert_eq!(client.response().status, 200);
    let request = stage.agent.request("GET", stage.gateway.url(), "/proxy/up/v1").body("x").sign();
    let mut client = stage.gateway.connect();
    client.send(request.head(""));
    assert_eq!(client.response().reason(), "SIG_CONTENT_DIGEST_MISMATCH");
}

#[test]
fn body_without_a_signed_digest_is_refused() {
    let stage = Stage::new();
    for framing in ["content-length: 4\r\n", "transfer-encoding: chunked\r\n"] {
        let request = stage.agent.request("POST", stage.gateway.url(), "/proxy/up/v1").sign();
        let mut client = stage.gateway.connect();
        client.send(request.head(framing));
        client.send(if framing.starts_with('c') { "body" } else { "4\r\nbody\r\n0\r\n\r\n" });
        let answer = client.response();
        assert_eq!((answer.status, answer.code().as_str()), (403, "AUTH_SIGNED_COMPONENTS_INVALID"));
    }
    stage.upstream.assert_zero_bytes();
}

/// An address where nobody listens.
fn dead_url() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", socket.local_addr().unwrap())
}

#[test]
fn second_endpoint_gets_the_whole_body_when_the_first_refuses() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
    let endpoints = json!([{ "url": dead_url() }, { "url": upstream.url() }]);
    let gateway = Setup::new()
        .provider(json!({ "id": "up", "endpoints": endpoints, "auth": { "mode": "none" } }))
        .claim(&agent, &["up"])
        .start();
    let mut sent = 0;
    for size in [10, 60_000, 300_000, 2_000_000] {
        let body: Vec<u8> = (0..size).map(|at| (at % 241) as u8).collect();
        let draft = || agent.request("POST", gateway.url(), "/proxy/up/").body(&body).sign();
        // Twice each, so that either endpoint is the first once.
        for _ in 0..2 {
            assert_eq!(gateway.send(&draft()).status, 200, "{size}");
            let mut client = gateway.connect();
            client.send(draft().to_chunked_bytes(8_192));
            assert_eq!(client.response().status, 200, "{size} in chunks");
            sent += 2;
            let requests = upstream.wait_for(sent);
            assert!(requests[sent - 2..].iter().all(|request| request.body == body), "{size}");
        }
    }
}
