//! A panic costs the one request that it happened in. No input is known that makes one, so here a part that the data
//! plane is handed panics on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;
use sigilum::claims::ClaimsIndex;
use sigilum::clock::Clock;
use sigilum::gateway::{self, GatewayConfig, Handles, Limits, ListenerConfig, OpenExchanges, Routes};
use sigilum::protocol::Freshness;
use sigilum::replay::{MemoryConfig, MemoryStore};
use sigilum::telemetry::{DecisionLog, Identities, Metrics};
use tokio::sync::watch;

use crate::support::eventually;
use crate::support::h2_client::H2Client;
use crate::support::raw::RawClient;

/// A data plane within the test whose readiness panics; it has place for two connections.
struct Fragile {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl Fragile {
    fn start() -> Self {
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
        let replay = MemoryConfig { window: Duration::from_secs(600), capacity: 1_000 };
        let handles = Handles {
            claims: Arc::new(ClaimsIndex::new(Vec::new(), None)),
            open: OpenExchanges::new(),
            registrar: None,
            usage: None,
            replay: Arc::new(MemoryStore::new(replay, clock.now(), [7; 16])),
            metrics: Arc::clone(&metrics),
            decisions: Arc::new(DecisionLog::new(Identities::Plain, false)),
            ready: Arc::new(|| panic!("on purpose")),
            admin: None,
            clock,
        };
        let config = GatewayConfig {
            listeners: vec![ListenerConfig { address: ([127, 0, 0, 1], 0).into(), tls: None }],
            trusted_proxies: Vec::new(),
            freshness: Freshness {
                created_tolerance: Duration::from_secs(300),
                future_skew: Duration::from_secs(30),
            },
            limits: Limits { connections: 2, ..Limits::default() },
            rotation: Default::default(),
            drain: Duration::from_secs(5),
            threads: Some(1),
        };
        let bound = gateway::bind(config, Routes::default(), handles).unwrap();
        let address = bound.addresses()[0].0;
        let (stop, stopping) = watch::channel(false);
        let (begun, begins) = mpsc::channel();
        let serving = std::thread::spawn(move || bound.serve(stopping, move || begun.send(()).unwrap()));
        begins.recv().unwrap();
        Self { address, metrics, stop, serving: Some(serving) }
    }

    fn health(&self) -> u16 {
        let mut client = RawClient::connect(self.address);
        client.send("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        client.try_response().map_or(0, |answer| answer.status)
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = self.serving.take().unwrap().join();
    }
}

#[test]
fn panic_costs_its_own_request_and_gives_its_place_back() {
    let fragile = Fragile::start();
    // More than there are places: each must come back.
    for _ in 0..5 {
        let mut client = RawClient::connect(fragile.address);
        client.send("GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(client.rest().is_empty());
        eventually("an answer to another client", || (fragile.health() == 200).then_some(()));
    }
    assert_eq!(fragile.metrics.requests_in_flight(), 0);
}

#[test]
fn panic_in_one_stream_leaves_the_others_of_its_connection() {
    let fragile = Fragile::start();
    let client = H2Client::connect(fragile.address);
    let request = |path: &str| http::Request::get(format!("http://x{path}")).body(()).unwrap();
    for _ in 0..3 {
        assert!(client.request(request("/health/ready"), None).is_err());
        assert_eq!(
            client.request(request("/health"), None).unwrap().json(),
            json!({"status": "ok", "check": "health"})
        );
    }
    eventually("no request in flight", || (fragile.metrics.requests_in_flight() == 0).then_some(()));
}
