//! `sigilum agent`: unsigned in, signed out, and for nobody else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::stage::{Running, Server, Stage};

struct Agent {
    running: Running,
    address: SocketAddr,
    _stage: Stage,
}

/// An agent in front of `gateway`.
fn agent(gateway: &str, further: &[&str]) -> Agent {
    let stage = Stage::with_identity();
    let mut args = vec!["agent", "--listen", "127.0.0.1:0", "--gateway", gateway];
    args.extend(further);
    let (running, line) = Running::start(&mut stage.command(&args));
    let url = line.strip_prefix("[ok] Agent listening on http://").unwrap_or_else(|| panic!("{line}"));
    Agent { running, address: url.trim().parse().unwrap(), _stage: stage }
}

impl Agent {
    /// A connection that fails rather than waits for ever.
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends the lines of a head, a body, and reads the answer to its end.
    fn ask(&self, head: &str, body: &[u8]) -> (String, String) {
        let mut stream = self.connect();
        let head = format!("{head}\nhost: {}\nconnection: close\n\n", self.address).replace('\n', "\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // A refusal may come, and the connection close, before all is sent.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.to_lowercase(), body.to_owned())
    }
}

fn code(body: &str) -> String {
    let envelope: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{body:?}"));
    assert!(
        envelope["error"].is_string()
            && envelope["request_id"].is_string()
            && envelope["timestamp"].is_string()
    );
    envelope["code"].as_str().unwrap().to_owned()
}

#[test]
fn unsigned_request_arrives_signed_with_its_body_path_and_headers() {
    let server = Server::start();
    let agent = agent(&server.url(""), &["--subject", "user-1", "--agent-id", "bot"]);
    let head = "POST /proxy/openai/v1/a%2Fb//c?x=1&y=%20&x=2 HTTP/1.1\ncontent-length: 5\nx-kept: 1\n\
                sigilum-subject: mallory\nsignature: sig1=:AA==:\ncontent-digest: sha-256=:AA==:\n\
                authorization: Bearer dummy\nconnection: x-private\nx-private: 1";
    let (head, body) = agent.ask(head, b"hello");
    assert!(head.starts_with("http/1.1 200 ok") && head.contains("x-answer: yes"), "{head}");
    assert!(!head.contains("keep-alive: "), "a header of the connection was passed on: {head}");
    assert_eq!(body, "hello");
    let seen = server.last();
    assert_eq!(seen.signer, Ok(("alice".into(), "user-1".into(), Some("bot".into()))));
    assert_eq!(seen.target, "/proxy/openai/v1/a%2Fb//c?x=1&y=%20&x=2");
    assert_eq!((seen.method.as_str(), seen.body.as_ref()), ("POST", &b"hello"[..]));
    assert_eq!(seen.header("x-kept"), Some("1"));
    assert_eq!((seen.header("authorization"), seen.header("x-private")), (None, None));
}

#[test]
fn each_request_has_a_nonce_of_its_own() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    for _ in 0..3 {
        agent.ask("GET /x HTTP/1.1", b"");
    }
    let mut inputs: Vec<String> =
        server.seen().iter().map(|seen| seen.header("signature-input").unwrap().to_owned()).collect();
    assert!(server.seen().iter().all(|seen| seen.signer.is_ok()));
    inputs.sort();
    inputs.dedup();
    assert_eq!(inputs.len(), 3);
}

#[test]
fn prefix_and_authorization_are_kept_when_asked_for() {
    let server = Server::start();
    let agent = agent(&server.url(""), &["--path-prefix", "/proxy/openai", "--keep-authorization"]);
    agent.ask("GET /v1/models?x HTTP/1.1\nauthorization: Bearer mine", b"");
    let seen = server.last();
    assert_eq!(seen.target, "/proxy/openai/v1/models?x");
    assert!(seen.signer.is_ok(), "{seen:?}");
    assert_eq!(seen.header("authorization"), Some("Bearer mine"));
}

