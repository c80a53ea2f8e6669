//! Secrets that are due to be replaced: let through with a warning, or refused.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::scene::{CONNECTION, Scene, assert_refused};
use crate::support::upstream::{Reply, Upstream};

/// A connection whose secret lies in a file that was last changed so many days ago, and is due every 30 days.
fn aged(days: u64, rotation: Value) -> Scene {
    Scene::before(Upstream::answering(Reply::ok("")), |setup, url| {
        let file = setup.directory().join("secret");
        std::fs::write(&file, "sk-old-enough").unwrap();
        let changed = SystemTime::now() - Duration::from_secs(days * 86_400);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(changed).unwrap();
        let auth = json!({ "mode": "bearer", "secret": format!("file:{}", file.display()) });
        let provider =
            json!({ "id": CONNECTION, "base_url": url, "auth": auth, "rotation_interval_days": 30 });
        setup.provider(provider).set("rotation", rotation)
    })
}

#[test]
fn secret_that_is_due_warns_and_passes() {
    let scene = aged(40, json!({ "enforcement": "warn" }));
    let answer = scene.get("/proxy/openai/");
    assert_eq!(answer.status, 200);
    let warning = answer.header("x-sigilum-rotation-warning").unwrap();
    assert!(warning.starts_with("the provider's secret is due to be replaced since 20"), "{warning}");
}

#[test]
fn secret_past_its_grace_is_not_used() {
    let scene = aged(40, json!({ "enforcement": "block", "grace": "5d" }));
    assert_refused("blocked", &scene.get("/proxy/openai/"), 403, "ROTATION_REQUIRED", "");
    scene.upstream.assert_zero_bytes();
}

#[test]
fn grace_and_fresh_secrets_pass() {
    let within = aged(40, json!({ "enforcement": "block", "grace": "20d" }));
    let answer = within.get("/proxy/openai/");
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-sigilum-rotation-warning").is_some());
    let fresh = aged(3, json!({ "enforcement": "block" }));
    let answer = fresh.get("/proxy/openai/");
    assert_eq!((answer.status, answer.header("x-sigilum-rotation-warning")), (200, None));
}

#[test]
fn replaced_file_ends_the_refusal() {
    let scene = aged(40, json!({ "enforcement": "block" }));
    assert_refused("blocked", &scene.get("/proxy/openai/"), 403, "ROTATION_REQUIRED", "");
    std::fs::write(scene.gateway.directory().join("secret"), "sk-new").unwrap();
    crate::support::eventually("the new secret", || {
        (scene.get("/proxy/openai/").status == 200).then_some(())
    });
}
