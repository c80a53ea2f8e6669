//! Services and their API keys.

use serde_json::{Value, json};

use super::api_scene::{Desk, refused};
use crate::support::agent::Agent;
use crate::support::control::Control;

const NOBODY: &str = "/v1/services/svc_00000000000000000000000000000000";

#[test]
fn service_is_made_listed_changed_and_removed() {
    let desk = Desk::start();
    let new = json!({ "slug": "linear", "name": "Linear", "domain": "linear.app", "description": "issues",
        "mode": "gateway", "upstream_url": "https://api.linear.app" });
    let made = desk.post(&desk.acme, "/v1/services", &new);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    for (field, value) in new.as_object().unwrap() {
        assert_eq!(made[field], *value, "{field}");
    }
    assert_eq!(made["namespace"], "acme");
    let path = format!("/v1/services/{}", made["id"].as_str().unwrap());
    assert_eq!(desk.get(&desk.acme, &path).json(), made);
    let slugs: Vec<Value> = desk.get(&desk.acme, "/v1/services").json()["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["slug"].clone())
        .collect();
    assert_eq!(slugs, ["openai", "linear"]);
    let patch = json!({ "name": "Linear, Inc.", "upstream_url": null });
    let changed = desk.control.as_owner(&desk.acme, "PATCH", &path, Some(&patch)).json();
    assert_eq!((&changed["name"], &changed["upstream_url"]), (&json!("Linear, Inc."), &Value::Null));
    assert_eq!((&changed["domain"], &changed["mode"]), (&made["domain"], &made["mode"]));
    assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &path, None).status, 204);
    refused(&desk.get(&desk.acme, &path), 404, "SERVICE_NOT_FOUND");
}

#[test]
fn service_of_a_slug_alone_has_its_defaults() {
    let desk = Desk::start();
    let made = desk.post(&desk.acme, "/v1/services", &json!({ "slug": "native-one" })).json();
    assert_eq!((&made["name"], &made["domain"]), (&json!("native-one"), &json!("localhost")));
    assert_eq!((&made["mode"], &made["description"]), (&json!("native"), &json!("")));
}

#[test]
fn faulty_services_are_refused_with_the_field() {
    let desk = Desk::start();
    for (body, beginning) in [
        (json!({}), "slug: is needed"),
        (json!({ "slug": "Open AI" }), "slug: "),
        (json!({ "slug": "ab" }), "slug: "),
        (json!({ "slug": "fine-slug", "mode": "proxy" }), "mode: takes native or gateway"),
        (json!({ "slug": "fine-slug", "name": "" }), "name: "),
        (json!({ "slug": "fine-slug", "name": "a\u{7}b" }), "name: "),
        (json!({ "slug": "fine-slug", "domain": "a".repeat(254) }), "domain: "),
        (json!({ "slug": "fine-slug", "upstream_url": "https://u:p@h.example/" }), "upstream_url: "),
        (json!({ "slug": "fine-slug", "upstream_url": "file:///etc/passwd" }), "upstream_url: "),
        (json!({ "slug": "fine-slug", "slog": 1 }), "slog: unknown field; did you mean `slug`?"),
        (json!("fine-slug"), "the body takes an object"),
    ] {
        let sentence = refused(&desk.post(&desk.acme, "/v1/services", &body), 400, "FIELD_INVALID");
        assert!(sentence.starts_with(beginning), "{body}: {sentence}");
    }
    refused(&desk.post(&desk.acme, "/v1/services", &json!({ "slug": "openai" })), 409, "SERVICE_EXISTS");
    refused(&desk.get(&desk.acme, "/v1/services/openai"), 400, "FIELD_INVALID");
    refused(&desk.get(&desk.acme, NOBODY), 404, "SERVICE_NOT_FOUND");
}

#[test]
fn another_owner_s_services_and_keys_are_not_there() {
    let desk = Desk::start();
    let path = format!("/v1/services/{}", desk.openai.id);
    let key = format!("{path}/keys/{}", desk.openai.key_id);
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("GET", format!("{path}/keys")),
        ("POST", format!("{path}/keys")),
        ("DELETE", key),
    ] {
        refused(&desk.control.as_owner(&desk.alice, method, &path, None), 404, "SERVICE_NOT_FOUND");
    }
    let change = json!({ "name": "mine" });
    let changed = desk.control.as_owner(&desk.alice, "PATCH", &path, Some(&change));
    refused(&changed, 404, "SERVICE_NOT_FOUND");
    // The same slug of another owner is another service.
    assert_eq!(desk.post(&desk.alice, "/v1/services", &json!({ "slug": "openai" })).status, 201);
}

