//! Secrets that come from files: read anew when they change, and missed by one connection alone.

use serde_json::json;

use super::scene::{CONNECTION, assert_refused};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};

struct Filed {
    upstream: Upstream,
    agent: Agent,
    gateway: Gateway,
    file: std::path::PathBuf,
}

impl Filed {
    /// A connection whose secret is in a file, and another one with a secret from the environment.
    fn start(content: Option<&str>) -> Self {
        let (upstream, agent, setup) =
            (Upstream::answering(Reply::ok("")), Agent::new("alice"), Setup::new());
        let file = setup.directory().join("secret");
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let auth = json!({ "mode": "bearer", "secret": format!("file:{}", file.display()) });
        let gateway = setup
            .provider(json!({ "id": CONNECTION, "base_url": upstream.url(), "auth": auth }))
            .bearer("steady", &upstream.url(), "steady-secret")
            .claim(&agent, &[CONNECTION, "steady"])
            .start();
        Self { upstream, agent, gateway, file }
    }

    fn get(&self, id: &str) -> crate::support::raw::Response {
        self.gateway.send(&self.agent.get(self.gateway.url(), &format!("/proxy/{id}/")))
    }

    /// What is injected now.
    fn injected(&self) -> Option<String> {
        (self.get(CONNECTION).status == 200)
            .then(|| self.upstream.requests().pop()?.header("authorization").map(str::to_owned))
            .flatten()
    }
}

#[test]
fn changed_file_is_used_without_a_restart() {
    let filed = Filed::start(Some("first-secret\n"));
    assert_eq!(filed.injected().as_deref(), Some("Bearer first-secret"));
    std::fs::write(&filed.file, "second-secret").unwrap();
    eventually("the second secret", || filed.injected().filter(|value| value == "Bearer second-secret"));
    // As Kubernetes and careful editors do it: another file moved to its place.
    let next = filed.file.with_extension("next");
    std::fs::write(&next, "third-secret").unwrap();
    std::fs::rename(&next, &filed.file).unwrap();
    eventually("the third secret", || filed.injected().filter(|value| value == "Bearer third-secret"));
    for secret in ["first-secret", "second-secret", "third-secret"] {
        filed.gateway.assert_silent_about(secret);
    }
}

#[test]
fn secret_that_is_missing_stops_its_connection_alone_until_it_is_there() {
    let filed = Filed::start(None);
    assert_refused("missing", &filed.get(CONNECTION), 502, "SECRET_UNREADABLE", "");
    filed.upstream.assert_zero_bytes();
    assert_eq!(filed.get("steady").status, 200);
    assert_eq!(
        filed.gateway.metric("sigilum_gateway_vault_errors_total{kind=\"secret_unreadable\"}"),
        Some(1.0)
    );
    std::fs::write(&filed.file, "late-secret").unwrap();
    eventually("the late secret", || filed.injected().filter(|value| value == "Bearer late-secret"));
}

#[test]
fn secret_that_no_header_can_carry_is_unreadable() {
    for content in ["", "two\nlines", "nul\0", "bell\u{7}"] {
        let filed = Filed::start(Some(content));
        assert_refused(content, &filed.get(CONNECTION), 502, "SECRET_UNREADABLE", "");
        filed.upstream.assert_zero_bytes();
        if content.len() > 3 {
            filed.gateway.assert_silent_about(content.lines().next().unwrap());
        }
    }
}

#[test]
fn file_that_goes_away_stops_its_connection_and_no_other() {
    let filed = Filed::start(Some("first-secret"));
    assert_eq!(filed.injected().as_deref(), Some("Bearer first-secret"));
    std::fs::remove_file(&filed.file).unwrap();
    let refused =
        eventually("the loss", || Some(filed.get(CONNECTION)).filter(|answer| answer.status != 200));
    assert_refused("lost", &refused, 502, "SECRET_UNREADABLE", "");
    assert_eq!(filed.get("steady").status, 200);
}

#[test]
fn variable_that_is_not_set_stops_its_connection_alone() {
    let (upstream, agent) = (Upstream::answering(Reply::ok("")), Agent::new("alice"));
    let auth = json!({ "mode": "bearer", "secret": "env:TEST_NEVER_SET" });
    let gateway = Setup::new()
        .provider(json!({ "id": CONNECTION, "base_url": upstream.url(), "auth": auth }))
        .bearer("steady", &upstream.url(), "steady-secret")
        .claim(&agent, &[CONNECTION, "steady"])
        .start();
    let refused = gateway.send(&agent.get(gateway.url(), "/proxy/openai/"));
    assert_refused("not set", &refused, 502, "SECRET_UNREADABLE", "");
    assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/steady/")).status, 200);
    assert!(!refused.text().contains("TEST_NEVER_SET"));
}
