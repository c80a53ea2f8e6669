//! Secrets sealed to the gateway, and its master key changed while it runs.

use serde_json::{Value, json};
use sigilum::protocol::sealed::{Destination, SealingPublicKey};
use zeroize::Zeroizing;

use super::admin_scene::{CANARY, Desk, refused};
use crate::support::random;

fn seal(gateway: &Value, connection: &str, name: &str, secret: &str) -> Value {
    let key: SealingPublicKey = gateway["sealing_key"]["public_key"].as_str().unwrap().parse().unwrap();
    assert_eq!(gateway["sealing_key"]["id"], key.id());
    let destination = Destination {
        gateway_id: gateway["id"].as_str().unwrap(),
        connection: Some(&connection.parse().unwrap()),
        secret: &name.parse().unwrap(),
    };
    let sealed = key.seal(secret, destination, Zeroizing::new(random())).unwrap();
    json!({ "sealed": sealed })
}

#[test]
fn sealed_secret_is_taken_where_a_plain_one_is() {
    let desk = Desk::start();
    let gateway = desk.get("/api/admin/gateway").json();
    let mut body = desk.openai("openai");
    body["secrets"]["api_key"] = seal(&gateway, "openai", "api_key", CANARY);
    let made = desk.post("/api/admin/connections", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let tested = desk.ask("POST", "/api/admin/connections/openai/test", None).json();
    assert_eq!(tested["status"], "pass", "{tested}");
    let sent = desk.upstream.requests().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    let key = json!({ "key": seal(&gateway, "openai", "service_api_key", "sk_0123456789") });
    assert_eq!(desk.ask("PUT", "/api/admin/service-api-keys/openai", Some(&key)).status, 200);
}

#[test]
fn secret_sealed_for_another_place_is_refused() {
    let desk = Desk::start();
    let gateway = desk.get("/api/admin/gateway").json();
    let mut elsewhere = gateway.clone();
    elsewhere["id"] = json!("did:sigilum:another");
    for sealed in [
        seal(&gateway, "other", "api_key", CANARY),
        seal(&gateway, "openai", "other", CANARY),
        seal(&elsewhere, "openai", "api_key", CANARY),
    ] {
        let mut body = desk.openai("openai");
        body["secrets"]["api_key"] = sealed;
        refused(&desk.post("/api/admin/connections", &body), 400, "SEALED_SECRET_INVALID");
    }
}

#[test]
fn master_key_is_changed_while_secrets_are_in_use() {
    let data = tempfile::tempdir().unwrap();
    let desk = Desk::with(|setup| setup.set("data_dir", data.path().to_str().unwrap()));
    let made = desk.add("openai");
    let file = data.path().join("new.key");
    std::fs::write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let reference = format!("file:{}", file.display());
    let rekeyed = desk.post("/api/admin/vault/rekey", &json!({ "master_key": reference }));
    assert_eq!(rekeyed.status, 200, "{}", rekeyed.text());
    assert_eq!(rekeyed.json()["master_key_id"].as_str().unwrap().len(), 16);
    assert_eq!(desk.get("/api/admin/connections/openai").json(), made);
    desk.gateway.stop();
    let desk = Desk::with(|setup| {
        setup.set("data_dir", data.path().to_str().unwrap()).set("vault.master_key", reference)
    });
    assert_eq!(desk.get("/api/admin/connections/openai").json(), made);
}

#[test]
fn master_key_is_taken_sealed_or_by_reference_and_never_as_it_is() {
    let desk = Desk::start();
    let path = "/api/admin/vault/rekey";
    let key = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2E=";
    let sentence = refused(&desk.post(path, &json!({ "master_key": key })), 400, "FIELD_INVALID");
    assert!(!sentence.contains("Y2Fu"), "{sentence}");
    refused(&desk.post(path, &json!({})), 400, "FIELD_INVALID");
    let both = json!({ "master_key": "env:A", "passphrase": "env:B" });
    refused(&desk.post(path, &both), 400, "FIELD_INVALID");
    refused(&desk.post(path, &json!({ "master_key": "env:NOT_SET" })), 400, "MASTER_KEY_INVALID");
    refused(&desk.post(path, &json!({ "master_key": "file:/nonexistent" })), 400, "MASTER_KEY_INVALID");
    let gateway = desk.get("/api/admin/gateway").json();
    let short = json!({ "master_key": seal(&gateway, "vault", "master_key", "c2hvcnQ=") });
    refused(&desk.post(path, &short), 400, "MASTER_KEY_INVALID");
    let whole = json!({ "master_key": seal(&gateway, "vault", "master_key", key) });
    let rekeyed = desk.post(path, &whole);
    assert_eq!(rekeyed.status, 200, "{}", rekeyed.text());
    desk.gateway.assert_silent_about(key);
}
