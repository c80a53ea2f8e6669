//! A gateway whose vault lies on a full disk: writes are refused with the reason, and proxying goes on.

use serde_json::json;

use super::vault_disk::SmallDisk;
use crate::gateway::admin_scene::ask;
use crate::support::agent::Agent;
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

#[test]
fn full_disk_refuses_changes_and_proxying_goes_on() {
    let (upstream, agent, setup) =
        (Upstream::answering(Reply::ok("here")), Agent::new("alice"), Setup::new());
    // Not in the gateway's own directory, which is gone before the disk is unmounted.
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    let Some(_mounted) = SmallDisk::mount(&disk, "4m") else { return };
    let gateway = setup
        .set("data_dir", disk.join("data").to_str().unwrap())
        .bearer("openai", &upstream.url(), "sk-from-the-environment")
        .claim(&agent, &["openai"])
        .start();
    let set = |number: usize| {
        let body = json!({ "key": format!("KEY_{number}"), "value": "v".repeat(16_000) });
        ask(gateway.admin_address(), "POST", "/api/admin/credential-variables", Some(&body))
    };
    let refused = (0..1_000).map(set).find(|answer| answer.status >= 300).expect("the disk is never full");
    assert_eq!(refused.status, 507, "{}", refused.text());
    let passed = gateway.send(&agent.get(gateway.url(), "/proxy/openai/x"));
    assert_eq!((passed.status, passed.text().as_str()), (200, "here"));
    assert_eq!(ask(gateway.admin_address(), "GET", "/api/admin/credential-variables", None).status, 200);
}
