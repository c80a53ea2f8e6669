//! A gateway in the background: start, stop, status, logs and reload.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::household::{Household, behind};
use super::stage::mode;
use crate::support::eventually;

const START: [&str; 5] = ["gateway", "start", "--config", "gateway.yaml", "--daemon"];

fn started() -> (Household, String) {
    let house = Household::new();
    house.configuration(&json!([]));
    let out = house.done(&START);
    (house, out)
}

fn provider(id: &str) -> Value {
    json!({ "id": id, "base_url": "http://127.0.0.1:1", "auth": { "mode": "none" } })
}

#[test]
fn gateway_in_the_background_serves_until_it_is_stopped() {
    let (house, out) = started();
    let pid = behind(&out, "pid: ").unwrap();
    assert!(behind(&out, "[ok] Gateway listening on http://127.0.0.1:").is_some(), "{out}");
    let status: Value =
        serde_json::from_str(&house.done(&["gateway", "status", "--config", "gateway.yaml", "--json"]))
            .unwrap();
    assert_eq!((status["ready"].as_bool(), status["pid"].to_string()), (Some(true), pid.to_owned()));
    assert_eq!(behind(&out, "[ok] Gateway listening on ").unwrap(), status["gateway"][0]);

    let again = house.run(&START);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains(&format!("runs already, as process {pid}")), "{again:?}");

    let stopped = house.done(&["gateway", "stop", "--config", "gateway.yaml"]);
    assert_eq!(stopped, "[ok] Gateway stopped.\n");
    assert!(
        !house.stage.path("data/gateway.pid").exists() && !house.stage.path("data/gateway.json").exists()
    );
    let status = house.run(&["gateway", "status", "--config", "gateway.yaml"]);
    assert_eq!((status.code, status.err.lines().next()), (Some(4), Some("error: no gateway runs here")));
    assert_eq!(house.done(&["gateway", "stop", "--config", "gateway.yaml"]), "[ok] No gateway runs here.\n");
    assert_eq!(mode(&house.stage.path("data/gateway.log")), 0o600);
}

#[test]
fn start_that_fails_shows_why_and_leaves_nothing_running() {
    let house = Household::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = std::fs::read_to_string(house.configuration(&json!([]))).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["listeners"][0]["address"] = address.clone().into();
    house.stage.file("gateway.yaml", config.to_string().as_bytes());
    let ended = house.run(&START);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains(&format!("cannot listen on {address}")), "{ended:?}");
    assert!(ended.err.contains("it ended before it was healthy"), "{ended:?}");
    assert!(!house.stage.path("data/gateway.pid").exists());
}

#[test]
fn pid_file_of_a_process_that_is_gone_is_no_obstacle() {
    let house = Household::new();
    house.configuration(&json!([]));
    std::fs::create_dir(house.stage.path("data")).unwrap();
    // This test's own process runs, and is no gateway.
    house.stage.file("data/gateway.pid", format!("{}\n", std::process::id()).as_bytes());
    assert_eq!(house.done(&["gateway", "stop", "--config", "gateway.yaml"]), "[ok] No gateway runs here.\n");
    house.done(&START);
}

#[test]
fn configuration_is_read_again_by_command_and_by_signal() {
    let (house, _) = started();
    house.configuration(&json!([provider("one")]));
    let told = house.done(&["gateway", "reload", "--config", "gateway.yaml"]);
    assert_eq!(behind(&told, "connections: "), Some("1"), "{told}");

    house.configuration(&json!([provider("one"), provider("two")]));
    house.signal("HUP", &house.stage.path("data/gateway.pid"));
    eventually("the log to tell of the reload", || {
        let log = house.done(&["gateway", "logs", "--config", "gateway.yaml"]);
        log.contains("the configuration was read again").then_some(())
    });
    let status: Value =
        serde_json::from_str(&house.done(&["gateway", "status", "--config", "gateway.yaml", "--json"]))
            .unwrap();
    let admin = status["admin"].as_str().unwrap();
    let list = house.done(&["connection", "list", "--gateway-admin-url", admin]);
    assert_eq!(list.lines().next(), Some("[ok] Connections: 2"));

    house.stage.file("gateway.yaml", b"providers: 7\n");
    let refused = house.run(&["gateway", "reload", "--gateway-admin-url", admin]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    house.configuration(&json!([]));
}

#[test]
fn log_is_followed_while_it_grows() {
    let (house, _) = started();
    let mut follow = house.command(&["gateway", "logs", "-f", "-n", "0", "--config", "gateway.yaml"]);
    let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = lines_of(child.stdout.take().unwrap());
    let _follower = Ends(child);
    let status: Value =
        serde_json::from_str(&house.done(&["gateway", "status", "--config", "gateway.yaml", "--json"]))
            .unwrap();
    // A refused reload is a line of the log; it is asked for until the follower, which may only be starting, shows one.
    eventually("a line of the log", || {
        house.run(&["gateway", "reload", "--gateway-admin-url", status["admin"].as_str().unwrap()]);
        lines.try_recv().ok().filter(|line| line.starts_with('{'))
    });
}

/// A process that is ended with the test: nothing else would end a follower.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a process prints.
fn lines_of(out: ChildStdout) -> std::sync::mpsc::Receiver<String> {
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

#[test]
fn gateway_without_an_identity_for_its_control_plane_says_what_to_type() {
    let house = Household::new();
    let ended = house.run(&["gateway", "start", "--mode", "managed"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("make one with `sigilum init <namespace>`"), "{ended:?}");
}
