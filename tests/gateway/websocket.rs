//! WebSockets: the handshake is a signed request like any other; then bytes pass both ways.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

use serde_json::json;

use crate::support::PATIENCE;
use crate::support::agent::{Agent, Draft};
use crate::support::certs::Authority;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::http1::{Head, Reader};
use crate::support::raw::RawClient;
use crate::support::upstream::{Reply, Upstream};

const SECRET: &str = "canary-77d2-of-the-provider";
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

/// A server that agrees to each WebSocket, says something at once, and leaves the rest to the test.
struct Speaker {
    address: SocketAddr,
    accepted: Receiver<(Head, TcpStream)>,
}

impl Speaker {
    fn saying(first: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::channel();
        std::thread::spawn(move || {
            for wire in listener.incoming() {
                let Ok(mut wire) = wire else { return };
                wire.set_read_timeout(Some(PATIENCE)).unwrap();
                let Ok(Some(head)) = Reader::new().head(&mut wire) else { continue };
                // One write: the first message comes in the same segment as the answer.
                let _ = wire.write_all(&[SWITCHING, first].concat());
                if sender.send((head, wire)).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn accept(&self) -> (Head, TcpStream) {
        self.accepted.recv_timeout(PATIENCE).expect("the handshake reaches the server")
    }
}

fn stage(url: &str) -> (Gateway, Agent) {
    let agent = Agent::new("alice");
    (Setup::new().bearer("up", url, SECRET).claim(&agent, &["up"]).start(), agent)
}

fn handshake<'a>(agent: &'a Agent, gateway: &'a Gateway) -> Draft<'a> {
    agent
        .request("GET", gateway.url(), "/proxy/up/socket?room=1")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "chat")
}

fn open(agent: &Agent, gateway: &Gateway) -> RawClient {
    let mut client = gateway.connect();
    client.send(handshake(agent, gateway).sign().to_bytes());
    let head = client.head().unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    client
}

#[test]
fn signed_handshake_opens_a_tunnel_with_the_secret_and_without_the_signature() {
    let speaker = Speaker::saying(b"");
    let (gateway, agent) = stage(&speaker.url());
    let mut client = open(&agent, &gateway);
    let (head, mut server) = speaker.accept();
    assert_eq!(head.first_line, "GET /socket?room=1 HTTP/1.1");
    assert_eq!(head.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert_eq!(head.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(head.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(head.header("upgrade"), Some("websocket"));
    let ours = |name: &str| {
        name.starts_with("sigilum-") || name.starts_with("signature") || name == "content-digest"
    };
    assert!(!head.headers.iter().any(|(name, _)| ours(&name.to_lowercase())), "{head:?}");

    client.send("ping");
    let mut four = [0; 4];
    server.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");
    server.write_all(b"pong").unwrap();
    assert_eq!(client.exactly(4), b"pong");
}

#[test]
fn server_that_speaks_first_is_heard_and_the_silent_client_kept() {
    let speaker = Speaker::saying(b"hello from the server");
    let (gateway, agent) = stage(&speaker.url());
    for _ in 0..20 {
        let mut client = open(&agent, &gateway);
        let (_, mut server) = speaker.accept();
        assert_eq!(client.exactly(21), b"hello from the server");
        // The client has sent nothing yet; the tunnel stands all the same.
        server.write_all(b"still there?").unwrap();
        assert_eq!(client.exactly(12), b"still there?");
        client.send("yes");
        let mut three = [0; 3];
        server.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"yes");
    }
}

#[test]
fn handshake_is_known_in_any_spelling() {
    let upstream = Upstream::answering(Reply::Upgrade);
    let (gateway, agent) = stage(&upstream.url());
    for (connection, upgrade) in [("keep-alive, Upgrade", "WebSocket"), ("upgrade", "websocket")] {
        let draft = agent.request("GET", gateway.url(), "/proxy/up/");
        let mut client = gateway.connect();
        client.send(draft.header("connection", connection).header("upgrade", upgrade).sign().to_bytes());
        assert_eq!(client.head().unwrap().status, 101);
        client.send("echo");
        assert_eq!(client.exactly(4), b"echo");
    }
}

#[test]
fn bytes_sent_right_behind_the_handshake_arrive() {
    let speaker = Speaker::saying(b"");
    let (gateway, agent) = stage(&speaker.url());
    let mut client = gateway.connect();
    let mut bytes = handshake(&agent, &gateway).sign().to_bytes();
    bytes.extend_from_slice(b"eager");
    client.send(bytes);
    assert_eq!(client.head().unwrap().status, 101);
    let (_, mut server) = speaker.accept();
    let mut five = [0; 5];
    server.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"eager");
}

#[test]
fn large_messages_pass_both_ways_at_once() {
    const SIZE: usize = 3_000_000;
    let speaker = Speaker::saying(b"");
    let (gateway, agent) = stage(&speaker.url());
    let mut client = open(&agent, &gateway);
    let (_, mut server) = speaker.accept();
    let mut server_out = server.try_clone().unwrap();
    let from_server: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let from_client: Vec<u8> = (0..SIZE).map(|at| (at % 241) as u8).collect();
    let sent = from_server.clone();
    let writer = std::thread::spawn(move || server_out.write_all(&sent).unwrap());
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; SIZE];
        server.read_exact(&mut received).unwrap();
        received
    });
    // Larger than every buffer on the way, so both directions must move at once.
    let piece = 50_000;
    let mut received = Vec::new();
    for part in from_client.chunks(piece) {
        client.send(part);
        received.extend(client.exactly(piece));
    }
    writer.join().unwrap();
    assert!(reader.join().unwrap() == from_client && received == from_server);
}

#[test]
fn tunnel_ends_for_the_client_when_the_server_closes() {
    let speaker = Speaker::saying(b"bye");
    let (gateway, agent) = stage(&speaker.url());
    let mut client = open(&agent, &gateway);
    let (_, server) = speaker.accept();
    assert_eq!(client.exactly(3), b"bye");
    server.shutdown(Shutdown::Both).unwrap();
    client.assert_closed();
}

#[test]
fn tunnel_ends_for_the_server_when_the_client_closes() {
    let speaker = Speaker::saying(b"");
    let (gateway, agent) = stage(&speaker.url());
    let mut client = open(&agent, &gateway);
    let (_, mut server) = speaker.accept();
    client.send("last words");
    drop(client);
    let mut all = Vec::new();
    server.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
}

#[test]
fn unsigned_handshake_never_reaches_the_server() {
    let upstream = Upstream::answering(Reply::Upgrade);
    let (gateway, agent) = stage(&upstream.url());
    let mut client = gateway.connect();
    client.send(handshake(&agent, &gateway).sign().without("signature").to_bytes());
    client.send("bytes of a tunnel that never was");
    let answer = client.response();
    assert_eq!((answer.status, answer.reason().as_str()), (403, "SIG_MISSING_SIGNATURE_HEADERS"));
    upstream.assert_zero_bytes();
}

#[test]
fn server_that_declines_is_answered_for() {
    let upstream = Upstream::answering(Reply::status(426, "not here"));
    let (gateway, agent) = stage(&upstream.url());
    let answer = gateway.send(&handshake(&agent, &gateway).sign());
    assert_eq!((answer.status, answer.text().as_str()), (426, "not here"));
}

#[test]
fn request_smuggled_behind_a_declined_handshake_is_not_served() {
    let upstream = Upstream::answering(Reply::ok("declined"));
    let (gateway, agent) = stage(&upstream.url());
    let mut client = gateway.connect();
    let mut bytes = handshake(&agent, &gateway).sign().to_bytes();
    bytes.extend_from_slice(b"GET /proxy/up/smuggled HTTP/1.1\r\nhost: x\r\n\r\n");
    client.send(bytes);
    assert_eq!(client.response().text(), "declined");
    let second = client.try_response();
    assert!(second.as_ref().is_none_or(|answer| answer.status == 403), "{second:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn other_upgrades_are_not_passed_on() {
    let upstream = Upstream::answering(Reply::ok("plain"));
    let (gateway, agent) = stage(&upstream.url());
    for (name, settings) in [("h2c", true), ("TLS/1.0", false), ("websocket, h2c", false), ("foo", false)] {
        let mut draft = agent.request("GET", gateway.url(), "/proxy/up/").header("upgrade", name);
        draft = if settings {
            draft.header("connection", "Upgrade, HTTP2-Settings").header("http2-settings", "AAMAAABkAAQAAP__")
        } else {
            draft.header("connection", "Upgrade")
        };
        let answer = gateway.send(&draft.sign());
        assert_eq!((answer.status, answer.text().as_str()), (200, "plain"), "{name}");
    }
    for request in upstream.wait_for(4) {
        for name in ["upgrade", "http2-settings"] {
            assert_eq!(request.header(name), None, "{request:?}");
        }
    }
}

#[test]
fn switch_that_nobody_asked_for_is_an_error_of_the_upstream() {
    let upstream = Upstream::answering(Reply::Raw(SWITCHING.to_vec()));
    let (gateway, agent) = stage(&upstream.url());
    let answer = gateway.send(&agent.get(gateway.url(), "/proxy/up/"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"));
    // Nor one that was not passed on.
    let draft = agent.request("GET", gateway.url(), "/proxy/up/");
    let answer = gateway.send(&draft.header("connection", "Upgrade").header("upgrade", "h2c").sign());
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"));
    let client = H2Client::connect(gateway.address());
    let answer = client.request(agent.get(gateway.url(), "/proxy/up/").to_h2(), None).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"));
}

#[test]
fn tunnel_to_an_upstream_that_prefers_h2_goes_over_h1() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let server = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["http/1.1"]);
    let upstream = Upstream::start_tls(server, |_| Reply::Upgrade);
    let provider = json!({
        "id": "up", "base_url": upstream.url_by_name(), "tls": { "ca": authority.ca_file() },
        "auth": { "mode": "none" },
    });
    let gateway = Setup::new().provider(provider).claim(&agent, &["up"]).start();
    let mut client = open(&agent, &gateway);
    client.send("through TLS");
    assert_eq!(client.exactly(11), b"through TLS");
}

#[test]
fn tunnel_is_told_in_the_decision_log_when_it_ends() {
    let speaker = Speaker::saying(b"");
    let (gateway, agent) = stage(&speaker.url());
    let mut client = gateway.connect();
    client.send(handshake(&agent, &gateway).header("x-request-id", "tunnel-1").sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 101);
    let _server = speaker.accept();
    drop(client);
    let decision = gateway.wait_for_decision("tunnel-1");
    assert_eq!((&decision["decision"], &decision["status"]), (&"allow".into(), &101.into()), "{decision}");
    gateway.assert_silent_about(SECRET);
}
