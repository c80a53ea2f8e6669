//! The admin sidecar over real sockets: routes, admission, envelope, and its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sigilum::admin::{Access, Admin, AdminFault, AdminSettings, Bound, Handles, ReloadFault};
use sigilum::claims::ClaimsIndex;
use sigilum::clock::{Clock, UnixTime};
use sigilum::connections::{Book, SecretSource};
use sigilum::replay::{MemoryConfig, MemoryStore};
use sigilum::telemetry::{Metrics, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

struct Sidecar {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn settings(access: Access) -> AdminSettings {
    AdminSettings { address: ([127, 0, 0, 1], 0).into(), access, ..AdminSettings::default() }
}

fn handles(metrics: &Arc<Metrics>, ready: &Arc<AtomicBool>) -> Handles {
    let ready = Arc::clone(ready);
    let clock = Clock::fixed(UnixTime::from_secs(1_771_610_666));
    let replay = MemoryConfig { window: Duration::from_secs(600), capacity: 16 };
    Handles {
        metrics: Arc::clone(metrics),
        ready: Arc::new(move || ready.load(Ordering::SeqCst).then_some(()).ok_or("the approved claims")),
        gateway_id: "did:sigilum:test-gateway".into(),
        started: clock.now(),
        book: Book::open(Vec::new(), None, clock.clone()).unwrap(),
        vault: None,
        vault_directory: None,
        claims: Arc::new(ClaimsIndex::new(Vec::new(), None)),
        replay: Arc::new(MemoryStore::new(replay, clock.now(), [0; 16])),
        apply: Arc::new(|| Box::pin(async { Ok(()) })),
        reload: Arc::new(|| Box::pin(async { Err(ReloadFault::NoFile) })),
        pairing: None,
        clock,
    }
}

async fn bind(settings: &AdminSettings) -> (Bound, Arc<Metrics>, Arc<AtomicBool>) {
    let (metrics, ready) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(false)));
    let admin = Admin::new(settings, handles(&metrics, &ready)).unwrap();
    (admin.bind().await.unwrap(), metrics, ready)
}

async fn start(settings: AdminSettings) -> Sidecar {
    let (bound, metrics, ready) = bind(&settings).await;
    let (stop, stopping) = watch::channel(false);
    let address = bound.local_addr();
    Sidecar { address, metrics, ready, stop, serving: tokio::spawn(bound.serve(stopping)) }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends a request with these further header lines and reads until the end.
async fn ask(address: SocketAddr, line: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("host:")) {
        request.push_str("host: localhost\r\n");
    }
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(&mut stream).await
}

async fn answer(stream: &mut TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

#[tokio::test]
async fn health_is_answered_to_whoever_connects() {
    let sidecar = start(settings(Access::Token)).await;
    for (path, check) in [("/health", "health"), ("/health/live", "liveness")] {
        let answer = ask(sidecar.address, &format!("GET {path}"), &["host: 10.9.8.7:38101"]).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok", "check": check})));
    }
}

#[tokio::test]
async fn readiness_says_what_is_awaited_until_it_is_there() {
    let sidecar = start(settings(Access::Hybrid)).await;
    let before = ask(sidecar.address, "GET /health/ready", &["x-request-id: probe-0001"]).await;
    assert_eq!(before.status, 503);
    assert_eq!(
        before.json(),
        json!({
            "error": "the gateway is not ready: it waits for the approved claims",
            "code": "NOT_READY",
            "request_id": "probe-0001",
            "timestamp": "2026-02-20T18:04:26Z",
            "docs_url": "https://sigilum.id/docs/errors#NOT_READY",
        })
    );
    sidecar.ready.store(true, Ordering::SeqCst);
    let after = ask(sidecar.address, "GET /health/ready", &[]).await;
    assert_eq!((after.status, after.json()["check"].clone()), (200, json!("readiness")));
}

#[tokio::test]
async fn gateway_without_a_bridge_cannot_be_paired() {
    let sidecar = start(settings(Access::Hybrid)).await;
    for method in ["GET", "DELETE"] {
        let answer = ask(sidecar.address, &format!("{method} /api/admin/pairing"), &[]).await;
        assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("PAIRING_NOT_AVAILABLE")));
    }
}

