//! The real gateway, paired from the command line with a real control plane.

use std::process::{Command, Output};

use serde_json::{Value, json};
use sigilum::control::store::DatabaseUrl;
use sigilum::protocol::sealed::{Destination, SealingPublicKey};
use zeroize::Zeroizing;

use super::pairing_scene::{Session, command, revoke, start, status, wait_for, wrong};
use super::pairing_tap::Tap;
use crate::support::agent::Agent;
use crate::support::control::{Control, Owner};
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};
use crate::support::{eventually, random};

/// A provider's secret that must reach the provider, and nobody between.
const CANARY: &str = "sk-canary/4711+pairing=z";

fn setup() -> Setup {
    Setup::new().set("identity.namespace", "acme")
}

/// `sigilum gateway pair …` against this gateway.
fn pair(gateway: &Gateway, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sigilum"))
        .args(["gateway", "pair"])
        .args(args)
        .args(["--gateway-admin-url", &format!("http://{}", gateway.admin_address())])
        .env_clear()
        .env("HOME", gateway.directory())
        .current_dir(gateway.directory())
        .output()
        .unwrap()
}

fn paired(gateway: &Gateway, session: &Session, api: &str) {
    let args =
        ["--session-id", &session.id, "--pair-code", &session.code, "--namespace", "acme", "--api-url", api];
    let ended = pair(gateway, &args);
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{out}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(out.starts_with("[ok] Gateway paired.\n"), "{out}");
    assert!(out.contains(&format!("session_id: {}\n", session.id)), "{out}");
    assert!(out.contains("sealing_key: x25519:"), "{out}");
    assert!(!out.contains(&session.code), "{out}");
}

fn answered(
    control: &Control,
    owner: &Owner,
    session: &Session,
    method: &str,
    path: &str,
    body: Value,
) -> Value {
    let answer = command(control, owner, session, method, path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Sealed by the key that the control plane shows, as an owner's browser does.
fn sealed(shown: &Value, connection: &str, name: &str) -> Value {
    let gateway = &shown["gateway"];
    let key: SealingPublicKey = gateway["sealing_key"]["public_key"].as_str().unwrap().parse().unwrap();
    let destination = Destination {
        gateway_id: gateway["gateway_id"].as_str().unwrap(),
        connection: Some(&connection.parse().unwrap()),
        secret: &name.parse().unwrap(),
    };
    json!({ "sealed": key.seal(CANARY, destination, Zeroizing::new(random())).unwrap() })
}

#[test]
fn secret_sealed_by_the_owner_reaches_the_provider_and_nobody_between() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, upstream) = (Agent::new("acme"), Upstream::answering(Reply::Echo));
    let gateway = setup().claim(&agent, &["openai"]).start();
    let tap = Tap::before(control.address());
    let session = start(&control, &owner);
    paired(&gateway, &session, &tap.origin());
    let shown = status(&control, &owner, &session);
    assert_eq!(shown["gateway"]["gateway_id"], "did:sigilum:acme");
    let body = json!({ "id": "openai", "base_url": upstream.url(),
                       "secrets": { "api_key": sealed(&shown, "openai", "api_key") } });
    let made = answered(&control, &owner, &session, "POST", "/api/admin/connections", body);
    assert_eq!(made["status"], 201, "{made}");
    assert_eq!(made["headers"]["location"], "/api/admin/connections/openai");
    let proxied = gateway.send(&agent.get(gateway.url(), "/proxy/openai/v1/models"));
    assert_eq!(proxied.status, 200, "{}", proxied.text());
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    for bytes in files(control.directory()) {
        assert!(!bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()), "the secret is on disk");
    }
    let said = tap.said();
    assert!(said.contains("gateway_key_id"), "the tap heard the command");
    assert!(
        !said.contains(CANARY) && !said.contains(&CANARY.replace('/', "\\/")),
        "the tap heard the secret"
    );
    gateway.assert_silent_about(CANARY);
    let line = gateway.output().lines().find(|line| line.contains("connection.create")).unwrap().to_owned();
    assert!(line.contains(r#""way":"pairing""#), "{line}");
}

fn files(directory: &std::path::Path) -> Vec<Vec<u8>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.unwrap().path()).unwrap();
    std::fs::read_dir(directory).unwrap().map(read).collect()
}

#[test]
fn answer_of_the_admin_api_comes_back_as_it_is_also_where_it_is_a_refusal() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = setup().start();
    let session = start(&control, &owner);
    paired(&gateway, &session, &control.origin());
    let discover =
        answered(&control, &owner, &session, "POST", "/api/admin/connections/x/discover", Value::Null);
    assert_eq!(discover["status"], 404);
    assert!(discover["body"].as_str().unwrap().contains("CONNECTION_NOT_FOUND"));
    let health = answered(&control, &owner, &session, "GET", "/health", Value::Null);
    assert_eq!((&health["status"], &health["error"]), (&json!(200), &Value::Null));
    assert!(health["body"].as_str().unwrap().contains("ok"));
}

