//! A claim that is withdrawn ends what runs under it: streams, tunnels, waits and uploads, whatever they are doing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use sigilum::clock::{Clock, UnixTime};

use super::scene::CONNECTION;
use crate::control::server::Server;
use crate::support::agent::{Agent, Draft};
use crate::support::certs::Authority;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::raw::RawClient;
use crate::support::upstream::{Recorded, Reply, StreamHand, Upstream};
use crate::support::upstream_h2::{H2Reply, H2Upstream, StreamEnd};
use crate::support::{PATIENCE, eventually};

const CUT: &str = "sigilum_gateway_streams_cut_total";
const IN_FLIGHT: &str = "sigilum_gateway_requests_in_flight";

/// A gateway whose control plane has approved two agents.
struct Town {
    server: Server,
    gateway: Gateway,
    alice: Agent,
    robert: Agent,
}

impl Town {
    fn before(url: &str) -> Self {
        Self::with(|setup| setup.bearer(CONNECTION, url, "s"))
    }

    fn with(connection: impl FnOnce(Setup) -> Setup) -> Self {
        let server = Server::start(&Clock::system());
        let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
        server.set_claims(vec![approved("cl_1", &alice), approved("cl_2", &robert)]);
        let gateway = connection(Setup::new())
            .set("control_plane.url", server.url().to_string())
            .set("control_plane.service_api_key", server.key_source().to_string())
            .set("control_plane.claims", json!({ "source": "poll", "refresh": "1s" }))
            .set("telemetry.log.proxy_requests", true)
            .start();
        let town = Self { server, gateway, alice, robert };
        eventually("the first claims", || {
            (town.gateway.metric("sigilum_gateway_claims_entries") == Some(2.0)).then_some(())
        });
        town
    }

    fn withdraw_alice(&self) {
        self.server.set_claims(vec![approved("cl_2", &self.robert)]);
    }

    fn draft<'a>(&'a self, agent: &'a Agent, method: &'a str, target: &'a str) -> Draft<'a> {
        agent.request(method, self.gateway.url(), target).header("x-request-id", "the-one-in-question")
    }

    /// A GET of alice's on a connection of its own, sent.
    fn get(&self, target: &str) -> RawClient {
        let mut client = self.gateway.connect();
        client.send(self.draft(&self.alice, "GET", target).sign().to_bytes());
        client
    }

    /// The same where it was the only one.
    fn assert_cut_alone(&self, status: u16) {
        self.assert_cut(status);
        self.gateway.wait_for_metric(IN_FLIGHT, 0.0);
    }

    /// The decision about the request in question, which was cut while its client had `status`.
    fn assert_cut(&self, status: u16) {
        let decision = self.gateway.wait_for_decision("the-one-in-question");
        assert_eq!(
            (&decision["decision"], &decision["code"], &decision["claim"], &decision["status"]),
            (&json!("deny"), &json!("CLAIM_WITHDRAWN"), &json!("cl_1"), &json!(status)),
            "{decision}"
        );
        self.gateway.wait_for_metric(CUT, 1.0);
        assert!(!self.gateway.output().contains("panicked"));
    }
}

fn approved(id: &str, agent: &Agent) -> Value {
    json!({
        "claim_id": id, "namespace": agent.namespace(), "public_key": agent.public_key(),
        "service": CONNECTION, "subject": "root", "approved_at": "2026-01-01T00:00:00Z",
        "expires_at": null, "scopes": ["*"],
    })
}

/// An upstream that streams to paths that hold `alice` and `robert`, each by a hand of its own.
fn two_streams() -> (Upstream, StreamHand, StreamHand) {
    let (alice, to_alice) = Reply::streamed("text/event-stream");
    let (robert, to_robert) = Reply::streamed("text/event-stream");
    let replies = std::sync::Mutex::new((to_alice, to_robert));
    let script = move |request: &Recorded| {
        let replies = replies.lock().unwrap();
        if request.target.contains("alice") { replies.0.clone() } else { replies.1.clone() }
    };
    (Upstream::start(script), alice, robert)
}

