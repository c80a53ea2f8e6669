//! What a user types or leaves wrong: each sentence says what is wrong and what to type, and nothing is changed.

use std::fs;
use std::io::BufRead as _;
use std::net::TcpListener;

use super::household::{FREE_PORTS, Household};
use super::stage::{Ended, Running, end};

/// A command that failed with this code, and said both.
fn said(ended: &Ended, code: i32, error: &str, hint: &str) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let first = ended.err.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: ") && first.contains(error), "{ended:?}");
    assert!(ended.err.lines().any(|line| line.starts_with("hint: ") && line.contains(hint)), "{ended:?}");
}

#[test]
fn where_nothing_runs_the_way_to_a_stack_is_shown() {
    let house = Household::new();
    for args in
        [&["claim", "list"][..], &["service", "list"], &["claim", "approve", "cl_x"], &["auth", "show"]]
    {
        said(&house.run(args), 2, "which namespace is meant is not said", "`sigilum up`");
    }
    said(&house.run(&["status"]), 4, "nothing runs here", "`sigilum up`");
    let add = ["service", "add", "--service-slug", "linear", "--mode", "gateway"];
    let add =
        [&add[..], &["--upstream-base-url", "http://127.0.0.1:1", "--upstream-secret-env", "HOME"]].concat();
    let unreachable = house.run(&[&add[..], &["--gateway-admin-url", "http://127.0.0.1:1"]].concat());
    said(&unreachable, 4, "gateway admin not reachable at http://127.0.0.1:1", "`sigilum gateway start`");
    said(&house.run(&["vault", "verify"]), 1, "there is no vault at ", "--config FILE");
    assert!(!house.stage.path(".sigilum-workspace").exists());
}

#[test]
fn namespace_that_is_mistyped_is_no_namespace_and_is_not_made() {
    let house = Household::new();
    house.up(&[]);
    for _ in 0..2 {
        for args in [&["claim", "list"][..], &["service", "list"], &["claim", "approve", "cl_x"]] {
            let ended = house.run(&[&["--namespace", "lokal"], args].concat());
            said(&ended, 1, "the local control plane has no namespace lokal", "--namespace NAMESPACE");
        }
    }
    said(
        &house.run(&["claim", "approve", "cl_x"]),
        1,
        "CLAIM_NOT_FOUND",
        "`sigilum claim list --namespace local`",
    );
    said(
        &house.run(&["connection", "get", "nobody"]),
        1,
        "CONNECTION_NOT_FOUND",
        "`sigilum connection list`",
    );
}

#[test]
fn commands_find_the_gateway_of_the_stack_wherever_it_listens() {
    let house = Household::new();
    house.up(&[]);
    assert_eq!(house.done(&["connection", "list"]), "[ok] Connections: 0\n");
    let status = house.done(&["status"]);
    assert!(!status.contains("pairing"), "{status}");
    let rekeyed = house.done(&["vault", "rekey"]);
    assert!(rekeyed.contains("gateway_running: true"), "{rekeyed}");
    let (mut agent, _) = Running::start(&mut house.command(&["agent", "--listen", "127.0.0.1:0"]));
    let mut told = String::new();
    agent.out.read_line(&mut told).unwrap();
    assert_eq!(told, format!("gateway: {}\n", house.workspace()["gateway_url"].as_str().unwrap()));

    house.done(&["down"]);
    let verified = house.done(&["vault", "verify"]);
    assert!(verified.contains("/.local/gateway-data/vault\n"), "{verified}");
}

#[test]
fn port_of_the_control_plane_alone_that_is_taken_is_named() {
    let house = Household::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = house.run(&["api", "start", "--listen", &address]);
    said(&ended, 1, "which the control plane needs, is taken by another program", "--listen 127.0.0.1:0");
}

#[test]
fn token_that_is_none_or_has_ended_is_a_matter_of_authority() {
    let house = Household::new();
    house.up(&[]);
    let mut command = house.command(&["claim", "list"]);
    let ended = end(command.env("SIGILUM_OWNER_TOKEN", "canary"));
    said(&ended, 3, "the owner token is no JWT", "`sigilum auth login`");
    assert!(!ended.err.contains("canary"), "{ended:?}");
}

#[test]
fn file_that_is_damaged_is_named() {
    let house = Household::new();
    house.up(&[]);
    house.done(&["down"]);
    for (name, says) in [
        (".local/api-data/sigilum.db", ".local/api-data/sigilum.db: "),
        (".local/api-data/jwt-secret", "32 bytes of text; .local/api-data/jwt-secret has 7"),
        (".local/api-data/sealing-key", ".local/api-data/sealing-key holds something else"),
        (
            ".sigilum-workspace/workspace.json",
            ".sigilum-workspace/workspace.json is not what `sigilum up` writes",
        ),
        (".local/gateway-data/vault.key", ".local/gateway-data/vault.key holds"),
    ] {
        let path = house.stage.path(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, "garbage").unwrap();
        let ended = house.run(&[&["up"], &FREE_PORTS[..]].concat());
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        assert!(ended.err.contains(says), "{name}: {ended:?}");
        assert!(!ended.err.contains("garbage") && !ended.err.contains("panicked"), "{name}: {ended:?}");
        fs::write(&path, bytes).unwrap();
    }
    house.up(&[]);
}
