//! A control plane that turned against its owners: what it commands, and what a gateway refuses it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use sigilum::protocol::sealed::{Destination, SealingPublicKey};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use zeroize::Zeroizing;

use crate::gateway::admin_scene::ask;
use crate::support::agent::Agent;
use crate::support::gateway::{Gateway, Setup};
use crate::support::upstream::{Reply, Upstream};
use crate::support::{PATIENCE, eventually, random};

const CANARY: &str = "sk-canary-malice-4711";

/// A control plane that sends what it likes, and the gateway that is paired with it.
struct Malice {
    gateway: Gateway,
    socket: WebSocket<TcpStream>,
    listener: TcpListener,
    sent: usize,
}

impl Malice {
    fn over(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = setup.set("identity.namespace", "acme").start();
        pair_with(&gateway, listener.local_addr().unwrap());
        let socket = taken(&listener);
        Self { gateway, socket, listener, sent: 0 }
    }

    fn start() -> Self {
        Self::over(Setup::new())
    }

    fn send(&mut self, method: &str, path: &str, body: &Value) -> String {
        self.send_with(&json!({}), method, path, body)
    }

    fn send_with(&mut self, headers: &Value, method: &str, path: &str, body: &Value) -> String {
        self.sent += 1;
        let id = format!("req_{:08}", self.sent);
        let body = if body.is_null() { Value::Null } else { json!(body.to_string()) };
        let command = json!({ "type": "command", "request_id": id, "method": method, "path": path,
                              "headers": headers, "body": body });
        self.socket.send(Message::text(command.to_string())).unwrap();
        id
    }

    /// The next reply: to which command, its status, and its body's JSON.
    fn reply(&mut self) -> (String, u64, Value) {
        loop {
            let message = self.socket.read().unwrap();
            let Ok(said) = serde_json::from_str::<Value>(message.to_text().unwrap()) else { continue };
            if said["type"] == "response" {
                let body =
                    said["body"].as_str().map_or(Value::Null, |body| serde_json::from_str(body).unwrap());
                return (
                    said["request_id"].as_str().unwrap().to_owned(),
                    said["status"].as_u64().unwrap(),
                    body,
                );
            }
        }
    }

    fn command(&mut self, method: &str, path: &str, body: Value) -> (u64, Value) {
        let id = self.send(method, path, &body);
        let (answered, status, body) = self.reply();
        assert_eq!(answered, id);
        (status, body)
    }

    fn done(&mut self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.command(method, path, body);
        assert!([200, 201, 204].contains(&status), "{method} {path}: {answer}");
        answer
    }