/// Opens a WebSocket as alice, to an upstream that echoes.
fn tunnel(town: &Town) -> TcpStream {
    let draft = town
        .draft(&town.alice, "GET", "/proxy/openai/socket")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut wire = TcpStream::connect(town.gateway.address()).unwrap();
    wire.set_read_timeout(Some(PATIENCE)).unwrap();
    wire.write_all(&draft.sign().to_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        wire.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    wire
}

/// Reads until the peer ends the connection, with or without courtesy.
fn read_to_the_end(mut wire: TcpStream) {
    let mut room = [0; 4096];
    while wire.read(&mut room).unwrap_or_else(|error| {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        0
    }) > 0
    {}
}

#[test]
fn silent_event_stream_is_cut_and_the_other_agent_s_goes_on() {
    let (upstream, to_alice, to_robert) = two_streams();
    let town = Town::before(&upstream.url());
    let mut client = town.get("/proxy/openai/alice");
    assert_eq!(client.head().unwrap().status, 200);
    to_alice.send("data: 1\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    let mut other = town.gateway.connect();
    other.send(town.robert.get(town.gateway.url(), "/proxy/openai/robert").to_bytes());
    assert_eq!(other.head().unwrap().status, 200);

    town.withdraw_alice();
    assert_eq!(client.chunk(), None, "the end of the connection, and not of the answer");
    upstream.wait_closed(0);
    town.assert_cut(200);

    to_robert.send("data: still here\n\n");
    assert_eq!(other.chunk().unwrap(), b"data: still here\n\n");
    to_robert.finish();
    assert_eq!(other.chunk().unwrap(), b"");
    assert_eq!(town.gateway.metric(CUT), Some(1.0));
}

#[test]
fn busy_event_stream_is_cut() {
    let (upstream, to_alice, _to_robert) = two_streams();
    let town = Town::before(&upstream.url());
    let mut client = town.get("/proxy/openai/alice");
    assert_eq!(client.head().unwrap().status, 200);
    std::thread::scope(|scope| {
        let (over, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while ended.recv_timeout(Duration::from_millis(1))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                to_alice.send("data: more and more\n\n");
            }
        });
        assert!(client.chunk().is_some());
        town.withdraw_alice();
        while client.chunk().is_some_and(|chunk| !chunk.is_empty()) {}
        drop(over);
    });
    upstream.wait_closed(0);
    town.assert_cut_alone(200);
}

#[test]
fn stream_whose_client_reads_nothing_is_cut() {
    let (upstream, to_alice, _to_robert) = two_streams();
    let town = Town::before(&upstream.url());
    let mut client = town.get("/proxy/openai/alice");
    assert_eq!(client.head().unwrap().status, 200);
    // More than all buffers between the two ends hold.
    let part = vec![b'x'; 1024 * 1024];
    (0..64).for_each(|_| to_alice.send(&part));
    town.withdraw_alice();
    upstream.wait_closed(0);
    town.assert_cut_alone(200);
}

#[test]
fn silent_tunnel_is_cut_at_both_ends() {
    let upstream = Upstream::answering(Reply::Upgrade);
    let town = Town::before(&upstream.url());
    let mut wire = tunnel(&town);
    wire.write_all(b"echo").unwrap();
    let mut four = [0; 4];
    wire.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"echo");
    town.withdraw_alice();
    read_to_the_end(wire);
    upstream.wait_closed(0);
    town.assert_cut_alone(101);
}

#[test]
fn busy_tunnel_is_cut_at_both_ends() {
    let upstream = Upstream::answering(Reply::Upgrade);
    let town = Town::before(&upstream.url());
    let wire = tunnel(&town);
    let mut out = wire.try_clone().unwrap();
    std::thread::scope(|scope| {
        // Ends when the gateway takes no more.
        scope.spawn(move || while out.write_all(b"more and more ").is_ok() {});
        town.withdraw_alice();
        read_to_the_end(wire);
    });
    upstream.wait_closed(0);
    town.assert_cut_alone(101);
}

#[test]
fn wait_for_an_answer_ends_with_a_refusal_that_says_why() {
    let upstream = Upstream::answering(Reply::Hang);
    let town = Town::before(&upstream.url());
    let mut client = town.get("/proxy/openai/v1/chat");
    upstream.wait_for(1);
    town.withdraw_alice();
    let answer = client.response();
    assert_eq!((answer.status, answer.code().as_str()), (403, "AUTH_CLAIM_REQUIRED"));
    assert_eq!(answer.json()["claim"], json!({ "status": "revoked" }));
    assert_eq!(answer.header("x-request-id"), Some("the-one-in-question"));
    client.assert_closed();
    upstream.wait_closed(0);
    town.assert_cut_alone(403);
}

#[test]
fn upload_towards_the_upstream_is_cut() {
    let upstream = Upstream::answering(Reply::ok("never"));
    let town =
        Town::with(|setup| setup.bearer(CONNECTION, &upstream.url(), "s").set("limits.body.window", "64KiB"));
    let body = vec![b'x'; 1024 * 1024];
    let request = town.draft(&town.alice, "POST", "/proxy/openai/files").body(&body).sign();
    let mut client = town.gateway.connect();
    client.send(request.head(&format!("content-length: {}\r\n", body.len())));
    client.send(&body[..512 * 1024]);
    upstream.wait_until("the first of the body", |requests| {
        requests.iter().any(|request| !request.body.is_empty()).then_some(())
    });
    town.withdraw_alice();
    assert_eq!(client.response().status, 403);
    upstream.wait_closed(0);
    assert!(!upstream.requests()[0].complete);
    town.assert_cut_alone(403);
}

