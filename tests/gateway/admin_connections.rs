//! Connections over the admin API: made, changed, rotated and removed while the gateway runs.

use serde_json::{Value, json};

use super::admin_scene::{CANARY, Desk, refused};
use crate::support::agent::Agent;
use crate::support::gateway::Setup;
use crate::support::raw::Response;
use crate::support::upstream::{Reply, Upstream};

const CONNECTIONS: &str = "/api/admin/connections";

#[test]
fn connection_is_in_service_when_its_making_is_answered() {
    let desk = Desk::start();
    let through =
        || desk.gateway.send(&Agent::new("alice").get(desk.gateway.url(), "/proxy/openai/v1/models"));
    refused(&through(), 404, "CONNECTION_NOT_FOUND");
    let made = desk.post(CONNECTIONS, &desk.openai("openai"));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("location"), Some("/api/admin/connections/openai"));
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let view = made.json();
    assert_eq!(view["credential_keys"], json!(["api_key"]));
    assert_eq!((&view["source"], &view["secret_version"]), (&json!("vault"), &json!(1)));
    assert_eq!(desk.get(&format!("{CONNECTIONS}/openai")).json(), view);
    assert_eq!(desk.get(CONNECTIONS).json(), json!({ "connections": [view] }));
    refused(&through(), 403, "AUTH_CLAIM_REQUIRED");
    desk.ask("DELETE", &format!("{CONNECTIONS}/openai"), None);
    refused(&through(), 404, "CONNECTION_NOT_FOUND");
}

#[test]
fn rotated_secret_is_what_the_next_request_carries() {
    let scene = StoreScene::start();
    refused(&scene.get(), 502, "SECRET_UNREADABLE");
    for secret in ["first-canary", "second-canary"] {
        let rotated = scene.desk.post(
            &format!("{CONNECTIONS}/shop/rotate"),
            &json!({ "secrets": { "api_key": secret }, "rotation_reason": "due" }),
        );
        assert_eq!(rotated.status, 200, "{}", rotated.text());
        assert_eq!(scene.get().status, 200);
        let seen = scene.desk.upstream.requests().pop().unwrap();
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {secret}").as_str()));
    }
}

/// A connection of the file whose secret lies in the vault, and an agent that may use it.
struct StoreScene {
    desk: Desk,
    agent: Agent,
}

impl StoreScene {
    fn start() -> Self {
        let agent = Agent::new("alice");
        let upstream = Upstream::answering(Reply::Echo);
        let auth = json!({ "mode": "bearer", "secret": "store" });
        let setup = Setup::new()
            .provider(json!({ "id": "shop", "base_url": upstream.url(), "auth": auth }))
            .claim(&agent, &["shop"]);
        Self { desk: Desk { gateway: setup.start(), upstream }, agent }
    }

    fn get(&self) -> Response {
        let url = self.desk.gateway.url();
        self.desk.gateway.send(&self.agent.get(url, "/proxy/shop/v1/models"))
    }
}

#[test]
fn secret_is_in_no_answer_no_log_and_no_file() {
    let desk = Desk::start();
    desk.add("openai");
    let rotated =
        desk.post(&format!("{CONNECTIONS}/openai/rotate"), &json!({ "secrets": { "api_key": CANARY } }));
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let answers = ["", "/openai"].map(|path| desk.get(&format!("{CONNECTIONS}{path}")).text()).concat();
    assert!(!answers.contains("canary") && !rotated.text().contains("canary"));
    desk.gateway.assert_silent_about(CANARY);
    let mut left = vec![desk.gateway.directory().to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(9).any(|part| part == b"sk-canary"), "{}", path.display());
        }
    }
}

#[test]
fn id_that_stands_is_refused_and_the_first_stays() {
    let desk = Desk::start();
    let first = desk.add("openai");
    let second = desk.post(
        CONNECTIONS,
        &json!({ "id": "openai", "base_url": "https://other.example", "auth_mode": "none" }),
    );
    refused(&second, 409, "CONNECTION_EXISTS");
    assert_eq!(desk.get(&format!("{CONNECTIONS}/openai")).json(), first);
}

#[test]
fn change_says_only_what_is_to_change() {
    let desk = Desk::start();
    desk.add("openai");
    let path = format!("{CONNECTIONS}/openai");
    let changed = desk.ask("PATCH", &path, Some(&json!({ "name": "OpenAI", "rotation_interval_days": 30 })));
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["name"], "OpenAI");
    assert_eq!(changed.json()["rotation_interval_days"], 30);
    assert!(changed.json()["next_rotation_due_at"].is_string());
    let reset = desk.ask("PATCH", &path, Some(&json!({ "name": null })));
    assert_eq!(
        (&reset.json()["name"], &reset.json()["rotation_interval_days"]),
        (&json!("openai"), &json!(30))
    );
    let wrong = desk.ask("PATCH", &path, Some(&json!({ "base_url": null })));
    assert!(refused(&wrong, 400, "FIELD_INVALID").contains("base_url"));
}

#[test]
fn removed_connection_is_gone_with_its_route() {
    let desk = Desk::start();
    desk.add("openai");
    let path = format!("{CONNECTIONS}/openai");
    let removed = desk.ask("DELETE", &path, None);
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone())] {
        refused(&desk.ask(method, &path, None), 404, "CONNECTION_NOT_FOUND");
    }
    let lost = desk.post(&format!("{path}/rotate"), &json!({ "secrets": { "a": "b" } }));
    refused(&lost, 404, "CONNECTION_NOT_FOUND");
}

