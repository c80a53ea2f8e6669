//! What a directory that somebody else has made may not have the command line do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::household::{FREE_PORTS, Household};
use super::owner_scene::{OWNER, command, token, write_workspace};
use super::stage::{Ended, Stage, end, mode};
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
fn links_in_the_places_of_a_stack_have_nothing_written_elsewhere() {
    for place in [
        ".sigilum-workspace/run/up.pid",
        ".sigilum-workspace/run/up.log",
        ".sigilum-workspace/workspace.json",
        ".local/api-data/sigilum.db",
        ".local/gateway-data/gateway.pid",
        ".local/gateway-data",
        ".sigilum-workspace",
    ] {
        for there in [true, false] {
            let house = Household::new();
            let key = house.stage.path("id_ed25519");
            if there {
                fs::write(&key, "a key\n").unwrap();
                fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
            }
            let link = house.stage.path(place);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&key, &link).unwrap();
            let up = [&["up"], &FREE_PORTS[..]].concat();
            let daemon = [&up[..], &["--daemon"]].concat();
            let login = ["auth", "login", "--mode", "oss-local", "--namespace", OWNER];
            let start = ["gateway", "start", "--mode", "oss-local", "--namespace", OWNER];
            for args in [&up[..], &daemon, &login, &start] {
                let ended = house.run(args);
                assert_eq!(ended.code, Some(1), "{place}: {args:?}: {ended:?}");
                assert!(ended.err.contains("is a symbolic link"), "{place}: {args:?}: {ended:?}");
            }
            assert_eq!(fs::read_to_string(&key).ok(), there.then(|| "a key\n".to_owned()), "{place}");
            if there {
                assert_eq!(mode(&key), 0o644, "{place}");
            }
        }
    }
}

#[test]
fn directory_does_not_lead_elsewhere_by_a_link() {
    let stage = Stage::empty();
    workspace(&stage, &[]);
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(other.path(), stage.path(".local")).unwrap();
    refused(&end(&mut command(&stage, &["claim", "list"])), "data_dir is not in this directory");
}

#[test]
fn data_in_this_directory_do_not_lead_elsewhere_by_links_below() {
    let other = tempfile::tempdir().unwrap();
    for (data, name) in [("api-data", "data_dir/api-data"), ("gateway-data", "data_dir/gateway-data")] {
        let stage = Stage::empty();
        workspace(&stage, &[("data_dir", json!("x"))]);
        fs::create_dir(stage.path("x")).unwrap();
        std::os::unix::fs::symlink(other.path(), stage.path("x").join(data)).unwrap();
        let ended = end(&mut command(&stage, &["claim", "list"]));
        refused(&ended, &format!("its {name} is not in this directory"));
    }
    let stage = Stage::empty();
    workspace(&stage, &[("data_dir", json!("x"))]);
    fs::create_dir_all(stage.path("x/api-data")).unwrap();
    std::os::unix::fs::symlink(other.path().join("db"), stage.path("x/api-data/sigilum.db")).unwrap();
    let ended = end(&mut command(&stage, &["auth", "login"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("x/api-data/sigilum.db is a symbolic link"), "{ended:?}");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
}

#[test]
fn place_that_cannot_be_looked_through_for_links_is_refused() {
    let house = Household::new();
    let deep = house.stage.path(&format!(".local/gateway-data/{}", "d/".repeat(9)));
    fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(house.stage.path("key"), deep.join("link")).unwrap();
    let up = [&["up"], &FREE_PORTS[..]].concat();
    let login = ["auth", "login", "--mode", "oss-local", "--namespace", OWNER];
    let start = ["gateway", "start", "--mode", "oss-local", "--namespace", OWNER];
    for args in [&up[..], &login, &start] {
        let ended = house.run(args);
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(ended.err.contains("the search for symbolic links was given up"), "{args:?}: {ended:?}");
    }
}

#[test]
fn workspace_that_others_may_write_is_not_followed() {
    let stage = Stage::empty();
    workspace(&stage, &[]);
    let file = stage.path(".sigilum-workspace/workspace.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    refused(&end(&mut command(&stage, &["claim", "list"])), "has mode 0666");
}