#[test]
fn answer_larger_than_a_pairing_relays_is_replaced_by_saying_so() {
    let control = Control::start();
    let owner = control.owner("acme");
    let many = (0..2_000).fold(setup(), |setup, number| {
        setup.provider(json!({ "id": format!("provider-{number}"), "base_url": "http://127.0.0.1:9",
                               "auth": { "mode": "none" } }))
    });
    let gateway = many.start();
    assert!(gateway.admin_get("/api/admin/connections").body.len() > 1024 * 1024);
    let session = start(&control, &owner);
    paired(&gateway, &session, &control.origin());
    let answer = answered(&control, &owner, &session, "GET", "/api/admin/connections", Value::Null);
    assert_eq!(answer["status"], 502);
    let envelope: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(envelope["code"], "GATEWAY_RESPONSE_TOO_LARGE");
    assert_eq!((&envelope["error"], &envelope["request_id"]), (&answer["error"], &answer["request_id"]));
    let health = answered(&control, &owner, &session, "GET", "/health", Value::Null);
    assert_eq!(health["status"], 200);
}

#[test]
fn pairing_that_cannot_be_kept_or_forgotten_is_told_of() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = setup().start();
    // In the place of the file.
    let place = gateway.directory().join("data/pairing.json");
    std::fs::create_dir_all(place.join("held")).unwrap();
    let session = start(&control, &owner);
    paired(&gateway, &session, &control.origin());
    let view = eventually("the pairing's trouble", || {
        let view = gateway.admin_get("/api/admin/pairing").json();
        (view["trouble"]["code"] == "PAIRING_NOT_KEPT").then_some(view)
    });
    assert_eq!(view["state"], "connected");
    let told = gateway.admin_send("DELETE", "/api/admin/pairing");
    assert_eq!((told.status, told.code()), (500, "PAIRING_NOT_KEPT".to_owned()), "{}", told.text());
    assert_eq!(gateway.admin_get("/api/admin/pairing").json()["state"], "connected");
    std::fs::remove_dir_all(place).unwrap();
    assert_eq!(gateway.admin_send("DELETE", "/api/admin/pairing").status, 204);
}

#[test]
fn gateway_comes_back_after_its_line_was_cut() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = setup().start();
    let (tap, session) = (Tap::before(control.address()), start(&control, &owner));
    paired(&gateway, &session, &tap.origin());
    tap.cut();
    wait_for(&control, &owner, &session, false);
    wait_for(&control, &owner, &session, true);
    answered(&control, &owner, &session, "GET", "/health", Value::Null);
    assert_eq!(tap.said().matches(&format!("&code={}", session.code)).count(), 1, "the code was sent once");
}

#[test]
fn pairing_outlives_both_processes() {
    let data = tempfile::tempdir().unwrap();
    let database = data.path().join("sigilum.db");
    let mut control = Control::at(&database);
    let (owner, address) = (control.owner("acme"), control.address());
    let at = data.path().join("gateway");
    let configured = || {
        setup()
            .set("data_dir", at.to_str().unwrap())
            .set("identity.home", data.path().join("home").to_str().unwrap())
    };
    let gateway = configured().start();
    let session = start(&control, &owner);
    paired(&gateway, &session, &control.origin());
    let kept = std::fs::read_to_string(at.join("pairing.json")).unwrap();
    assert!(kept.contains(&session.id) && !kept.contains(&session.code), "{kept}");
    gateway.stop();
    wait_for(&control, &owner, &session, false);
    let gateway = configured().start();
    wait_for(&control, &owner, &session, true);
    control.stop();
    drop(control);
    let control = Control::over(DatabaseUrl::Sqlite(database), |config| config.listen = address);
    wait_for(&control, &owner, &session, true);
    answered(&control, &owner, &session, "GET", "/health", Value::Null);
    let shown = pair(&gateway, &["--status", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["state"], &shown["session_id"]), (&json!("connected"), &json!(session.id)));
}