#[test]
fn connection_of_the_file_is_read_only() {
    let desk = Desk::with(|setup| setup.bearer("filed", "http://127.0.0.1:9", "s"));
    let path = format!("{CONNECTIONS}/filed");
    let view = desk.get(&path).json();
    assert_eq!((&view["source"], &view["read_only"]), (&json!("config"), &json!(true)));
    refused(&desk.ask("PATCH", &path, Some(&json!({ "name": "x" }))), 409, "CONNECTION_READ_ONLY");
    refused(&desk.ask("DELETE", &path, None), 409, "CONNECTION_READ_ONLY");
}

#[test]
fn gateway_without_a_vault_says_so() {
    let desk = Desk::with(|setup| setup.set("mode", "enterprise"));
    let sentence = refused(&desk.post(CONNECTIONS, &desk.openai("openai")), 409, "VAULT_NOT_CONFIGURED");
    assert!(sentence.contains("vault.master_key"), "{sentence}");
    assert_eq!(desk.get("/api/admin/gateway").json()["sealing_key"], Value::Null);
    let rekey = desk.post("/api/admin/vault/rekey", &json!({ "master_key": "env:X" }));
    refused(&rekey, 409, "VAULT_NOT_CONFIGURED");
}

#[test]
fn field_that_is_wrong_is_named_with_what_would_be_right() {
    let desk = Desk::start();
    for (change, named) in [
        (json!({ "base_ulr": "x" }), "did you mean `base_url`?"),
        (json!({ "id": "Open_AI" }), "id:"),
        (json!({ "base_url": "ftp://x" }), "base_url:"),
        (json!({ "base_url": "http://169.254.169.254/" }), "base_url:"),
        (json!({ "auth_mode": "beerer" }), "auth_mode:"),
        (json!({ "auth_mode": "header_key" }), "auth_header_name:"),
        (json!({ "status": "off" }), "status:"),
        (json!({ "path_prefix": "/a/../b" }), "path_prefix:"),
        (json!({ "rotation_interval_days": -3 }), "rotation_interval_days:"),
        (json!({ "secrets": ["sk-canary"] }), "secrets:"),
    ] {
        let mut body = desk.openai("openai");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let sentence = refused(&desk.post(CONNECTIONS, &body), 400, "FIELD_INVALID");
        assert!(sentence.contains(named), "{change}: {sentence}");
    }
    assert_eq!(desk.get(CONNECTIONS).json(), json!({ "connections": [] }));
}

#[test]
fn secret_that_cannot_be_one_is_refused_unseen() {
    let desk = Desk::start();
    for wrong in ["", "sk-canary\r\nx-evil: 1"] {
        let mut body = desk.openai("openai");
        body["secrets"]["api_key"] = json!(wrong);
        refused(&desk.post(CONNECTIONS, &body), 400, "SECRET_INVALID");
    }
    desk.gateway.assert_silent_about("sk-canary");
}

#[test]
fn every_change_is_in_the_audit_log_without_its_values() {
    let desk = Desk::start();
    desk.add("openai");
    let path = format!("{CONNECTIONS}/openai");
    desk.ask("PATCH", &path, Some(&json!({ "name": "OpenAI" })));
    desk.post(&format!("{path}/rotate"), &json!({ "secrets": { "api_key": CANARY }, "rotated_by": "ann" }));
    desk.ask("DELETE", &path, None);
    desk.ask("DELETE", &path, None);
    let lines = crate::support::eventually("the audit lines", || {
        let lines: Vec<Value> = desk
            .gateway
            .output()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["target"] == "sigilum::audit")
            .collect();
        (lines.len() >= 5).then_some(lines)
    });
    let done: Vec<&str> = lines.iter().filter_map(|line| line["action"].as_str()).collect();
    assert_eq!(done, ["connection.create", "connection.update", "connection.rotate", "connection.delete"]);
    assert_eq!(
        (&lines[1]["before"], &lines[1]["after"]),
        (&json!(r#"{"name":"openai"}"#), &json!(r#"{"name":"OpenAI"}"#))
    );
    assert_eq!(
        (&lines[2]["secrets"], &lines[2]["peer"], &lines[2]["way"]),
        (&json!("api_key"), &json!("127.0.0.1"), &json!("loopback"))
    );
    assert!(lines[2]["after"].as_str().unwrap().contains("ann"));
    assert_eq!(
        (&lines[4]["outcome"], &lines[4]["code"]),
        (&json!("refused"), &json!("CONNECTION_NOT_FOUND"))
    );
    assert_eq!(lines[4]["route"], "/api/admin/connections/{id}");
    desk.gateway.assert_silent_about(CANARY);
}

#[test]
fn discovery_is_told_to_be_still_to_come() {
    let desk = Desk::start();
    desk.add("openai");
    let path = format!("{CONNECTIONS}/openai/discover");
    refused(&desk.ask("POST", &path, None), 409, "CONNECTION_NOT_MCP");
    refused(&desk.ask("POST", &format!("{path}?refresh=now"), None), 400, "FIELD_INVALID");
    let mcp =
        json!({ "id": "tools", "protocol": "mcp", "base_url": desk.upstream.url(), "auth_mode": "none" });
    assert_eq!(desk.post(CONNECTIONS, &mcp).status, 201);
    refused(
        &desk.ask("POST", &format!("{CONNECTIONS}/tools/discover?refresh=force"), None),
        501,
        "NOT_IMPLEMENTED",
    );
}

#[test]
fn connections_outlive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let with_data = |setup: Setup| setup.set("data_dir", data.path().to_str().unwrap());
    let desk = Desk::with(with_data);
    let made = desk.add("openai");
    let (status, output) = desk.gateway.stop();
    assert!(status.success(), "{output}");
    let desk = Desk::with(with_data);
    assert_eq!(desk.get(&format!("{CONNECTIONS}/openai")).json(), made);
}
