//! A gateway in the background: start, stop, status, logs and reload.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::household::{Household, behind};
use super::stage::{end, mode};
use crate::support::control::Control;
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

const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

#[test]
fn gateway_of_a_namespace_starts_on_variables_alone_and_is_found_by_its_mode() {
    let (house, control) = (Household::new(), Control::start());
    let owner = control.owner("acme");
    let key = control.service(&owner, "openai").key;
    let origin = control.origin();
    // The base64 of 32 bytes, as `openssl rand -base64 32` prints it.
    let variables = [
        ("SIGILUM_REGISTRY_URL", origin.as_str()),
        ("SIGILUM_SERVICE_API_KEY", &key),
        ("GATEWAY_MASTER_KEY", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="),
    ];
    let run = |args: &[&str]| end(house.command(args).envs(variables));
    let start = [&["gateway", "start", "--mode", "enterprise", "--namespace", "acme", "--daemon"], &FREE[..]];
    let started = run(&start.concat());
    let status = run(&["gateway", "status", "--mode", "enterprise", "--json"]);
    let doctor = end(house.command(&["doctor"]).envs(variables).env("SIGILUM_MODE", "enterprise"));
    let stopped = run(&["gateway", "stop", "--mode", "enterprise"]);
    assert_eq!((started.code, started.err.as_str()), (Some(0), ""), "{started:?}");
    let status: Value = serde_json::from_str(&status.out).unwrap_or_else(|_| panic!("{status:?}"));
    assert_eq!(status["ready"], true, "{status}");
    for line in ["[ok] control plane: ", "[ok] gateway: ", "[ok] admin: ", "[ok] vault: it is open"] {
        assert!(doctor.out.contains(line), "{line} is missing: {doctor:?}");
    }
    assert!(
        !doctor.out.contains("taken by another program") && !doctor.out.contains("sigilum up"),
        "{doctor:?}"
    );
    assert_eq!(stopped.out, "[ok] Gateway stopped.\n", "{stopped:?}");
    let identity = house.stage.path("user/.sigilum/identities/acme/identity.json");
    assert_eq!(mode(&identity), 0o600, "the identity of a fresh namespace is made");
}

#[test]
fn master_key_that_is_a_passphrase_is_refused_with_how_to_make_one() {
    let house = Household::new();
    let mut start = house
        .command(&[&["gateway", "start", "--mode", "managed", "--namespace", "acme"], &FREE[..]].concat());
    let ended = end(start
        .envs([("GATEWAY_MASTER_KEY", "canary horse battery"), ("SIGILUM_API_URL", "http://127.0.0.1:1")]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("`openssl rand -base64 32`") && !ended.err.contains("canary"), "{ended:?}");
}

#[test]
fn configuration_of_another_gateway_does_not_lead_to_the_local_stack() {
    let house = Household::new();
    house.up(&[]);
    house.configuration(&json!([]));
    let at = ["--config", "gateway.yaml"];
    assert_eq!(house.run(&[&["gateway", "status"], &at[..]].concat()).code, Some(4));
    assert_eq!(house.done(&[&["gateway", "stop"], &at[..]].concat()), "[ok] No gateway runs here.\n");
    let reload = house.run(&[&["gateway", "reload"], &at[..]].concat());
    assert_eq!(reload.code, Some(4), "{reload:?}");
    assert!(reload.err.contains("hint: start it with `sigilum gateway start --daemon`"), "{reload:?}");
    // Port 1 is where that configuration says its admin listener is.
    house.stage.file(
        "gateway.yaml",
        br#"{"data_dir": "data", "admin": {"address": "127.0.0.1:1"}, "providers": []}"#,
    );
    let pair =
        ["gateway", "pair", "--session-id", "ps_00000000000000000000000000000000", "--pair-code", "ABCD2345"];
    let pair = house.run(&[&pair[..], &at].concat());
    assert_eq!(pair.code, Some(4), "{pair:?}");
    assert!(pair.err.contains("gateway admin not reachable at http://127.0.0.1:1"), "{pair:?}");
    assert_eq!(house.run(&["gateway", "status"]).code, Some(0));
}

#[test]
fn connect_warns_of_a_running_gateway_that_asks_another_control_plane() {
    let (house, control) = (Household::new(), Control::start());
    house.up(&[]);
    let connect = ["gateway", "connect", "--pair-code", "ABCD2345", "--api-url", &control.origin()];
    let session = ["--session-id", "ps_00000000000000000000000000000000"];
    let ended = house.run(&[&connect[..], &session].concat());
    let api = house.workspace()["api_url"].as_str().unwrap().to_owned();
    assert!(
        ended.err.contains(&format!("warning: the gateway that runs asks {api} for claims")),
        "{ended:?}"
    );
    assert_eq!(ended.code, Some(1), "there is no such session: {ended:?}");
}

#[test]
fn pair_code_of_a_variable_counts_and_an_empty_variable_is_none() {
    let house = Household::new();
    let pair = |flags: &[&str], code: &str| {
        let args = [&["gateway", "pair", "--gateway-admin-url", "http://127.0.0.1:1"], flags].concat();
        end(house.command(&args).envs([("SIGILUM_PAIR_CODE", code), ("SIGILUM_MODE", "oss-local")]))
    };
    assert_eq!(pair(&["--status"], "").code, Some(4), "it is not needed to look");
    let session = ["--session-id", "ps_00000000000000000000000000000000", "--namespace", "acme"];
    assert_eq!(pair(&session, "ABCD2345").code, Some(4), "nobody is at that port");
    let missing = pair(&session, "");
    assert!(
        missing.code == Some(2) && missing.err.contains("a session and its code are needed"),
        "{missing:?}"
    );
    let wrong = pair(&session, "canary");
    assert!(wrong.code == Some(2) && wrong.err.contains("SIGILUM_PAIR_CODE: "), "{wrong:?}");
    assert!(!wrong.err.contains("canary"), "{wrong:?}");
}

#[test]
fn mode_beside_a_configuration_is_wrong_usage() {
    let house = Household::new();
    house.configuration(&json!([]));
    let ended = house.run(&["gateway", "start", "--config", "gateway.yaml", "--mode", "enterprise"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn gateway_whose_configuration_has_become_faulty_is_shown_and_stopped() {
    let (house, _) = started();
    let text = std::fs::read_to_string(house.stage.path("gateway.yaml")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["providers"] = json!(7);
    config["listener"] = json!([]);
    house.stage.file("gateway.yaml", config.to_string().as_bytes());
    house.done(&["gateway", "status", "--config", "gateway.yaml"]);
    house.done(&["gateway", "logs", "--config", "gateway.yaml"]);
    assert_eq!(house.done(&["gateway", "stop", "--config", "gateway.yaml"]), "[ok] Gateway stopped.\n");
    config["data_dir"] = json!([]);
    house.stage.file("gateway.yaml", config.to_string().as_bytes());
    let nowhere = house.run(&["gateway", "stop", "--config", "gateway.yaml"]);
    assert!(nowhere.code == Some(1) && nowhere.err.contains("data_dir"), "{nowhere:?}");
}

#[test]
fn gateway_s_own_variables_go_before_the_shared_ones_and_what_was_typed_before_both() {
    for (flags, namespace) in [(&[][..], "own"), (&["--namespace", "typed"], "typed")] {
        let house = Household::new();
        house.configuration(&json!([]));
        let mut start = house.command(&[&START[..], flags].concat());
        let variables = [("GATEWAY_SIGILUM_NAMESPACE", "own"), ("SIGILUM_NAMESPACE", "shared")];
        let homes = [("GATEWAY_SIGILUM_HOME", "own-home"), ("SIGILUM_HOME", "shared-home")];
        let started = end(start.envs(variables).envs(homes));
        assert_eq!(started.code, Some(0), "{started:?}");
        assert!(house.stage.path(&format!("own-home/identities/{namespace}/identity.json")).exists());
        let reloaded = house.done(&["gateway", "reload", "--config", "gateway.yaml"]);
        assert!(!reloaded.contains("restart needed for: identity"), "{reloaded}");
    }
}

#[test]
fn running_gateway_tells_who_stops_it_how_long_it_lets_requests_finish() {
    let house = Household::new();
    let text = std::fs::read_to_string(house.configuration(&json!([]))).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["shutdown"] = json!({ "drain": "90s" });
    house.stage.file("gateway.yaml", config.to_string().as_bytes());
    house.done(&START);
    let told = std::fs::read(house.stage.path("data/gateway.json")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["drain_seconds"], 90);
}
