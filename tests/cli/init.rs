//! `sigilum init`, and which identity is used.

use sigilum::identity::Home;

use super::stage::{Stage, mode};

#[test]
fn init_makes_an_identity_for_the_owner_alone() {
    let stage = Stage::empty();
    let ended = stage.run(&["init", "Alice"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let identity = Home::at(&stage.home()).load(&"alice".parse().unwrap()).unwrap();
    let file = stage.home().join("identities/alice/identity.json");
    assert_eq!(
        ended.out,
        format!(
            "[ok] Identity ready.\nnamespace: alice\ndid: did:sigilum:alice\nkey_id: {}\npublic_key: {}\nfile: {}\n",
            identity.key_id(),
            identity.public_key(),
            file.display()
        )
    );
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&stage.home().join("identities")), 0o700);
}

#[test]
fn second_init_is_refused_and_force_makes_a_new_key() {
    let stage = Stage::with_identity();
    let file = stage.home().join("identities/alice/identity.json");
    let before = std::fs::read(&file).unwrap();
    let ended = stage.run(&["init", "alice"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.starts_with("error: ") && ended.err.contains("--force"), "{ended:?}");
    assert_eq!(ended.out, "");
    assert_eq!(std::fs::read(&file).unwrap(), before);

    assert_eq!(stage.run(&["init", "alice", "--force"]).code, Some(0));
    assert_ne!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn init_prints_json_and_never_the_private_key() {
    let stage = Stage::empty();
    let ended = stage.run(&["init", "alice", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(json["namespace"], "alice");
    assert_eq!(json["did"], "did:sigilum:alice");
    let record = std::fs::read_to_string(stage.home().join("identities/alice/identity.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(json["public_key"], record["publicKey"]);
    assert!(!ended.out.contains(record["privateKey"].as_str().unwrap()));
}

#[test]
fn name_that_is_no_namespace_is_wrong_usage() {
    let stage = Stage::empty();
    let ended = stage.run(&["init", "a_b"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("a to z, 0 to 9"), "{ended:?}");
    assert!(!stage.home().exists());
}

#[test]
fn no_identity_and_several_are_errors_that_say_what_to_type() {
    let stage = Stage::empty();
    let sign = ["sign", "--url", "http://localhost/x"];
    let ended = stage.run(&sign);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("sigilum init"), "{ended:?}");

    assert_eq!(stage.run(&["init", "alice"]).code, Some(0));
    assert_eq!(stage.run(&["init", "bob"]).code, Some(0));
    let ended = stage.run(&sign);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for part in ["alice", "bob", "--namespace"] {
        assert!(ended.err.contains(part), "{part} is not in {ended:?}");
    }
    let ended = stage.run(&["--namespace", "bob", "sign", "--url", "http://localhost/x"]);
    assert!(ended.out.contains("sigilum-namespace: bob\n"), "{ended:?}");
    let by_variable = super::stage::end(stage.command(&sign).env("SIGILUM_NAMESPACE", "alice"));
    assert!(by_variable.out.contains("sigilum-namespace: alice\n"), "{by_variable:?}");
}
