//! The service catalog over the admin API, and what the gateway says of itself.

use serde_json::json;

use super::admin_scene::{Desk, refused};

const CATALOG: &str = "/api/admin/service-catalog";

#[test]
fn catalog_knows_the_providers_that_users_ask_for_first() {
    let catalog = Desk::start().get(CATALOG).json();
    let keys: Vec<&str> = catalog["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["key"].as_str().unwrap())
        .collect();
    for wanted in ["openai", "anthropic", "slack", "linear", "github", "notion", "stripe"] {
        assert!(keys.contains(&wanted), "{wanted} is not in {keys:?}");
    }
}

#[test]
fn stored_catalog_takes_the_place_of_the_built_in_one() {
    let desk = Desk::start();
    let own = json!({ "version": 1, "services": [{
        "key": "house", "name": "House", "protocol": "http", "base_url": "https://house.example",
        "auth_mode": "bearer", "auth_secret_key": "api_key",
        "credential_fields": [{ "key": "api_key", "label": "Key", "secret": true }],
        "test": { "method": "GET", "path": "/ping" },
    }]});
    let put = desk.ask("PUT", CATALOG, Some(&own));
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(desk.get(CATALOG).json()["services"][0]["key"], "house");
}

#[test]
fn catalog_that_is_none_is_refused_with_its_fault() {
    let desk = Desk::start();
    for wrong in [
        json!({ "version": 2, "services": [] }),
        json!({ "version": 1, "services": [{ "key": "x" }] }),
        json!([]),
    ] {
        refused(&desk.ask("PUT", CATALOG, Some(&wrong)), 400, "FIELD_INVALID");
    }
}

#[test]
fn gateway_tells_who_it_is_and_how_it_stands() {
    let desk = Desk::start();
    let gateway = desk.get("/api/admin/gateway").json();
    assert_eq!(gateway["id"], "did:sigilum:test-gateway");
    assert_eq!(gateway["version"], env!("CARGO_PKG_VERSION"));
    assert!(gateway["sealing_key"]["public_key"].as_str().unwrap().starts_with("x25519:"));
    assert_eq!((&gateway["claims"]["ready"], &gateway["claims"]["entries"]), (&json!(true), &json!(0)));
    assert_eq!(gateway["replay"]["entries"], 0);
    assert_eq!(gateway["vault"]["takes_writes"], true);
}
