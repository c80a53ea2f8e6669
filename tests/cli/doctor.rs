//! What is wrong with an installation, and what mends it.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use super::household::Household;
use super::stage::{end, mode};
use crate::support::held_port::HeldPort;

/// The findings of one check.
fn findings(house: &Household, flags: &[&str], check: &str) -> (Option<i32>, Vec<Value>) {
    // Without a stack it would ask the control plane of managed mode, which is far from this machine.
    let mut doctor = house.command(&[&["doctor", "--json"], flags].concat());
    let ended = end(doctor.env("SIGILUM_API_URL", "http://127.0.0.1:1"));
    let all: Vec<Value> = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended.code, all.into_iter().filter(|finding| finding["check"] == check).collect())
}

#[test]
fn directory_without_a_stack_is_told_what_to_type() {
    let house = Household::new();
    let ended = end(house.command(&["doctor"]).env("SIGILUM_MODE", "oss-local"));
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
fn files_that_were_not_looked_at_are_told() {
    let house = Household::new();
    let mut directory = house.stage.path(".sigilum-workspace");
    for _ in 0..10 {
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        directory.push("d");
    }
    let (_, found) = findings(&house, &[], "permissions");
    assert_eq!(
        (&found[0]["status"], &found[0]["fix"]),
        (&"warn".into(), &"chmod -R go= .sigilum-workspace".into()),
        "{found:?}"
    );
    assert!(found[0]["detail"].as_str().unwrap().contains("more were not looked at"), "{found:?}");
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

#[test]
fn port_of_a_control_plane_that_serves_alone_is_not_taken_by_another_program() {
    let (house, port) = (Household::new(), HeldPort::new());
    let api = port.address().to_string();
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    house.done(&[&["up", "--daemon", "--api-listen", &api], &free[..]].concat());
    house.done(&["down"]);
    house.done(&["api", "start", "--daemon", "--listen", &api]);
    let (_, control) = findings_as_is(&house, "control plane");
    assert_eq!(control[0]["status"], "ok", "{control:?}");
    let (_, ports) = findings_as_is(&house, "ports");
    assert!(
        !ports.iter().any(|finding| finding["detail"].as_str().unwrap().contains("control plane")),
        "{ports:?}"
    );
}

/// The findings of one check, with nothing said.
fn findings_as_is(house: &Household, check: &str) -> (Option<i32>, Vec<Value>) {
    let ended = house.run(&["doctor", "--json"]);
    let all: Vec<Value> = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended.code, all.into_iter().filter(|finding| finding["check"] == check).collect())
}

#[test]
fn gateway_that_wants_an_admin_token_is_given_it_and_without_one_does_not_tell() {
    let house = Household::new();
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(house.configuration(&json!([]))).unwrap()).unwrap();
    config["admin"] =
        json!({ "address": "127.0.0.1:0", "access": "token", "token": "env:GATEWAY_ADMIN_TOKEN" });
    house.stage.file("gateway.yaml", config.to_string().as_bytes());
    let mut start = house.command(&["gateway", "start", "--config", "gateway.yaml", "--daemon"]);
    let started = end(start.env("GATEWAY_ADMIN_TOKEN", "letmein"));
    assert_eq!(started.code, Some(0), "{started:?}");
    for (token, status) in [("letmein", "ok"), ("", "warn"), ("wrong", "warn")] {
        let mut doctor = house.command(&["doctor", "--json", "--config", "gateway.yaml"]);
        doctor.envs([("GATEWAY_ADMIN_TOKEN", token), ("SIGILUM_API_URL", "http://127.0.0.1:1")]);
        let ended = end(&mut doctor);
        let all: Vec<Value> = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        let of = |check: &str| all.iter().find(|finding| finding["check"] == check).unwrap();
        assert_eq!(
            (&of("vault")["status"], &of("admin")["status"]),
            (&status.into(), &"ok".into()),
            "{all:?}"
        );
        assert_eq!(of("gateway")["status"], "ok", "{all:?}");
    }
}

#[test]
fn directory_without_a_stack_is_not_told_to_start_one_in_managed_mode() {
    let house = Household::new();
    let nobody = HeldPort::new();
    let mut doctor = house.command(&["doctor"]);
    doctor.env("SIGILUM_API_URL", nobody.origin()).env("GATEWAY_ADMIN_URL", nobody.origin());
    let ended = end(&mut doctor);
    assert!(!ended.out.contains("sigilum up") && !ended.out.contains("8787"), "{ended:?}");
    assert!(ended.out.contains("[ok] workspace: none is needed: the mode is managed\n"), "{ended:?}");
    assert!(
        ended.out.contains(&format!("[fail] control plane: {} cannot be reached: ", nobody.origin())),
        "{ended:?}"
    );
    assert!(ended.out.contains("  type: sigilum gateway start --daemon\n"), "{ended:?}");
}

#[test]
fn what_is_to_be_typed_about_another_directory_begins_with_the_way_there() {
    let house = Household::new();
    let there = house.stage.path("there");
    std::fs::create_dir(&there).unwrap();
    std::fs::write(house.stage.path("gateway.yaml"), "providers: 7\n").unwrap();
    let args = ["doctor", "--workspace", "there", "--config", "gateway.yaml", "--home", "home"];
    let ended = end(house.command(&args).env("SIGILUM_MODE", "oss-local"));
    let there = there.canonicalize().unwrap();
    assert!(ended.out.contains(&format!("  type: cd {} && sigilum up\n", there.display())), "{ended:?}");
    assert!(ended.out.contains("gateway.yaml has "), "{ended:?}");
    let home = house.stage.path("home");
    assert!(ended.out.contains(&format!("no identity is in {}", home.display())), "{ended:?}");
}
