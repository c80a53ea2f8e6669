//! Pages against the admin API of a gateway on the same machine: from another origin, and by a name that was rebound to
//! this machine. None of their calls takes effect.

use serde_json::Value;

use super::chromium::{Browser, Lair, find};
use crate::gateway::admin_scene::Desk;
use crate::support::eventually;

const PAGE: &str = include_str!("attack.html");

/// All that an admin call could change, and the audit lines of changes that were made.
fn state(desk: &Desk) -> (Vec<Value>, usize) {
    let paths = ["connections", "credential-variables", "service-catalog"];
    let shown = paths.map(|path| desk.get(&format!("/api/admin/{path}")).json());
    (shown.to_vec(), audit(desk, "done").len())
}

fn audit(desk: &Desk, outcome: &str) -> Vec<Value> {
    let output = desk.gateway.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "sigilum::audit" && line["outcome"] == outcome).collect()
}

/// Shows the page from a host of the name `evil.test`, and gives what it could read.
fn attack(desk: &Desk, target: &str) -> Option<Value> {
    let chromium = find()?;
    let lair = Lair::start(PAGE.replace("__TARGET__", target), desk.gateway.admin_address());
    let _browser = Browser::open(&chromium, &format!("http://evil.test:{}/page", lair.port()));
    Some(lair.report())
}

fn start() -> Desk {
    let desk = Desk::start();
    desk.add("openai");
    eventually("the line of what the test itself did", || (audit(&desk, "done").len() == 1).then_some(()));
    desk
}

#[test]
fn page_of_another_origin_changes_nothing_and_reads_nothing() {
    let desk = start();
    let before = state(&desk);
    let target = format!("http://{}", desk.gateway.admin_address());
    let Some(outcomes) = attack(&desk, &target) else { return };
    for (name, outcome) in outcomes.as_object().unwrap() {
        let outcome = outcome.as_str().unwrap();
        let blind =
            ["opaque", "threw TypeError", "unreadable", "failed", "true", "no end"].contains(&outcome);
        assert!(blind, "{name}: {outcome}");
    }
    // They did arrive, and were refused for where they came from.
    let refused =
        eventually("refused changes", || Some(audit(&desk, "refused")).filter(|lines| lines.len() >= 6));
    assert!(refused.iter().all(|line| line["code"] == "ADMIN_ORIGIN_FORBIDDEN"), "{refused:?}");
    assert_eq!(state(&desk), before);
    desk.upstream.assert_zero_bytes();
}

#[test]
fn page_whose_name_was_rebound_to_this_machine_changes_nothing_and_reads_nothing() {
    let desk = start();
    let before = state(&desk);
    let Some(outcomes) = attack(&desk, "") else { return };
    let mut answered = 0;
    for (name, outcome) in outcomes.as_object().unwrap() {
        let outcome = outcome.as_str().unwrap();
        // To the browser it is one origin, so that the page reads the refusal itself.
        let refused = outcome.contains("ADMIN_ORIGIN_FORBIDDEN");
        assert!(refused || ["failed", "true", "no end"].contains(&outcome), "{name}: {outcome}");
        answered += usize::from(refused);
    }
    assert!(answered >= 12, "{outcomes:#}");
    let refused =
        eventually("refused changes", || Some(audit(&desk, "refused")).filter(|lines| lines.len() >= 10));
    assert!(refused.iter().all(|line| line["code"] == "ADMIN_ORIGIN_FORBIDDEN"), "{refused:?}");
    assert_eq!(state(&desk), before);
    desk.upstream.assert_zero_bytes();
}
