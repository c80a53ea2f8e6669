//! Owners: their tokens, their cookie, their policy, and the end of it all.

use std::time::Duration;

use serde_json::json;
use sigilum::control::TokenKey;
use sigilum::secret::SecretBytes;

use super::api_scene::{Desk, refused};
use crate::support::control::Control;

const ALLOWED: &str = "https://dash.example";

fn with_dashboard() -> Desk {
    Desk::over(Control::with(|config| config.allowed_origins = vec![ALLOWED.to_owned()]))
}

#[test]
fn owner_is_told_who_it_is() {
    let desk = Desk::start();
    let me = desk.get(&desk.alice, "/v1/auth/me").json();
    assert_eq!(me["namespace"], "alice");
    assert_eq!(me["email"], "alice@example.com");
    assert_eq!(me["did"], "did:sigilum:alice");
    assert_eq!(me["id"], desk.alice.id.as_str());
    assert_eq!(me["settings"]["maxPendingLimit"], 20);
    assert!(me["token"]["expires_at"].as_str() > me["token"]["issued_at"].as_str());
}

#[test]
fn tokens_that_do_not_hold_are_refused() {
    let desk = Desk::start();
    let me = |headers: &[(&str, &str)]| desk.control.ask("GET", "/v1/auth/me", headers, None);
    let missing = me(&[]);
    refused(&missing, 401, "AUTH_TOKEN_REQUIRED");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    refused(&me(&[("authorization", "Bearer nonsense")]), 401, "AUTH_TOKEN_INVALID");
    let bearer = format!("Bearer {}", desk.openai.key);
    refused(&me(&[("authorization", &bearer)]), 401, "AUTH_TOKEN_INVALID");
    refused(&me(&[("authorization", "Basic YTpi")]), 400, "REQUEST_INVALID");
    let good = format!("Bearer {}", desk.alice.token);
    refused(&me(&[("authorization", &good), ("authorization", &good)]), 400, "REQUEST_INVALID");
    assert_eq!(me(&[("authorization", &good.replace("Bearer", "bearer"))]).status, 200);
}

#[test]
fn token_of_another_key_and_one_whose_time_is_over_are_refused() {
    let desk = Desk::start();
    let alice = desk.control.call({
        let (store, id) = (desk.control.store().clone(), desk.alice.id.clone());
        async move { store.owner(&id).await.unwrap().unwrap() }
    });
    let now = desk.control.plane().clock.now();
    let me = |token: &str| {
        let bearer = format!("Bearer {token}");
        desk.control.ask("GET", "/v1/auth/me", &[("authorization", &bearer)], None)
    };
    let other = TokenKey::new(SecretBytes::new(vec![8; 32])).unwrap();
    let stranger = other.issue(&alice, Duration::from_secs(60), now);
    refused(&me(stranger.expose()), 401, "AUTH_TOKEN_INVALID");
    let over = desk.control.plane().config.token_key.issue(&alice, Duration::ZERO, now);
    refused(&me(over.expose()), 401, "AUTH_TOKEN_EXPIRED");
}

#[test]
fn cookie_serves_reading_and_changes_only_from_an_allowed_page() {
    let desk = with_dashboard();
    let cookie = format!("theme=dark; sigilum_session={}", desk.alice.token);
    let ask = |method: &str, path: &str, origin: Option<&str>| {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(origin.map(|origin| ("origin", origin)));
        desk.control.ask(method, path, &headers, None)
    };
    assert_eq!(ask("GET", "/v1/auth/me", None).json()["namespace"], "alice");
    for foreign in [None, Some("null"), Some("https://evil.example"), Some("https://dash.example.evil")] {
        refused(&ask("POST", "/v1/auth/logout", foreign), 403, "ORIGIN_FORBIDDEN");
        refused(&ask("DELETE", "/v1/auth/account", foreign), 403, "ORIGIN_FORBIDDEN");
    }
    let out = ask("POST", "/v1/auth/logout", Some(ALLOWED));
    assert_eq!(out.status, 204);
    let cleared = out.header("set-cookie").unwrap();
    assert!(cleared.starts_with("sigilum_session=;") && cleared.contains("Max-Age=0"), "{cleared}");
    assert!(cleared.contains("HttpOnly") && cleared.contains("SameSite=Strict"), "{cleared}");
}

#[test]
fn bearer_needs_no_origin_since_no_page_sends_it_unasked() {
    let desk = with_dashboard();
    assert_eq!(desk.control.as_owner(&desk.alice, "POST", "/v1/auth/logout", None).status, 204);
}

#[test]
fn settings_change_in_part_and_unknown_names_are_refused() {
    let desk = Desk::start();
    let patch = |body| desk.control.as_owner(&desk.alice, "PATCH", "/v1/auth/settings", Some(&body));
    let changed = patch(json!({ "maxPendingLimit": 3, "defaultScopes": ["GET /v1/**"] }));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let settings = desk.get(&desk.alice, "/v1/auth/me").json()["settings"].clone();
    assert_eq!(settings, changed.json());
    assert_eq!(settings["maxPendingLimit"], 3);
    assert_eq!(settings["autoExpire"], true);
    assert_eq!(settings["defaultScopes"], json!(["GET /v1/**"]));
    let wrong = refused(&patch(json!({ "maxPendingLimt": 3 })), 400, "FIELD_INVALID");
    assert!(wrong.contains("did you mean `maxPendingLimit`?"), "{wrong}");
    let wrong = refused(&patch(json!({ "defaultScopes": ["*", "fetch"] })), 400, "FIELD_INVALID");
    assert!(wrong.starts_with("defaultScopes[1]: "), "{wrong}");
    refused(&patch(json!([])), 400, "FIELD_INVALID");
    assert_eq!(desk.get(&desk.alice, "/v1/auth/me").json()["settings"], settings);
}

#[test]
fn deleted_account_leaves_nothing_that_opens() {
    let desk = Desk::start();
    let claim = desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let gone = desk.control.as_owner(&desk.acme, "DELETE", "/v1/auth/account", None);
    assert_eq!(gone.status, 204, "{}", gone.text());
    refused(&desk.get(&desk.acme, "/v1/auth/me"), 401, "AUTH_TOKEN_INVALID");
    let page = desk.service_get("/v1/namespaces/claims?service=openai");
    refused(&page, 401, "SERVICE_KEY_INVALID");
    let revoked = desk.get(&desk.alice, &format!("/v1/claims/{claim}")).json();
    assert_eq!(revoked["status"], "revoked");
}
