//! Upstreams that answer what nobody asked for: the client gets a fault or a whole answer, never another's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::agent::Agent;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;

/// What stands behind an answer and must never become one.
const SURPLUS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned";

/// Sends these bytes for each head that comes, whatever it says, and leaves its connections open.
struct Wild {
    address: SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Wild {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&answer);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for wire in listener.incoming().map_while(Result::ok) {
                let answer = Arc::clone(&shared);
                std::thread::spawn(move || serve(wire, &answer));
            }
        });
        Self { address, answer }
    }

    fn answers(&self, bytes: &str) {
        *self.answer.lock().unwrap() = bytes.as_bytes().to_vec();
    }
}

fn serve(mut wire: TcpStream, answer: &Mutex<Vec<u8>>) {
    let (mut seen, mut room) = (Vec::new(), [0; 4096]);
    while let Ok(count) = wire.read(&mut room) {
        if count == 0 {
            return;
        }
        seen.extend_from_slice(&room[..count]);
        while let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            seen.drain(..at + 4);
            let bytes = answer.lock().unwrap().clone();
            if wire.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

struct Stage {
    wild: Wild,
    agent: Agent,
    gateway: Gateway,
}

impl Stage {
    fn new() -> Self {
        let (wild, agent) = (Wild::start(), Agent::new("alice"));
        let base = format!("http://{}", wild.address);
        let provider = serde_json::json!({
            "id": "wild", "base_url": base, "timeouts": { "read": "500ms" },
        });
        let gateway = Setup::new().provider(provider).claim(&agent, &["wild"]).start();
        Self { wild, agent, gateway }
    }

    /// Statuses and bodies of two requests, one after the other, by HTTP/1 and by HTTP/2.
    fn answers(&self) -> Vec<(u16, String)> {
        let (url, target) = (self.gateway.url(), "/proxy/wild/x");
        let h2 = H2Client::connect(self.gateway.address());
        let mut answers = Vec::new();
        for _ in 0..2 {
            let mut client = self.gateway.connect();
            client.send(self.agent.get(url, target).also("connection", "close").to_bytes());
            let answer = client.try_response().map(|answer| (answer.status, answer.text()));
            answers.extend(answer);
            let answer = h2.request(self.agent.get(url, target).to_h2(), None);
            answers.extend(answer.ok().map(|answer| (answer.status, answer.text())));
        }
        answers
    }

    fn assert_sound(&self) {
        self.wild.answers("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsound");
        assert_eq!(self.answers(), vec![(200, "sound".to_owned()); 4]);
        let output = self.gateway.output();
        assert!(!output.contains("panicked"), "{output}");
    }
}

#[test]
fn surplus_behind_an_answer_is_never_the_next_answer() {
    let stage = Stage::new();
    let ok = "HTTP/1.1 200 OK\r\n";
    for first in [
        format!("{ok}content-length: 4\r\n\r\nfine"),
        format!("{ok}content-length: 0\r\n\r\n"),
        format!("{ok}transfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"),
        format!("{ok}transfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n0\r\n\r\n"),
        format!("{ok}transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n"),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nfine".to_owned(),
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n".to_owned(),
    ] {
        stage.wild.answers(&format!("{first}{SURPLUS}"));
        for (status, body) in stage.answers() {
            assert!(!body.contains("poisoned"), "{first:?} was followed by {status} {body:?}");
        }
    }
    stage.assert_sound();
}

#[test]
fn answer_that_can_be_read_in_two_ways_is_a_fault_or_ends_its_connection() {
    let stage = Stage::new();
    let body = format!("5\r\nhello\r\n0\r\n\r\n{SURPLUS}");
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: five\r\n",
        "content-length: -1\r\n",
        "content-length: 18446744073709551616\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "x: y\rz\r\ncontent-length: 0\r\n",
        "x\0: y\r\ncontent-length: 0\r\n",
    ] {
        stage.wild.answers(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"));
        for (status, body) in stage.answers() {
            assert!(status == 200 || status == 502 || status == 504, "{fields:?}: {status} {body}");
            // Bytes up to the connection's end may be the body; alone they would be another's answer.
            assert_ne!(body, "poisoned", "{fields:?}");
        }
    }
    stage.assert_sound();
}

#[test]
fn answer_that_is_none_becomes_the_gateway_s_own() {
    let stage = Stage::new();
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(2_000_000));
    for (answer, status) in [
        ("", 504),
        ("HTTP/1.1", 504),
        ("HTTP/1.1 200 OK\r\nx: y\r\n", 504),
        ("nonsense\r\n\r\n", 502),
        ("HTTP/1.1 nonsense\r\n\r\n", 502),
        ("HTTP/1.1 99 low\r\n\r\n", 502),
        ("HTTP/1.1 1000 high\r\n\r\n", 502),
        ("HTTP/3.7 200 OK\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nnocolon\r\n\r\n", 502),
        (large.as_str(), 502),
        // Nobody asked for another protocol.
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nbytes", 502),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 502),
    ] {
        stage.wild.answers(answer);
        let answers = stage.answers();
        let shown: String = answer.chars().take(60).collect();
        assert_eq!(answers.len(), 4, "{shown:?}: {answers:?}");
        for (got, body) in answers {
            assert_eq!(got, status, "{shown:?}: {body}");
            assert!(body.contains("\"code\":\"UPSTREAM_"), "{shown:?}: {body}");
        }
    }
    stage.assert_sound();
}

#[test]
fn endless_interim_answers_end_somewhere() {
    let stage = Stage::new();
    stage.wild.answers(&"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(10_000));
    for (status, body) in stage.answers() {
        assert!(status >= 500, "{status} {body}");
    }
    stage.assert_sound();
}