#[test]
fn upload_that_is_still_awaited_is_cut_and_never_reaches_the_upstream() {
    let upstream = Upstream::answering(Reply::ok("never"));
    let town = Town::before(&upstream.url());
    let request = town.draft(&town.alice, "POST", "/proxy/openai/v1/chat").body("0123456789").sign();
    let mut client = town.gateway.connect();
    client.send(request.head("content-length: 10\r\n"));
    client.send("01234");
    town.gateway.wait_for_metric(IN_FLIGHT, 1.0);
    town.withdraw_alice();
    assert_eq!(client.response().code(), "AUTH_CLAIM_REQUIRED");
    town.assert_cut_alone(403);
    upstream.assert_zero_bytes();
}

#[test]
fn of_two_streams_on_one_connection_only_the_withdrawn_one_is_reset() {
    let (upstream, to_alice, to_robert) = two_streams();
    let town = Town::before(&upstream.url());
    let client = H2Client::connect(town.gateway.address());
    let of_alice = town.draft(&town.alice, "GET", "/proxy/openai/alice").sign();
    let mut of_alice = client.begin(of_alice.to_h2(), true).unwrap().streamed().unwrap();
    let of_robert = town.robert.get(town.gateway.url(), "/proxy/openai/robert");
    let mut of_robert = client.begin(of_robert.to_h2(), true).unwrap().streamed().unwrap();
    to_alice.send("data: 1\n\n");
    assert_eq!(of_alice.part().unwrap().unwrap(), b"data: 1\n\n");

    town.withdraw_alice();
    let reset = of_alice.part().unwrap_err();
    assert!(reset.is_reset() && reset.is_remote(), "{reset}");
    let alice_s = upstream.wait_until("alice's connection", |requests| {
        requests.iter().find(|request| request.target.contains("alice")).map(|request| request.connection)
    });
    upstream.wait_closed(alice_s);
    town.assert_cut(200);

    to_robert.send("data: still here\n\n");
    assert_eq!(of_robert.part().unwrap().unwrap(), b"data: still here\n\n");
    to_robert.finish();
    assert_eq!(of_robert.part().unwrap(), None);
    let next = town.robert.get(town.gateway.url(), "/proxy/openai/robert");
    drop(client.begin(next.to_h2(), true).expect("the connection takes further requests"));
}

#[test]
fn of_two_streams_to_one_upstream_connection_only_the_withdrawn_one_is_reset() {
    let authority = Authority::new();
    let config = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["h2"]);
    let upstream = H2Upstream::start(config, |_| H2Reply::Hang);
    let provider = json!({
        "id": CONNECTION, "base_url": upstream.url_by_name(), "tls": { "ca": authority.ca_file() },
        "auth": { "mode": "none" },
    });
    let town = Town::with(|setup| setup.provider(provider));
    let client = H2Client::connect(town.gateway.address());
    let of_alice = town.draft(&town.alice, "GET", "/proxy/openai/alice").sign();
    let of_alice = client.begin(of_alice.to_h2(), true).unwrap();
    eventually("alice's request at the upstream", || (upstream.requests().len() == 1).then_some(()));
    let of_robert = town.robert.get(town.gateway.url(), "/proxy/openai/robert");
    let _of_robert = client.begin(of_robert.to_h2(), true).unwrap();
    eventually("robert's request at the upstream", || (upstream.requests().len() == 2).then_some(()));

    town.withdraw_alice();
    assert!(of_alice.response().unwrap_err().is_reset());
    town.gateway.wait_for_metric(CUT, 1.0);
    let ends = |which: &str| {
        let requests = upstream.requests();
        requests.into_iter().find(|request| request.uri.contains(which)).map(|request| request.end)
    };
    eventually("the reset of alice's stream", || {
        (ends("alice") == Some(StreamEnd::Reset(h2::Reason::CANCEL))).then_some(())
    });
    assert_ne!(ends("robert"), Some(StreamEnd::Lost));
    // The connection to the upstream goes on, too.
    let next = town.robert.get(town.gateway.url(), "/proxy/openai/next");
    let _next = client.begin(next.to_h2(), true).unwrap();
    eventually("the next request at the upstream", || ends("next"));
}