#[tokio::test]
async fn metrics_are_shown_to_a_caller_on_this_machine() {
    let sidecar = start(settings(Access::Hybrid)).await;
    sidecar.metrics.upstream(Protocol::Http, true, Duration::from_millis(1));
    let answer = ask(sidecar.address, "GET /metrics", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let counted = r#"sigilum_gateway_upstream_requests_total{outcome="success",protocol="http"} 1"#;
    assert!(answer.body.lines().any(|line| line == counted));
}

#[tokio::test]
async fn token_is_asked_for_where_the_mode_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "canary\n").unwrap();
    let token = Some(SecretSource::File(file.path().to_owned()));
    let sidecar = start(AdminSettings { token, ..settings(Access::Token) }).await;
    let without = ask(sidecar.address, "GET /metrics", &[]).await;
    assert_eq!((without.status, without.json()["code"].clone()), (401, json!("ADMIN_TOKEN_REQUIRED")));
    assert_eq!(without.header("www-authenticate"), Some("Bearer"));
    let with = ask(sidecar.address, "GET /metrics", &["authorization: Bearer canary"]).await;
    assert_eq!(with.status, 200);
}

#[tokio::test]
async fn foreign_page_reaches_nothing_by_a_name_that_leads_here() {
    let sidecar = start(settings(Access::Hybrid)).await;
    for header in ["host: evil.example", "origin: https://evil.example"] {
        let answer = ask(sidecar.address, "GET /metrics", &[header]).await;
        assert_eq!((answer.status, answer.json()["code"].clone()), (403, json!("ADMIN_ORIGIN_FORBIDDEN")));
    }
}

#[tokio::test]
async fn unknown_route_and_method_are_refused_in_the_envelope() {
    let sidecar = start(settings(Access::Hybrid)).await;
    let lost = ask(sidecar.address, "GET /api/admin/nothing", &[]).await;
    assert_eq!((lost.status, lost.json()["code"].clone()), (404, json!("NOT_FOUND")));
    let wrong = ask(sidecar.address, "POST /metrics", &["content-length: 0"]).await;
    assert_eq!((wrong.status, wrong.json()["code"].clone()), (405, json!("METHOD_NOT_ALLOWED")));
}

#[tokio::test]
async fn request_id_is_the_client_s_only_when_it_is_safe() {
    let sidecar = start(settings(Access::Hybrid)).await;
    let own = ask(sidecar.address, "GET /health", &["x-request-id: client-17"]).await;
    assert_eq!(own.header("x-request-id"), Some("client-17"));
    let unsafe_one = ask(sidecar.address, "GET /nothing", &["x-request-id: <script>alert"]).await;
    let given = unsafe_one.header("x-request-id").unwrap();
    assert!(given.starts_with("req_") && given.len() == 36, "{given}");
    assert_eq!(unsafe_one.json()["request_id"], given);
}

#[tokio::test]
async fn half_a_request_is_given_up_and_others_go_on() {
    let timeout = Duration::from_millis(50);
    let sidecar = start(AdminSettings { timeout, ..settings(Access::Hybrid) }).await;
    let mut slow = TcpStream::connect(sidecar.address).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await.unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert_eq!(ask(sidecar.address, "GET /health", &[]).await.status, 200);
}

#[tokio::test]
async fn stop_ends_idle_connections_and_frees_the_address() {
    let sidecar = start(settings(Access::Hybrid)).await;
    let mut idle = TcpStream::connect(sidecar.address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    sidecar.stop.send(true).unwrap();
    sidecar.serving.await.unwrap();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(TcpStream::connect(sidecar.address).await.is_err());
}

#[tokio::test]
async fn token_that_cannot_be_read_and_address_that_is_taken_are_told() {
    let (bound, metrics, ready) = bind(&settings(Access::Hybrid)).await;
    let taken = AdminSettings { address: bound.local_addr(), ..settings(Access::Hybrid) };
    let second = Admin::new(&taken, handles(&metrics, &ready)).unwrap().bind().await;
    assert!(matches!(second, Err(AdminFault::Bind { address, .. }) if address == bound.local_addr()));
    let token = Some(SecretSource::File("/nonexistent/token".into()));
    let lost = Admin::new(&AdminSettings { token, ..taken }, handles(&metrics, &ready));
    assert!(lost.unwrap_err().to_string().contains("/nonexistent/token"));
}
