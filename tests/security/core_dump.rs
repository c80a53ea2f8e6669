//! What a process leaves behind that dies: no core file, so none with a secret in it.

use std::os::unix::process::ExitStatusExt as _;

use crate::support::agent::Agent;
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

const SIGABRT: i32 = 6;

#[test]
fn aborted_gateway_dumps_no_core() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("")), Agent::new("alice"));
    let mut gateway =
        Setup::new().bearer("openai", &upstream.url(), "sk-canary-core").claim(&agent, &["openai"]).start();
    assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/openai/x")).status, 200);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    gateway.signal("ABRT");
    let status = gateway.wait();
    assert_eq!((status.signal(), status.core_dumped()), (Some(SIGABRT), false));
}