#[test]
fn stream_ends_when_its_claim_does() {
    let (upstream, to_alice, _to_robert) = two_streams();
    let agent = Agent::new("alice");
    let mut claim = agent.claim(&[CONNECTION]);
    let end = Clock::system().now().plus(Duration::from_secs(6));
    claim["expires_at"] = json!(UnixTime::from_secs(end.secs()).to_string());
    let gateway = Setup::new().bearer(CONNECTION, &upstream.url(), "s").claim_entry(claim).start();
    let mut client = gateway.connect();
    let request =
        agent.request("GET", gateway.url(), "/proxy/openai/alice").header("x-request-id", "until-the-end");
    client.send(request.sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    to_alice.send("data: 1\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    assert_eq!(client.chunk(), None);
    upstream.wait_closed(0);
    assert_eq!(gateway.wait_for_decision("until-the-end")["code"], "CLAIM_WITHDRAWN");
    let refused = gateway.send(&agent.get(gateway.url(), "/proxy/openai/alice"));
    assert_eq!(refused.code(), "AUTH_CLAIM_REQUIRED");
}

/// Waits until the gateway takes no connection any more.
fn wait_until_draining(gateway: &Gateway) {
    eventually("the drain", || TcpStream::connect(gateway.address()).is_err().then_some(()));
}

#[test]
fn claim_that_is_revoked_during_the_drain_ends_what_runs_under_it_and_nothing_else() {
    let (upstream, to_alice, to_robert) = two_streams();
    let mut town =
        Town::with(|setup| setup.bearer(CONNECTION, &upstream.url(), "s").set("shutdown.drain", "10m"));
    let mut client = town.get("/proxy/openai/alice");
    assert_eq!(client.head().unwrap().status, 200);
    to_alice.send("data: 1\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    let mut other = town.gateway.connect();
    other.send(town.robert.get(town.gateway.url(), "/proxy/openai/robert").to_bytes());
    assert_eq!(other.head().unwrap().status, 200);
    town.gateway.signal("TERM");
    wait_until_draining(&town.gateway);

    town.withdraw_alice();
    assert_eq!(client.chunk(), None, "the end of the connection, and not of the answer");
    upstream.wait_closed(0);
    to_robert.send("data: still here\n\n");
    assert_eq!(other.chunk().unwrap(), b"data: still here\n\n");
    to_robert.finish();
    assert_eq!(other.chunk().unwrap(), b"");
    assert_eq!(town.gateway.wait().code(), Some(0));
    let decision = town.gateway.wait_for_decision("the-one-in-question");
    assert_eq!(decision["code"], "CLAIM_WITHDRAWN");
}

#[test]
fn connection_whose_requests_are_over_is_left_alone() {
    let upstream = Upstream::answering(Reply::ok("done"));
    let town = Town::before(&upstream.url());
    let mut client = town.get("/proxy/openai/v1");
    assert_eq!(client.response().text(), "done");
    town.withdraw_alice();
    eventually("the withdrawal", || {
        (town.gateway.metric("sigilum_gateway_claims_entries") == Some(1.0)).then_some(())
    });
    client.send(town.robert.get(town.gateway.url(), "/proxy/openai/v1").to_bytes());
    assert_eq!(client.response().text(), "done");
    client.send(town.alice.get(town.gateway.url(), "/proxy/openai/v1").to_bytes());
    assert_eq!(client.response().code(), "AUTH_CLAIM_REQUIRED");
    assert_eq!(town.gateway.metric(CUT), Some(0.0));
}

/// Streams to alice under a claim that then stands in another form, and gives her client.
fn changed(town: &Town, to_alice: &StreamHand, change: impl FnOnce(&mut Value)) -> RawClient {
    let mut client = town.get("/proxy/openai/alice");
    assert_eq!(client.head().unwrap().status, 200);
    to_alice.send("data: 1\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    let mut claim = approved("cl_1", &town.alice);
    change(&mut claim);
    // Robert's goes altogether.
    town.server.set_claims(vec![claim]);
    client
}

#[test]
fn stream_of_a_claim_that_is_only_prolonged_goes_on() {
    let (upstream, to_alice, to_robert) = two_streams();
    let town = Town::before(&upstream.url());
    let mut other = town.gateway.connect();
    other.send(town.robert.get(town.gateway.url(), "/proxy/openai/robert").to_bytes());
    assert_eq!(other.head().unwrap().status, 200);
    to_robert.send("data: 1\n\n");
    assert!(other.chunk().is_some());
    let mut client = changed(&town, &to_alice, |claim| claim["expires_at"] = json!("2999-01-01T00:00:00Z"));
    // Both are judged together: when robert's stream is cut, alice's was let be.
    assert_eq!(other.chunk(), None);
    to_alice.send("data: 2\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 2\n\n");
    to_alice.finish();
    assert_eq!(client.chunk().unwrap(), b"");
    town.gateway.wait_for_metric(CUT, 1.0);
}

#[test]
fn stream_of_a_claim_whose_scopes_were_narrowed_is_cut() {
    let (upstream, to_alice, _to_robert) = two_streams();
    let town = Town::before(&upstream.url());
    let mut client = changed(&town, &to_alice, |claim| claim["scopes"] = json!(["GET /v1/models"]));
    assert_eq!(client.chunk(), None);
    upstream.wait_closed(0);
    town.assert_cut_alone(200);
}