    fn refused(&mut self, method: &str, path: &str, body: Value, status: u64, code: &str) -> String {
        let (found, answer) = self.command(method, path, body);
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{method} {path}: {answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    /// Anybody can seal to a gateway's public key.
    fn seal(&self, connection: Option<&str>, name: &str, text: &str) -> Value {
        let gateway = self.gateway.admin_get("/api/admin/gateway").json();
        let key: SealingPublicKey = gateway["sealing_key"]["public_key"].as_str().unwrap().parse().unwrap();
        let connection = connection.map(|id| id.parse().unwrap());
        let destination = Destination {
            gateway_id: gateway["id"].as_str().unwrap(),
            connection: connection.as_ref(),
            secret: &name.parse().unwrap(),
        };
        json!({ "sealed": key.seal(text, destination, Zeroizing::new(random())).unwrap() })
    }

    /// The connection `openai` to `upstream` with the canary, as its owner sealed it.
    fn openai(&mut self, upstream: &Upstream) -> Value {
        let sealed = self.seal(Some("openai"), "api_key", CANARY);
        self.done("POST", "/api/admin/connections", openai(&upstream.url(), &sealed));
        sealed
    }
}

fn openai(base_url: &str, secret: &Value) -> Value {
    json!({ "id": "openai", "base_url": base_url, "secrets": { "api_key": secret } })
}

fn taken(listener: &TcpListener) -> WebSocket<TcpStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::accept(stream).unwrap()
}

const OPENAI: &str = "/api/admin/connections/openai";

#[test]
fn secret_that_is_kept_goes_no_other_way_than_before() {
    let (good, evil) = (Upstream::answering(Reply::Echo), Upstream::answering(Reply::Echo));
    let mut plane = Malice::start();
    plane.openai(&good);
    for change in [
        json!({ "base_url": evil.url() }),
        json!({ "base_url": format!("{}/else", good.url()) }),
        json!({ "path_prefix": "/else" }),
        json!({ "protocol": "mcp" }),
        json!({ "mcp_endpoint": "/else" }),
        json!({ "auth_header_name": "x-else" }),
        json!({ "auth_prefix": "Else " }),
        json!({ "auth_mode": "query_param" }),
        json!({ "auth_mode": "none" }),
    ] {
        let told = plane.refused("PATCH", OPENAI, change, 409, "SECRET_REQUIRED_ANEW");
        assert!(told.ends_with(": api_key"), "{told}");
    }
    // Another secret beside it is not it.
    let other = plane.seal(Some("openai"), "other", "theirs");
    let beside = json!({ "base_url": evil.url(), "auth_secret_key": "other", "secrets": { "other": other } });
    plane.refused("PATCH", OPENAI, beside, 409, "SECRET_REQUIRED_ANEW");
    let other = plane.seal(Some("openai"), "other", "theirs");
    let chosen = json!({ "auth_secret_key": "other", "secrets": { "other": other } });
    plane.refused("PATCH", OPENAI, chosen, 409, "SECRET_REQUIRED_ANEW");
    // What no secret depends on may change, and a form may send back what stands.
    let same = json!({ "name": "Open AI", "rotation_interval_days": 30, "base_url": format!("{}/", good.url()),
                       "auth_mode": "bearer", "auth_prefix": "Bearer ", "protocol": "http" });
    plane.done("PATCH", OPENAI, same);
    plane.done("PATCH", OPENAI, json!({ "status": "disabled" }));
    plane.done("PATCH", OPENAI, json!({ "status": "active" }));
    plane.done("POST", &format!("{OPENAI}/test"), json!({ "test_path": "/v1/else" }));
    assert_eq!(
        good.requests().pop().unwrap().header("authorization"),
        Some(format!("Bearer {CANARY}").as_str())
    );
    evil.assert_zero_bytes();
}

#[test]
fn connection_goes_elsewhere_with_a_secret_set_anew_or_none() {
    let (good, evil) = (Upstream::answering(Reply::Echo), Upstream::answering(Reply::Echo));
    let mut plane = Malice::start();
    plane.openai(&good);
    let anew = plane.seal(Some("openai"), "api_key", "set-anew");
    plane.done("PATCH", OPENAI, json!({ "base_url": evil.url(), "secrets": { "api_key": anew } }));
    plane.done("POST", &format!("{OPENAI}/test"), json!({}));
    let sent = evil.requests().pop().unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer set-anew"));
    let without = json!({ "base_url": good.url(), "secrets": { "api_key": null }, "auth_mode": "none" });
    plane.done("PATCH", OPENAI, without);
    assert!(!String::from_utf8_lossy(&evil.received()).contains(CANARY));
}

#[test]
fn sealed_secret_is_taken_once_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let setup = || {
        Setup::new()
            .set("data_dir", data.path().join("data").to_str().unwrap())
            .set("identity.home", data.path().join("home").to_str().unwrap())
    };
    let (good, evil) = (Upstream::answering(Reply::Echo), Upstream::answering(Reply::Echo));
    let mut plane = Malice::over(setup());
    let recorded = plane.openai(&good);
    let again = json!({ "base_url": evil.url(), "secrets": { "api_key": recorded } });
    plane.refused("PATCH", OPENAI, again, 409, "SEALED_SECRET_REPLAYED");
    plane.refused(
        "POST",
        &format!("{OPENAI}/rotate"),
        json!({ "secrets": { "api_key": recorded } }),
        409,
        "SEALED_SECRET_REPLAYED",
    );
    plane.done("DELETE", OPENAI, Value::Null);
    let path = "/api/admin/connections";
    plane.refused("POST", path, openai(&evil.url(), &recorded), 409, "SEALED_SECRET_REPLAYED");
    // The same secret again in another seal is new.
    plane.openai(&good);
    plane.done("DELETE", OPENAI, Value::Null);

    let Malice { gateway, socket, listener, sent } = plane;
    gateway.stop();
    drop(socket);
    let gateway = setup().set("identity.namespace", "acme").start();
    // It comes back by itself.
    let mut plane = Malice { gateway, socket: taken(&listener), listener, sent };
    plane.refused("POST", path, openai(&evil.url(), &recorded), 409, "SEALED_SECRET_REPLAYED");
    let key = plane.seal(None, "KEY", CANARY);
    plane.done("POST", "/api/admin/credential-variables", json!({ "key": "KEY", "value": key }));
    let repeated = json!({ "key": "KEY", "value": key });
    plane.refused("POST", "/api/admin/credential-variables", repeated, 409, "SEALED_SECRET_REPLAYED");
    evil.assert_zero_bytes();
}

