//! `sigilum export` and `import`: from one control plane to another.

use std::fs;

use serde_json::{Value, json};

use super::owner_scene::{OWNER, Scene};
use super::stage::{Ended, end, mode};
use sigilum::identity::Home;

const WORDS: (&str, &str) = ("WORDS", "correct horse battery");

/// A scene whose workspace has an identity, a service, a connection and a claim.
fn source() -> (Scene, crate::support::gateway::Gateway) {
    let (scene, gateway) = Scene::with_gateway();
    assert_eq!(scene.run(&["init", OWNER]).code, Some(0));
    let args = [
        "service",
        "add",
        "--service-slug",
        "linear",
        "--mode",
        "gateway",
        "--upstream-base-url",
        "https://api.linear.app",
        "--upstream-secret",
        "lin-canary",
    ];
    assert_eq!(scene.run(&args).code, Some(0));
    scene.plane.claim("linear", 1);
    (scene, gateway)
}

fn record(scene: &Scene) -> Value {
    let file = scene.stage.home().join("identities/johndee/identity.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn export(scene: &Scene, file: &str) -> Ended {
    let args = ["export", "--output", file, "--include-keys", "--passphrase-env", "WORDS"];
    scene.run_with(&args, &[WORDS])
}

#[test]
fn export_without_keys_holds_registrations_and_no_secret() {
    let (scene, _gateway) = source();
    let ended = scene.run(&["export"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let json: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (&json["identities"][0]["namespace"], &json["services"][0]["slug"]),
        (&json!(OWNER), &json!("linear"))
    );
    assert_eq!(json["connections"][0]["credential_keys"], json!(["access_token"]));
    assert_eq!(
        (&json["claims"][0]["status"], &json["claims"][0]["service"]),
        (&json!("pending"), &json!("linear"))
    );
    let private = record(&scene)["privateKey"].as_str().unwrap().to_owned();
    assert!(
        !ended.out.contains(&private) && !ended.out.contains("canary") && !ended.out.contains("sk_live_")
    );
}

#[test]
fn sealed_export_moves_to_another_control_plane() {
    let (scene, _gateway) = source();
    let exported = export(&scene, "move");
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert_eq!(
        exported.out,
        "[ok] Exported.\nfile: move\nidentities: 1\nprivate_keys: true\nservices: 1\nconnections: 1\nclaims: 1\n"
    );
    let file = scene.stage.path("move");
    assert_eq!(mode(&file), 0o600);
    let bytes = fs::read(&file).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("linear"));
    let other = Scene::start();
    fs::copy(&file, other.stage.path("move")).unwrap();
    let import = ["import", "move", "--passphrase-env", "WORDS"];
    let planned = other.run_with(&[&import[..], &["--dry-run"]].concat(), &[WORDS]);
    assert!(planned.out.starts_with("[ok] Nothing was changed; an import would do this:\nidentity johndee: made\nservice linear: registered\n"), "{planned:?}");
    assert!(!other.stage.home().exists());
    assert_eq!(other.json(&["service", "list"])["services"], json!([]));
    let done = other.run_with(&import, &[WORDS]);
    assert!(
        done.out.starts_with(
            "[ok] Imported.\nidentity johndee: made\nservice linear: registered\nconnection linear: left; "
        ),
        "{done:?}"
    );
    assert!(
        done.out.contains(
            "sigilum connection add linear --name linear --protocol http --base-url https://api.linear.app"
        ),
        "{done:?}"
    );
    assert!(done.out.contains("--secret-env access_token=NAME\nclaim cl_"), "{done:?}");
    let loaded = Home::at(&other.stage.home()).load(&OWNER.parse().unwrap()).unwrap();
    assert_eq!(loaded.public_key().to_string(), record(&scene)["publicKey"].as_str().unwrap());
    assert_eq!(record(&other), record(&scene));
    let again = other.run_with(&import, &[WORDS]);
    assert!(again.out.contains("identity johndee: unchanged\nservice linear: unchanged\n"), "{again:?}");
}

#[test]
fn identity_that_stands_is_replaced_only_with_force() {
    let (scene, _gateway) = source();
    assert_eq!(export(&scene, "move").code, Some(0));
    let other = Scene::start();
    assert_eq!(other.run(&["init", OWNER]).code, Some(0));
    let before = record(&other);
    fs::copy(scene.stage.path("move"), other.stage.path("move")).unwrap();
    let import = ["import", "move", "--passphrase-env", "WORDS"];
    let refused = other.run_with(&import, &[WORDS]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("nothing was changed\nhint: --force replaces it"), "{refused:?}");
    assert_eq!(record(&other), before);
    assert_eq!(other.json(&["service", "list"])["services"], json!([]));
    let forced = other.run_with(&[&import[..], &["--force", "--json"]].concat(), &[WORDS]);
    let steps: Value = serde_json::from_str(&forced.out).unwrap();
    assert_eq!(
        steps["steps"][0],
        json!({ "kind": "identity", "name": OWNER, "action": "replaced", "note": null })
    );
    assert_eq!(record(&other), record(&scene));
}

#[test]
fn identity_without_its_private_key_is_said_to_be_left_out() {
    let (scene, _gateway) = source();
    assert_eq!(scene.run(&["export", "--output", "plain", "--only", "identities"]).code, Some(0));
    let other = Scene::start();
    fs::copy(scene.stage.path("plain"), other.stage.path("plain")).unwrap();
    let ended = other.run(&["import", "plain"]);
    assert_eq!(
        ended.out,
        "[ok] Imported.\nidentity johndee: skipped; its private key is not in the file; export with --include-keys\n"
    );
    assert!(!other.stage.home().exists());
}

#[test]
fn file_that_is_wrong_in_any_way_changes_nothing() {
    let (scene, _gateway) = source();
    assert_eq!(export(&scene, "move").code, Some(0));
    let twice = export(&scene, "move");
    assert!(twice.code == Some(1) && twice.err.contains("is there already"), "{twice:?}");
    let other = Scene::start();
    let sealed = fs::read(scene.stage.path("move")).unwrap();
    let mut altered = sealed.clone();
    *altered.last_mut().unwrap() ^= 1;
    other.stage.file("altered", &altered);
    other.stage.file("cut", &sealed[..80]);
    other.stage.file("move", &sealed);
    other.stage.file("other", b"{\"format\":\"something\"}");
    for (file, words, code, says) in [
        ("altered", "correct horse battery", 1, "damaged"),
        ("cut", "correct horse battery", 1, "does not begin as"),
        ("move", "wrong", 1, "passphrase is not the one"),
        ("other", "", 1, "is no export of `sigilum export`"),
        ("nowhere", "", 1, "cannot be read"),
    ] {
        let ended = other.run_with(&["import", file, "--passphrase-env", "WORDS"], &[("WORDS", words)]);
        assert_eq!(ended.code, Some(code), "{file}: {ended:?}");
        assert!(ended.err.contains(says), "{file}: {ended:?}");
    }
    let unsaid = other.run(&["import", "move"]);
    assert!(unsaid.code == Some(2) && unsaid.err.contains("--passphrase-env NAME"), "{unsaid:?}");
    assert!(!other.stage.home().exists());
}

#[test]
fn keys_want_a_file_and_a_passphrase() {
    let (scene, _gateway) = source();
    for wrong in [
        &["export", "--include-keys", "--passphrase-env", "WORDS"][..],
        &["export", "--include-keys", "--output", "x"],
        &["export", "--output", "x", "--passphrase-env", "WORDS"],
        &["export", "--only", "secrets"],
    ] {
        let ended = end(scene.command(wrong).env(WORDS.0, WORDS.1));
        assert_eq!(ended.code, Some(2), "{wrong:?}: {ended:?}");
    }
    assert!(!scene.stage.path("x").exists());
}

#[test]
fn parts_that_are_not_wanted_are_not_asked_for() {
    let (scene, gateway) = source();
    drop(gateway);
    let without = scene.run(&["export"]);
    assert_eq!(without.code, Some(4), "{without:?}");
    let some = scene.run(&["export", "--only", "identities,services,claims"]);
    assert_eq!(some.code, Some(0), "{some:?}");
}
