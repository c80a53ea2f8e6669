//! What a directory that somebody else has made may not have the command line do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::owner_scene::{OWNER, command, token, write_workspace};
use super::stage::{Ended, Stage, end};
use crate::support::upstream::{Reply, Upstream};

/// An address of this machine's interfaces would be taken; this one is nobody's (RFC 5737).
const ELSEWHERE: &str = "http://192.0.2.1:8787";

fn workspace(stage: &Stage, change: &[(&str, Value)]) {
    write_workspace(stage, "http://127.0.0.1:1", "http://127.0.0.1:1");
    let file = stage.path(".sigilum-workspace/workspace.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (field, value) in change {
        json[field] = value.clone();
    }
    fs::write(&file, json.to_string()).unwrap();
}

fn refused(ended: &Ended, why: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("workspace.json") && ended.err.contains(why), "{ended:?}");
}

#[test]
fn owner_token_goes_to_no_control_plane_that_a_directory_names_elsewhere() {
    let stage = Stage::empty();
    // A proxy stands for what is elsewhere: it sees whatever is sent there.
    let spy = Upstream::answering(Reply::ok("{}"));
    let proxy = spy.url();
    workspace(&stage, &[("api_url", json!(ELSEWHERE))]);
    let token = token(OWNER, 600);
    for args in [&["claim", "list"][..], &["service", "list"], &["export"], &["status"]] {
        let mut command = command(&stage, args);
        command.envs([
            ("SIGILUM_OWNER_TOKEN", token.as_str()),
            ("http_proxy", &proxy),
            ("HTTP_PROXY", &proxy),
        ]);
        end(&mut command);
    }
    let mut list = command(&stage, &["claim", "list"]);
    refused(&end(list.env("SIGILUM_OWNER_TOKEN", &token)), "api_url is not on this machine");
    assert!(spy.requests().is_empty(), "{:?}", spy.requests());
}

#[test]
fn secret_and_admin_token_go_to_no_gateway_that_a_directory_names_elsewhere() {
    let stage = Stage::empty();
    workspace(&stage, &[("admin_url", json!("https://gateway.evil.example"))]);
    let mut set = command(
        &stage,
        &["service", "secret", "set", "--service-slug", "openai", "--upstream-secret-env", "KEY"],
    );
    let ended = end(set.envs([("KEY", "sk-canary"), ("GATEWAY_ADMIN_TOKEN", "canary")]));
    refused(&ended, "admin_url is not on this machine");
}

#[test]
fn directory_does_not_lead_to_the_keys_of_another_local_stack() {
    let stage = Stage::empty();
    let other = stage.path("other/.local");
    workspace(&stage, &[("data_dir", json!(other.to_str().unwrap()))]);
    refused(&end(&mut command(&stage, &["claim", "list"])), "data_dir is not in this directory");
    workspace(&stage, &[("home", json!("../elsewhere"))]);
    refused(&end(&mut command(&stage, &["claim", "list"])), "home is not in this directory");
}

#[test]
fn workspace_that_others_may_write_is_not_followed() {
    let stage = Stage::empty();
    workspace(&stage, &[]);
    let file = stage.path(".sigilum-workspace/workspace.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&end(&mut command(&stage, &["claim", "list"])), "has mode 0666");
}