#[test]
fn variable_that_others_filled_is_not_sent_where_a_control_plane_says() {
    let evil = Upstream::answering(Reply::Echo);
    let mut plane = Malice::start();
    let key = plane.seal(None, "OPENAI_API_KEY", CANARY);
    plane.done("POST", "/api/admin/credential-variables", json!({ "key": "OPENAI_API_KEY", "value": key }));
    let path = "/api/admin/connections";
    let code = "SECRET_REFERENCE_NOT_ALLOWED";
    plane.refused("POST", path, openai(&evil.url(), &json!("{{OPENAI_API_KEY}}")), 403, code);
    let sealed = plane.seal(Some("openai"), "api_key", "{{OPENAI_API_KEY}}");
    plane.refused("POST", path, openai(&evil.url(), &sealed), 403, code);
    let own = plane.seal(Some("openai"), "api_key", "theirs");
    plane.done("POST", path, openai(&evil.url(), &own));
    for reference in
        [json!("{{OPENAI_API_KEY}}"), plane.seal(Some("openai"), "api_key", "{{ OPENAI_API_KEY }}")]
    {
        let secrets = json!({ "secrets": { "api_key": reference } });
        plane.refused("PATCH", OPENAI, secrets.clone(), 403, code);
        plane.refused("POST", &format!("{OPENAI}/rotate"), secrets, 403, code);
    }
    // Who has admin access may refer to it; then a control plane may neither send it elsewhere nor look at it.
    let local = json!({ "id": "local", "base_url": "https://local.example", "secrets": { "api_key": "{{OPENAI_API_KEY}}" } });
    assert_eq!(ask(plane.gateway.admin_address(), "POST", path, Some(&local)).status, 201);
    let elsewhere = json!({ "base_url": evil.url() });
    plane.refused("PATCH", "/api/admin/connections/local", elsewhere, 409, "SECRET_REQUIRED_ANEW");
    plane.done("POST", &format!("{OPENAI}/test"), json!({}));
    assert!(!String::from_utf8_lossy(&evil.received()).contains(CANARY));
}

#[test]
fn gateway_refuses_by_its_own_list_what_its_control_plane_lets_through() {
    let upstream = Upstream::answering(Reply::Echo);
    let mut plane = Malice::start();
    plane.openai(&upstream);
    let connections = "/api/admin/connections";
    let variables = "/api/admin/credential-variables";
    let test = format!("{OPENAI}/test");
    let headers = |name: &str| json!({ "headers": { name: CANARY } });
    let not_allowed = "COMMAND_NOT_ALLOWED";
    for (method, path, body, status, code) in [
        ("POST", "/api/admin/vault/rekey", json!({}), 403, not_allowed),
        ("POST", "/api/admin/reload", Value::Null, 403, not_allowed),
        ("DELETE", "/api/admin/pairing", Value::Null, 403, not_allowed),
        ("GET", "/api/admin/gateway", Value::Null, 403, not_allowed),
        ("GET", "/metrics", Value::Null, 403, not_allowed),
        ("PUT", OPENAI, json!({}), 403, not_allowed),
        ("GET", "/api/admin/connections?x=1", Value::Null, 403, not_allowed),
        ("POST", "/api/admin/connections/openai/discover?refresh=force&x=1", Value::Null, 403, not_allowed),
        ("DELETE", "/api/admin/connections/%6fpenai", Value::Null, 403, not_allowed),
        ("GET", "/api/admin/connections/../pairing", Value::Null, 403, not_allowed),
        ("GET", "/api/admin/connections/%2e%2e/pairing", Value::Null, 403, not_allowed),
        ("POST", &test, headers("api-key"), 403, not_allowed),
        ("POST", &test, headers("authorization"), 403, not_allowed),
        ("POST", connections, openai("https://a.example", &json!(CANARY)), 422, "SECRET_NOT_SEALED"),
        ("POST", variables, json!({ "key": "A", "value": CANARY }), 422, "SECRET_NOT_SEALED"),
        ("PUT", "/api/admin/service-api-keys/openai", json!({ "key": CANARY }), 422, "SECRET_NOT_SEALED"),
        ("POST", connections, json!({ "secret": CANARY }), 400, "FIELD_INVALID"),
        ("GET", "/health", json!({ "a": 1 }), 400, "FIELD_INVALID"),
        ("POST", connections, json!([CANARY]), 400, "REQUEST_BODY_INVALID"),
        ("PATCH", OPENAI, json!({ "name": "a".repeat(1024 * 1024) }), 413, "REQUEST_BODY_TOO_LARGE"),
    ] {
        plane.refused(method, path, body, status, code);
    }
    for name in ["x-sigilum-admin-token", "authorization", "host", "origin"] {
        let id = plane.send_with(&json!({ name: "x" }), "GET", "/health", &Value::Null);
        let (answered, status, body) = plane.reply();
        assert_eq!((answered, status, body["code"].as_str()), (id, 403, Some(not_allowed)), "{name}");
    }
    // Nothing of it was done.
    let standing = plane.done("GET", connections, Value::Null);
    assert_eq!(standing["connections"].as_array().unwrap().len(), 1, "{standing}");
    upstream.assert_zero_bytes();
    plane.gateway.assert_silent_about(CANARY);
}