#[test]
fn key_is_shown_once_and_kept_as_its_digest() {
    let desk = Desk::start();
    let keys = format!("/v1/services/{}/keys", desk.openai.id);
    let listed = desk.get(&desk.acme, &keys);
    let entry = &listed.json()["keys"][0];
    assert_eq!(entry["prefix"].as_str().unwrap(), &desk.openai.key[..12]);
    assert_eq!((&entry["name"], &entry["all_services"]), (&json!("default"), &json!(false)));
    assert!(!listed.text().contains(&desk.openai.key));
    let file = std::fs::read(desk.control.directory().join("sigilum.db")).unwrap();
    let held = |needle: &str| file.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(!held(&desk.openai.key[8..]), "the database holds the key itself");
}

#[test]
fn revoked_key_opens_nothing() {
    let desk = Desk::start();
    assert_eq!(desk.service_get("/v1/namespaces/claims?service=openai").status, 200);
    let key = format!("/v1/services/{}/keys/{}", desk.openai.id, desk.openai.key_id);
    assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &key, None).status, 204);
    refused(&desk.service_get("/v1/namespaces/claims?service=openai"), 401, "SERVICE_KEY_INVALID");
    refused(&desk.control.as_owner(&desk.acme, "DELETE", &key, None), 404, "SERVICE_KEY_NOT_FOUND");
}

#[test]
fn keys_and_services_end_at_their_limits() {
    let desk = Desk::over(Control::with(|config| {
        config.limits.keys_per_service = 2;
        config.limits.services_per_owner = 2;
    }));
    let keys = format!("/v1/services/{}/keys", desk.openai.id);
    let key = || desk.control.as_owner(&desk.acme, "POST", &keys, None);
    let second = key().json();
    let sentence = refused(&key(), 409, "LIMIT_REACHED");
    assert!(sentence.contains("limited to 2"), "{sentence}");
    let second = format!("{keys}/{}", second["id"].as_str().unwrap());
    assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &second, None).status, 204);
    assert_eq!(key().status, 201);
    assert_eq!(desk.post(&desk.acme, "/v1/services", &json!({ "slug": "second" })).status, 201);
    refused(&desk.post(&desk.acme, "/v1/services", &json!({ "slug": "third-one" })), 409, "LIMIT_REACHED");
}

#[test]
fn claims_that_go_with_their_service_or_namespace_are_counted_as_revoked() {
    let desk = Desk::start();
    let revoked = || {
        let text = desk.control.plane().metrics.render();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("sigilum_control_claims_total{event=\"revoked\"} "));
        count.unwrap().parse::<u64>().unwrap()
    };
    desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    desk.control.submit(&Agent::new("alice"), &desk.openai);
    let linear = desk.control.service(&desk.acme, "linear");
    desk.control.submit(&desk.agent, &linear);
    let path = format!("/v1/services/{}", desk.openai.id);
    assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &path, None).status, 204);
    assert_eq!(revoked(), 2);
    assert_eq!(desk.control.as_owner(&desk.alice, "DELETE", "/v1/auth/account", None).status, 204);
    assert_eq!(revoked(), 3);
}

#[test]
fn service_is_made_with_its_webhook_or_not_at_all() {
    let desk = Desk::start();
    let asked = |url: &str| {
        json!({ "slug": "with-hook", "webhook": { "url": url, "secret": "sixteen characters!",
            "events": ["request.submitted"] } })
    };
    let wrong =
        refused(&desk.post(&desk.acme, "/v1/services", &asked("ftp://h.example/")), 400, "FIELD_INVALID");
    assert!(wrong.starts_with("webhook.url: "), "{wrong}");
    let made = desk.post(&desk.acme, "/v1/services", &asked("http://127.0.0.1:9/hook"));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["webhook"]["url"], "http://127.0.0.1:9/hook");
    let path = format!("/v1/services/{}/webhooks", made["id"].as_str().unwrap());
    assert_eq!(desk.get(&desk.acme, &path).json()["webhooks"][0]["id"], made["webhook"]["id"]);
    // A slug that is taken is found before anybody looks up where the webhook leads.
    refused(&desk.post(&desk.acme, "/v1/services", &asked("ftp://h.example/")), 409, "SERVICE_EXISTS");
    let full = Desk::over(Control::with(|config| config.limits.webhooks_per_service = 0));
    refused(&full.post(&full.acme, "/v1/services", &asked("http://127.0.0.1:9/hook")), 409, "LIMIT_REACHED");
    assert_eq!(full.get(&full.acme, "/v1/services").json()["services"].as_array().unwrap().len(), 1);
}
