//! What is wrong with an installation, and what mends it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::household::Household;
use super::stage::mode;

/// The findings of one check.
fn findings(house: &Household, flags: &[&str], check: &str) -> (Option<i32>, Vec<Value>) {
    let ended = house.run(&[&["doctor", "--json"], flags].concat());
    let all: Vec<Value> = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended.code, all.into_iter().filter(|finding| finding["check"] == check).collect())
}

#[test]
fn directory_without_a_stack_is_told_what_to_type() {
    let house = Household::new();
    let ended = house.run(&["doctor"]);
    assert_eq!(ended.code, Some(1), "without an identity nothing can be signed: {ended:?}");
    assert!(
        ended
            .out
            .starts_with("[warn] workspace: there is no local stack in this directory\n  type: sigilum up\n")
    );
    assert!(ended.out.contains("[fail] identity: no identity is in "), "{ended:?}");
    let (_, identity) = findings(&house, &[], "identity");
    assert_eq!(
        (&identity[0]["status"], &identity[0]["fix"]),
        (&"fail".into(), &"sigilum init <namespace>".into())
    );
}

#[test]
fn files_that_others_may_read_are_told_and_closed() {
    let house = Household::new();
    let workspace = house.stage.path(".sigilum-workspace");
    std::fs::create_dir(&workspace).unwrap();
    let key = workspace.join("service-api-key-openai");
    std::fs::write(&key, "sk_live_canary").unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&workspace, Permissions::from_mode(0o755)).unwrap();
    let (code, found) = findings(&house, &[], "permissions");
    assert_eq!((code, &found[0]["status"]), (Some(1), &"fail".into()));
    assert_eq!(found[0]["detail"], "others have a right to .sigilum-workspace and 1 more");
    let (_, found) = findings(&house, &["--fix"], "permissions");
    assert_eq!(found[0]["status"], "ok", "{found:?}");
    assert_eq!((mode(&workspace), mode(&key)), (0o700, 0o600));
}

#[test]
fn traces_of_a_process_that_is_gone_are_told_and_removed() {
    let house = Household::new();
    let run = house.stage.path(".sigilum-workspace/run");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("up.pid"), format!("{}\n", std::process::id())).unwrap();
    let (_, found) = findings(&house, &[], "processes");
    assert_eq!((&found[0]["status"], &found[0]["fix"]), (&"warn".into(), &"sigilum doctor --fix".into()));
    findings(&house, &["--fix"], "processes");
    assert!(!run.join("up.pid").exists());
}

#[test]
fn faulty_configuration_and_a_broken_workspace_are_failures() {
    let house = Household::new();
    let file = house.stage.file("gateway.yaml", b"providers: 7\n");
    let (code, found) = findings(&house, &["--config", &file], "configuration");
    assert_eq!((code, &found[0]["status"]), (Some(1), &"fail".into()));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(house.stage.path(".sigilum-workspace")).unwrap();
    house.stage.file(".sigilum-workspace/workspace.json", b"{");
    let (_, found) = findings(&house, &[], "workspace");
    assert_eq!(found[0]["status"], "fail");
}

#[test]
fn running_stack_is_well_and_one_that_is_gone_is_missed() {
    let house = Household::new();
    house.up(&["--demo"]);
    let ended = house.run(&["doctor"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in
        ["[ok] control plane: ", "[ok] gateway: ", "[ok] admin: ", "[ok] clock: ", "[ok] vault: it is open"]
    {
        assert!(ended.out.contains(line), "{line} is missing:\n{}", ended.out);
    }
    let workspace = std::fs::read(house.stage.path(".sigilum-workspace/workspace.json")).unwrap();
    house.done(&["down"]);
    std::fs::write(house.stage.path(".sigilum-workspace/workspace.json"), workspace).unwrap();
    let (code, found) = findings(&house, &[], "control plane");
    assert_eq!(
        (code, &found[0]["status"], &found[0]["fix"]),
        (Some(1), &"fail".into(), &"sigilum up".into())
    );
}