/// A control plane that answers every request with the same refusal, and how many it has answered.
fn refusing(status: u16, body: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, answered) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (counted, length) = (Arc::clone(&answered), body.len());
    let answer = format!(
        "HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    // It ends with the test's process, which is the test's own.
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, answered)
}

fn pair_with(gateway: &Gateway, control: SocketAddr) {
    let session = json!({
        "session_id": format!("ps_{}", "0123456789abcdef".repeat(2)), "pair_code": "K7M2XQ9D",
        "namespace": "acme", "api_url": format!("http://{control}"),
    });
    let begun = ask(gateway.admin_address(), "POST", "/api/admin/pairing", Some(&session));
    assert_eq!(begun.status, 202, "{}", begun.text());
}

#[test]
fn statuses_of_the_contract_end_a_pairing_whatever_the_control_plane_calls_them() {
    let gateway = Setup::new().set("identity.namespace", "acme").start();
    let view = || gateway.admin_get("/api/admin/pairing").json();
    for (status, code) in [(403, "WRONG_CODE"), (404, "UNKNOWN_SESSION"), (410, "SESSION_OVER")] {
        let (control, answered) = refusing(status, &format!(r#"{{"error":"no","code":"{code}"}}"#));
        pair_with(&gateway, control);
        let ended =
            eventually("the end of the pairing", || Some(view()).filter(|view| view["state"] == "ended"));
        assert_eq!(ended["trouble"]["code"], code);
        assert_eq!(answered.load(Ordering::SeqCst), 1, "{code}");
        assert_eq!(gateway.admin_send("DELETE", "/api/admin/pairing").status, 204);
    }
}

#[test]
fn refusals_that_say_nothing_of_the_session_do_not_end_a_pairing() {
    let gateway = Setup::new().set("identity.namespace", "acme").start();
    for (status, body) in [
        (403, r#"{"error":"no","code":"AUTH_SIGNATURE_INVALID"}"#),
        (404, r#"{"error":"no","code":"NOT_FOUND"}"#),
        (410, "<html>"),
        (502, "<html>"),
    ] {
        let (control, answered) = refusing(status, body);
        pair_with(&gateway, control);
        eventually("another try", || (answered.load(Ordering::SeqCst) > 1).then_some(()));
        let state = gateway.admin_get("/api/admin/pairing").json()["state"].clone();
        assert!([json!("waiting"), json!("connecting")].contains(&state), "{status} {body}: {state}");
        assert_eq!(gateway.admin_send("DELETE", "/api/admin/pairing").status, 204);
    }
}

/// Lets requests through one by one.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    inside: usize,
    most_inside: usize,
    may_leave: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.inside += 1;
        state.most_inside = state.most_inside.max(state.inside);
        let mut state = self.moved.wait_while(state, |state| state.may_leave == 0).unwrap();
        state.may_leave -= 1;
        state.inside -= 1;
    }

    fn let_out(&self, count: usize) {
        self.state.lock().unwrap().may_leave += count;
        self.moved.notify_all();
    }

    fn inside(&self) -> usize {
        self.state.lock().unwrap().inside
    }
}

#[test]
fn sixteen_commands_are_executed_at_once_and_sixty_four_taken_on() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        held.pass();
        Reply::ok("")
    });
    let mut plane = Malice::start();
    plane.done(
        "POST",
        "/api/admin/connections",
        json!({ "id": "openai", "base_url": upstream.url(), "auth_mode": "none" }),
    );
    let test = format!("{OPENAI}/test");
    for _ in 0..64 {
        plane.send("POST", &test, &json!({}));
    }
    eventually("sixteen requests at the upstream", || (gate.inside() == 16).then_some(()));
    // One more than it takes on is answered before all of them.
    let beyond = plane.send("GET", "/health", &Value::Null);
    let (answered, status, body) = plane.reply();
    assert_eq!((answered, status, body["code"].as_str()), (beyond, 429, Some("PAIRING_COMMANDS_LIMIT")));
    for _ in 0..64 {
        gate.let_out(1);
        let (_, status, body) = plane.reply();
        assert_eq!((status, &body["status"]), (200, &json!("pass")), "{body}");
    }
    assert_eq!(gate.state.lock().unwrap().most_inside, 16);
    plane.done("GET", "/health", Value::Null);
}

#[test]
fn gateway_s_metric_says_whether_it_is_connected() {
    let plane = Malice::start();
    let series = "sigilum_gateway_pairing_connected";
    plane.gateway.wait_for_metric(series, 1.0);
    let Malice { gateway, socket, listener, .. } = plane;
    drop((socket, listener));
    gateway.wait_for_metric(series, 0.0);
    let alone = Setup::new().claim(&Agent::new("acme"), &["openai"]).start();
    assert_eq!(alone.metric(series), Some(0.0));
}
