//! The configuration read again while the gateway runs.

use serde_json::json;

use super::admin_scene::{Desk, refused};

const RELOAD: &str = "/api/admin/reload";

#[test]
fn reload_puts_the_file_s_connections_into_service() {
    let mut desk =
        Desk::with(|setup| setup.provider(json!({ "id": "first", "base_url": "http://127.0.0.1:9" })));
    desk.gateway.rewrite(|config| {
        config["providers"] = json!([{ "id": "second", "base_url": "http://127.0.0.1:9" }]);
    });
    let reloaded = desk.ask("POST", RELOAD, None);
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(reloaded.json()["connections"], 1);
    assert_eq!(reloaded.json()["restart_needed_for"], json!([]));
    let through = |id: &str| desk.ask_proxy(id);
    refused(&through("first"), 404, "CONNECTION_NOT_FOUND");
    refused(&through("second"), 403, "AUTH_SIGNATURE_INVALID");
    desk.gateway.wait_for_metric(r#"sigilum_gateway_config_reload_total{result="ok"}"#, 1.0);
}

#[test]
fn invalid_file_is_refused_whole_with_every_fault() {
    let mut desk =
        Desk::with(|setup| setup.provider(json!({ "id": "first", "base_url": "http://127.0.0.1:9" })));
    desk.gateway.rewrite(|config| {
        config["providers"] = json!([
            { "id": "second", "base_url": "http://127.0.0.1:9" },
            { "id": "third", "base_uri": "http://127.0.0.1:9" },
        ]);
        config["limits"] = json!({ "header_bytes": "64" });
    });
    let answer = desk.ask("POST", RELOAD, None);
    assert_eq!((answer.status, answer.code().as_str()), (422, "CONFIG_INVALID"), "{}", answer.text());
    let faults = answer.json()["faults"].clone();
    let paths: Vec<&str> =
        faults.as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    for wanted in ["providers[1].base_url", "providers[1].base_uri", "limits.header_bytes"] {
        assert!(paths.contains(&wanted), "{faults}");
    }
    assert!(faults.as_array().unwrap().iter().all(|fault| fault["line"].as_u64() > Some(0)), "{faults}");
    refused(&desk.ask_proxy("second"), 404, "CONNECTION_NOT_FOUND");
    refused(&desk.ask_proxy("first"), 403, "AUTH_SIGNATURE_INVALID");
    desk.gateway.wait_for_metric(r#"sigilum_gateway_config_reload_total{result="refused"}"#, 1.0);
}

#[test]
fn connection_whose_files_cannot_be_used_refuses_the_whole_file() {
    let mut desk =
        Desk::with(|setup| setup.provider(json!({ "id": "first", "base_url": "http://127.0.0.1:9" })));
    let ca = desk.gateway.directory().join("no-pem");
    std::fs::write(&ca, "this is no certificate").unwrap();
    desk.gateway.rewrite(|config| {
        config["providers"] = json!([
            { "id": "second", "base_url": "http://127.0.0.1:9" },
            { "id": "third", "base_url": "https://127.0.0.1:9", "tls": { "ca": ca } },
        ]);
    });
    let answer = desk.ask("POST", RELOAD, None);
    assert!(answer.status >= 400 && answer.text().contains("no-pem"), "{}", answer.text());
    // Nothing of it counts, and later changes do.
    refused(&desk.ask_proxy("second"), 404, "CONNECTION_NOT_FOUND");
    refused(&desk.ask_proxy("first"), 403, "AUTH_SIGNATURE_INVALID");
    desk.add("fourth");
    refused(&desk.ask_proxy("fourth"), 403, "AUTH_SIGNATURE_INVALID");
}

#[test]
fn what_counts_only_at_the_start_is_named() {
    let mut desk = Desk::start();
    desk.gateway.rewrite(|config| config["shutdown"] = json!({ "drain": "3s" }));
    let reloaded = desk.ask("POST", RELOAD, Some(&json!({}))).json();
    assert!(reloaded["restart_needed_for"][0].as_str().unwrap().contains("shutdown"), "{reloaded}");
}

#[test]
fn connections_of_the_vault_stay_through_a_reload() {
    let desk = Desk::start();
    let made = desk.add("openai");
    assert_eq!(desk.ask("POST", RELOAD, None).status, 200);
    assert_eq!(desk.get("/api/admin/connections/openai").json(), made);
    refused(&desk.ask_proxy("openai"), 403, "AUTH_SIGNATURE_INVALID");
}
