//! What a large upload costs.

use crate::support::agent::{Agent, Signed};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::http1;
use crate::support::upstream::{Reply, Upstream};

const MIB: usize = 1024 * 1024;

/// The most memory that the process has ever held, in KiB.
fn high_water_kib(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const SIZE: usize = 50 * MIB;

struct Stage {
    upstream: Upstream,
    agent: Agent,
    gateway: Gateway,
    before_kib: u64,
}

impl Stage {
    fn new() -> Self {
        let (upstream, agent) = (Upstream::answering(Reply::ok("taken")), Agent::new("alice"));
        let gateway = Setup::new()
            .bearer("up", &upstream.url(), "canary")
            .claim(&agent, &["up"])
            .set("limits.body.window", "64KiB")
            .start();
        let warm = agent.request("POST", gateway.url(), "/proxy/up/").body(vec![1; 100_000]).sign();
        assert_eq!(gateway.send(&warm).status, 200);
        let before_kib = high_water_kib(&gateway);
        Self { upstream, agent, gateway, before_kib }
    }

    fn request(&self) -> Signed {
        self.agent.request("POST", self.gateway.url(), "/proxy/up/").body(vec![7; SIZE]).sign()
    }

    fn assert_whole_and_small(&self) {
        let requests = self.upstream.wait_for(2);
        assert!(requests[1].body.len() == SIZE && requests[1].body.iter().all(|byte| *byte == 7));
        // The kernel's count may lag behind, in either reading.
        let grown = high_water_kib(&self.gateway).saturating_sub(self.before_kib);
        assert!(grown < 40 * 1024, "the gateway grew by {grown} KiB");
    }
}

#[test]
fn large_upload_in_chunks_takes_no_more_memory_than_its_window_allows() {
    let stage = Stage::new();
    let mut client = stage.gateway.connect();
    client.send(stage.request().head("transfer-encoding: chunked\r\n"));
    let chunk = http1::chunk(&[7; 64 * 1024]);
    for _ in 0..SIZE / (64 * 1024) {
        client.try_send(&chunk).unwrap();
    }
    client.send(http1::chunk(b""));
    assert_eq!(client.response().status, 200);
    stage.assert_whole_and_small();
}

#[test]
fn large_h2_upload_takes_no_more_memory_than_its_window_allows() {
    let stage = Stage::new();
    let client = H2Client::connect(stage.gateway.address());
    let request = stage.request();
    assert_eq!(client.request(request.to_h2(), request.body.as_deref()).unwrap().status, 200);
    stage.assert_whole_and_small();
}