#[test]
fn wrong_code_ends_the_try_with_the_reason_and_a_new_session_can_be_paired() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = setup().start();
    let session = start(&control, &owner);
    let code = format!("{}.{}", session.id, wrong(&session.code));
    let ended = pair(&gateway, &["--code", &code, "--api-url", &control.origin()]);
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{err}");
    assert!(err.contains("PAIRING_CODE_INVALID") && err.contains("4 tries are left"), "{err}");
    let shown = pair(&gateway, &["--status"]);
    assert_eq!(shown.status.code(), Some(3));
    assert!(String::from_utf8(shown.stderr).unwrap().contains("PAIRING_CODE_INVALID"));
    let code = format!("{}.{}", session.id, session.code);
    let ended = pair(&gateway, &["--code", &code, "--api-url", &control.origin(), "--daemon"]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let other = start(&control, &owner);
    let code = format!("{}.{}", other.id, other.code);
    let ended = pair(&gateway, &["--code", &code, "--api-url", &control.origin()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8(ended.stderr).unwrap().contains("PAIRING_EXISTS"));
}

#[test]
fn revoked_gateway_stops_trying_and_says_why() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = setup().start();
    let session = start(&control, &owner);
    paired(&gateway, &session, &control.origin());
    assert_eq!(revoke(&control, &owner, &session), 204);
    let shown = eventually("the end of the pairing", || {
        let shown = pair(&gateway, &["--status", "--json"]);
        let view: Value = serde_json::from_slice(&shown.stdout).unwrap();
        (view["state"] == "ended").then_some((shown.status.code(), view))
    });
    assert_eq!(shown.0, Some(3));
    assert_eq!(shown.1["trouble"]["code"], "PAIRING_REVOKED");
    assert!(pair(&gateway, &["--stop"]).status.success());
    let shown = pair(&gateway, &["--status"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8(shown.stderr).unwrap().contains("not paired"));
}

#[test]
fn control_plane_that_is_not_there_is_tried_again_until_it_is() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (session, address) = (start(&control, &owner), control.address());
    let gateway = setup().start();
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    let asked = json!({ "session_id": session.id, "pair_code": session.code, "namespace": "acme", "api_url": nobody });
    let begun =
        crate::gateway::admin_scene::ask(gateway.admin_address(), "POST", "/api/admin/pairing", Some(&asked));
    assert_eq!(begun.status, 202, "{}", begun.text());
    eventually("a try that failed", || {
        let view = gateway.admin_get("/api/admin/pairing").json();
        (view["trouble"]["code"] == "CONTROL_PLANE_UNREACHABLE").then_some(())
    });
    assert_eq!(gateway.admin_send("DELETE", "/api/admin/pairing").status, 204);
    paired(&gateway, &session, &format!("http://{address}"));
}

#[test]
fn gateway_without_an_identity_cannot_be_paired() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = Setup::new().set("identity", json!({})).start();
    let session = start(&control, &owner);
    let args = ["--session-id", &session.id, "--pair-code", &session.code, "--namespace", "acme"];
    let ended = pair(&gateway, &[&args[..], &["--api-url", &control.origin()]].concat());
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8(ended.stderr).unwrap().contains("GATEWAY_IDENTITY_MISSING"));
}

#[test]
fn connect_looks_at_both_ends_and_pairs() {
    let control = Control::start();
    let owner = control.owner("acme");
    let gateway = setup().start();
    let session = start(&control, &owner);
    let connect = |api: &str, admin: &str| {
        Command::new(env!("CARGO_BIN_EXE_sigilum"))
            .args(["gateway", "connect", "--session-id", &session.id, "--pair-code", &session.code])
            .args(["--namespace", "acme", "--api-url", api, "--gateway-admin-url", admin])
            .env_clear()
            .env("HOME", gateway.directory())
            .current_dir(gateway.directory())
            .output()
            .unwrap()
    };
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", reserved.local_addr().unwrap());
    drop(reserved);
    let admin = format!("http://{}", gateway.admin_address());
    assert_eq!(connect(&nobody, &admin).status.code(), Some(4));
    assert_eq!(connect(&control.origin(), &nobody).status.code(), Some(4));
    let ended = connect(&control.origin(), &admin);
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{out}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(out.contains("[ok] Control plane reachable") && out.contains("[ok] Gateway paired."), "{out}");
}

#[test]
fn connect_starts_the_gateway_in_the_background_where_none_runs() {
    let control = Control::start();
    let owner = control.owner("acme");
    let session = start(&control, &owner);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("gateway.yaml");
    let config = json!({
        "data_dir": place.path().join("data"),
        "identity": { "home": place.path().join("home") },
        "listeners": [{ "address": "127.0.0.1:0" }],
        "admin": { "address": "127.0.0.1:0" },
        "providers": [],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let sigilum = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sigilum"))
            .arg("gateway")
            .args(args)
            .args(["--config", file.to_str().unwrap()])
            .env_clear()
            .env("HOME", place.path())
            .current_dir(place.path())
            .output()
            .unwrap()
    };
    let code = format!("{}.{}", session.id, session.code);
    let ended = sigilum(&["connect", "--code", &code, "--api-url", &control.origin(), "--namespace", "acme"]);
    let connected = status(&control, &owner, &session)["connected"] == true;
    let shown = sigilum(&["pair", "--status"]);
    let stopped = sigilum(&["stop"]);
    wait_for(&control, &owner, &session, false);
    // It knows whose key it was paired with, also where nobody says it again.
    let again = sigilum(&["start", "--daemon"]);
    let back = again.status.success().then(|| wait_for(&control, &owner, &session, true));
    let ended = (ended, sigilum(&["pair", "--stop"]), sigilum(&["pair", "--stop"]));
    let ((ended, unpaired, nothing), for_programs) = (ended, sigilum(&["pair", "--stop", "--json"]));
    sigilum(&["stop"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && connected, "{said}");
    assert!(
        said.contains("[ok] Gateway runs at http://127.0.0.1:") && said.contains("[ok] Gateway paired."),
        "{said}"
    );
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert!(back.is_some(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(unpaired.stdout.starts_with(b"[ok] Pairing ended;"), "{unpaired:?}");
    assert_eq!(nothing.stdout, b"[ok] This gateway is not paired.\n", "{nothing:?}");
    let told: Value = serde_json::from_slice(&for_programs.stdout).unwrap();
    assert_eq!(told, json!({ "was_paired": false }));
}