#[test]
fn status_and_redirect_of_the_gateway_reach_the_client() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    let (head, body) = agent.ask("GET /status/403 HTTP/1.1", b"");
    assert!(head.starts_with("http/1.1 403"), "{head}");
    assert_eq!(body, "status 403");
    let (head, _) = agent.ask("GET /redirect HTTP/1.1", b"");
    assert!(head.starts_with("http/1.1 302") && head.contains("location: /elsewhere"), "{head}");
}

#[test]
fn body_of_many_chunks_is_signed_as_one() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    let mut body = Vec::new();
    for _ in 0..40 {
        body.extend_from_slice(b"10000\r\n");
        body.extend_from_slice(&vec![b'x'; 0x10000]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let (head, _) = agent.ask("POST /status/200 HTTP/1.1\ntransfer-encoding: chunked", &body);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let seen = server.last();
    assert!(seen.signer.is_ok(), "{:?}", seen.signer);
    assert_eq!(seen.body.len(), 40 * 0x10000);
}

#[test]
fn body_above_the_limit_is_refused_and_never_sent() {
    let server = Server::start();
    let agent = agent(&server.url(""), &["--max-body", "1KiB"]);
    let (head, body) = agent.ask("POST /x HTTP/1.1\ncontent-length: 1025", &[b'x'; 1025]);
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert_eq!(code(&body), "REQUEST_BODY_TOO_LARGE");
    assert!(server.seen().is_empty());
    let (head, _) = agent.ask("POST /x HTTP/1.1\ncontent-length: 1024", &[b'x'; 1024]);
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

#[test]
fn bodies_in_memory_are_bounded_over_all_requests() {
    let server = Server::start();
    let agent = agent(&server.url(""), &["--max-body", "1KiB"]);
    // Nine bodies that wait for their last bytes are more than the eight there is room for: one of them is refused.
    let waiting: Vec<TcpStream> = (0..9)
        .map(|_| {
            let mut stream = agent.connect();
            stream.write_all(b"POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1024\r\n\r\n").unwrap();
            stream.write_all(&[b'x'; 1000]).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let mut start = [0; 12];
    while !waiting.iter().any(|stream| stream.peek(&mut start).is_ok_and(|read| read == start.len())) {
        std::thread::yield_now();
    }
    assert_eq!(&start, b"HTTP/1.1 503");
    drop(waiting);
    let (head, _) = agent.ask("POST /x HTTP/1.1\ncontent-length: 5", b"hello");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn web_pages_and_foreign_hosts_are_refused_and_nothing_is_signed() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    for (head, expected) in [
        ("GET /x HTTP/1.1\norigin: https://evil.example", "AGENT_ORIGIN_FORBIDDEN"),
        ("GET /x HTTP/1.1\norigin: null", "AGENT_ORIGIN_FORBIDDEN"),
        ("GET /x HTTP/1.1\nsec-fetch-site: cross-site", "AGENT_ORIGIN_FORBIDDEN"),
        ("GET http://evil.example/x HTTP/1.1", "AGENT_HOST_FORBIDDEN"),
        ("GET /x HTTP/1.1\nhost: evil.example", "AGENT_HOST_FORBIDDEN"),
    ] {
        let (answer, body) = agent.ask(head, b"");
        assert!(answer.starts_with("http/1.1 403"), "{head}: {answer}");
        assert_eq!(code(&body), expected, "{head}");
    }
    let (answer, body) = agent.ask("TRACE /x HTTP/1.1", b"");
    assert!(answer.starts_with("http/1.1 405"), "{answer}");
    assert_eq!(code(&body), "METHOD_NOT_ALLOWED");
    let (answer, body) = agent.ask("GET /a/../../admin HTTP/1.1", b"");
    assert!(answer.starts_with("http/1.1 400"), "{answer}");
    assert_eq!(code(&body), "PATH_INVALID");
    assert!(server.seen().is_empty());
    agent.ask("GET /x HTTP/1.1\norigin: http://localhost:3000", b"");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn gateway_that_is_not_there_is_a_502_with_an_envelope() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let agent = agent(&format!("http://{free}"), &[]);
    let (head, body) = agent.ask("GET /x HTTP/1.1\nx-request-id: my-request-1", b"");
    assert!(head.starts_with("http/1.1 502") && head.contains("x-request-id: my-request-1"), "{head}");
    assert_eq!(code(&body), "UPSTREAM_ERROR");
    assert!(body.contains(&free.to_string()) && body.contains("refused"), "{body}");
}

#[test]
fn streamed_answer_reaches_the_client_part_by_part() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    let mut lines = ask_for_the_stream(&agent);
    read_until(&mut lines, "part 0");
    // The server sends the rest only now.
    server.go_on();
    read_until(&mut lines, "part 1");
}

#[test]
fn signal_to_stop_lets_the_running_answer_end() {
    let server = Server::start();
    let mut agent = agent(&server.url(""), &[]);
    let mut lines = ask_for_the_stream(&agent);
    read_until(&mut lines, "part 0");
    agent.running.terminate();
    while TcpStream::connect(agent.address).is_ok() {
        std::thread::yield_now();
    }
    server.go_on();
    read_until(&mut lines, "part 1");
    assert!(agent.running.child.wait().unwrap().success());
}

fn ask_for_the_stream(agent: &Agent) -> BufReader<TcpStream> {
    let mut stream = agent.connect();
    stream.write_all(b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    BufReader::new(stream)
}

fn read_until(lines: &mut BufReader<TcpStream>, wanted: &str) {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.trim() == wanted {
            return;
        }
        line.clear();
    }
    panic!("the answer ended without {wanted:?}");
}

#[test]
fn websocket_is_signed_and_passes_both_ways() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    let mut stream = agent.connect();
    let head = "GET /ws?x=1 HTTP/1.1\nhost: localhost\nconnection: Upgrade\nupgrade: websocket\n\
                sec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\n";
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut status = String::new();
    lines.read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 101"), "{status}");
    read_until(&mut lines, "");
    let seen = server.last();
    assert!(seen.signer.is_ok(), "{seen:?}");
    assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    // A masked text frame (RFC 6455 §5.7), there and back.
    let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    for _ in 0..2 {
        stream.write_all(&frame).unwrap();
        let mut back = [0; 11];
        lines.read_exact(&mut back).unwrap();
        assert_eq!(back, frame);
    }
}

#[test]
fn http2_without_tls_is_spoken_too() {
    let server = Server::start();
    let agent = agent(&server.url(""), &[]);
    let url = format!("http://{}/x?h2", agent.address);
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().tls_certs_only([]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer =
        runtime.block_on(async { client.build().unwrap().post(url).body("hello").send().await.unwrap() });
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    assert!(server.last().signer.is_ok());
}

#[test]
fn address_that_others_reach_is_refused_unless_allowed() {
    let stage = Stage::with_identity();
    let ended = stage.run(&["agent", "--listen", "0.0.0.0:0"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("--allow-remote"), "{ended:?}");
    let args = ["agent", "--listen", "0.0.0.0:0", "--allow-remote", "--allow-host", "agent.internal"];
    let (_running, line) = Running::start(&mut stage.command(&args));
    assert!(line.starts_with("[ok] Agent listening on http://0.0.0.0:"), "{line}");
}

#[test]
fn start_says_where_it_goes_as_whom_and_what_to_paste() {
    let server = Server::start();
    let mut agent = agent(&server.url("/"), &[]);
    agent.running.terminate();
    let mut rest = String::new();
    agent.running.out.read_to_string(&mut rest).unwrap();
    let paste =
        format!("export OPENAI_BASE_URL=http://{}/proxy/openai/v1 OPENAI_API_KEY=unused\n", agent.address);
    assert!(
        rest.starts_with(&format!("gateway: {}\nnamespace: alice\nsubject: alice\n", server.url(""))),
        "{rest}"
    );
    assert!(rest.ends_with(&paste), "{rest}");
    assert!(agent.running.child.wait().unwrap().success());
}
