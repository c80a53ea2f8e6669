//! Commands from an owner to a gateway, over its socket.

use serde_json::{Value, json};

use super::pairing_scene::{Socket, command, paired, revoke, start, status, wait_for};
use crate::support::agent::Agent;
use crate::support::control::Control;
use crate::support::eventually;
use crate::support::raw::Response;

#[test]
fn command_reaches_the_gateway_and_its_reply_the_owner() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let body = json!({ "refresh": 1 });
            let refused = command(&control, &owner, &session, "GET", "/health", body);
            assert_eq!(refused.code(), "FIELD_INVALID");
            command(&control, &owner, &session, "GET", "/api/admin/connections", Value::Null)
        });
        let received = socket.command();
        assert_eq!(received["method"], "GET");
        assert_eq!(received["path"], "/api/admin/connections");
        assert_eq!(received["body"], Value::Null);
        // A reply to what nobody asked goes nowhere.
        socket.reply(&json!({ "request_id": "req_00000000" }), 200, "{}");
        socket.reply(&received, 200, r#"{"connections":[]}"#);
        let answer = asked.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["request_id"], received["request_id"]);
        assert_eq!(answer["status"], 200);
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["body"], r#"{"connections":[]}"#);
        assert_eq!(answer["error"], Value::Null);
    });
}

#[test]
fn ping_is_answered_and_prolongs_the_lease() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (_session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    socket.say(&json!({ "type": "later", "what": 1 }));
    socket.say(&json!({ "type": "ping", "ts": 1 }));
    assert_eq!(socket.hear().unwrap()["type"], "pong");
}

#[test]
fn gateway_that_is_silent_is_a_timeout() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    let sent = json!({ "session_id": session.id, "method": "GET", "path": "/health", "timeout_ms": 1000 });
    let answer = control.as_owner(&owner, "POST", "/v1/gateway/pairing/command", Some(&sent));
    assert_eq!((answer.status, answer.code()), (504, "GATEWAY_TIMEOUT".to_owned()));
    // An answer that comes too late is nobody's, and the socket stays.
    let late = socket.command();
    socket.reply(&late, 200, "{}");
    assert_eq!(status(&control, &owner, &session)["connected"], true);
}

#[test]
fn gateway_that_is_not_there_or_goes_is_not_connected() {
    let control = Control::start();
    let owner = control.owner("acme");
    let session = start(&control, &owner);
    let answer = command(&control, &owner, &session, "GET", "/health", Value::Null);
    assert_eq!((answer.status, answer.code()), (503, "GATEWAY_NOT_CONNECTED".to_owned()));
    assert_retry_after(&answer);
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| command(&control, &owner, &session, "GET", "/health", Value::Null));
        socket.command();
        drop(socket);
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.code()), (503, "GATEWAY_NOT_CONNECTED".to_owned()));
        assert_retry_after(&answer);
    });
}

/// Says when to come again, in seconds.
fn assert_retry_after(answer: &Response) {
    let seconds = answer.header("retry-after").and_then(|text| text.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=60).contains(&seconds)), "{seconds:?}");
}

#[test]
fn what_is_not_on_the_list_never_reaches_the_gateway() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    let connection =
        |secret: Value| json!({ "id": "a", "base_url": "https://a", "secrets": { "k": secret } });
    let large = json!({ "name": "a".repeat(1024 * 1024) });
    for (method, path, body, status, code) in [
        ("POST", "/api/admin/vault/rekey", Value::Null, 403, "COMMAND_NOT_ALLOWED"),
        ("POST", "/api/admin/reload", Value::Null, 403, "COMMAND_NOT_ALLOWED"),
        ("GET", "/metrics", Value::Null, 403, "COMMAND_NOT_ALLOWED"),
        ("GET", "/api/admin/connections?x=1", Value::Null, 403, "COMMAND_NOT_ALLOWED"),
        ("POST", "/api/admin/connections", connection(json!("sk-canary")), 422, "SECRET_NOT_SEALED"),
        (
            "POST",
            "/api/admin/connections",
            json!(connection(json!("sk-canary")).to_string()),
            422,
            "SECRET_NOT_SEALED",
        ),
        ("POST", "/api/admin/connections", json!({ "secret": "sk-canary" }), 400, "FIELD_INVALID"),
        ("POST", "/api/admin/connections", json!("sk-canary"), 400, "REQUEST_BODY_INVALID"),
        ("POST", "/api/admin/connections", large, 413, "REQUEST_BODY_TOO_LARGE"),
    ] {
        let answer = command(&control, &owner, &session, method, path, body);
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{method} {path}");
        assert!(!answer.text().contains("sk-canary"), "{}", answer.text());
    }
    let headers = json!({ "session_id": session.id, "method": "GET", "path": "/health",
                          "headers": { "authorization": "x" } });
    let answer = control.as_owner(&owner, "POST", "/v1/gateway/pairing/command", Some(&headers));
    assert_eq!(answer.code(), "COMMAND_NOT_ALLOWED");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| command(&control, &owner, &session, "GET", "/health", Value::Null));
        let first = socket.command();
        assert_eq!(first["path"], "/health", "the first command that came is the first that was allowed");
        socket.reply(&first, 200, "{}");
        assert_eq!(asked.join().unwrap().status, 200);
    });
    for entry in std::fs::read_dir(control.directory()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|part| part == b"sk-canary"), "the secret is on disk");
    }
}

#[test]
fn command_for_another_owner_s_gateway_finds_none() {
    let control = Control::start();
    let (owner, other) = (control.owner("acme"), control.owner("globex"));
    let (session, _socket) = paired(&control, &owner, &Agent::new("acme"));
    let answer = command(&control, &other, &session, "GET", "/health", Value::Null);
    assert_eq!((answer.status, answer.code()), (404, "PAIRING_NOT_FOUND".to_owned()));
}

#[test]
fn revocation_closes_the_socket_and_ends_the_session() {
    let control = Control::start();
    let owner = control.owner("acme");
    let agent = Agent::new("acme");
    let (session, mut socket) = paired(&control, &owner, &agent);
    assert_eq!(revoke(&control, &owner, &session), 204);
    assert_eq!(socket.hear(), Err(4001));
    let answer = command(&control, &owner, &session, "GET", "/health", Value::Null);
    assert_eq!((answer.status, answer.code()), (410, "PAIRING_REVOKED".to_owned()));
    let again = super::pairing_scene::refused(&control, &agent, &session, None);
    assert_eq!(again, (410, "PAIRING_REVOKED".to_owned()));
}

#[test]
fn new_connection_of_a_gateway_takes_the_place_of_its_old_one() {
    let control = Control::start();
    let owner = control.owner("acme");
    let agent = Agent::new("acme");
    let (session, mut old) = paired(&control, &owner, &agent);
    let mut new = Socket::open(&control, &agent, &session, None);
    assert_eq!(old.hear(), Err(4002));
    wait_for(&control, &owner, &session, true);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| command(&control, &owner, &session, "GET", "/health", Value::Null));
        let received = new.command();
        new.reply(&received, 200, "{}");
        assert_eq!(asked.join().unwrap().status, 200);
    });
}

#[test]
fn commands_under_way_are_bounded_and_a_reply_makes_room() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    std::thread::scope(|scope| {
        let ask = || command(&control, &owner, &session, "GET", "/health", Value::Null);
        let asked: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        let received: Vec<Value> = (0..64).map(|_| socket.command()).collect();
        let refused = ask();
        assert_eq!((refused.status, refused.code()), (429, "PAIRING_COMMANDS_LIMIT".to_owned()));
        assert_retry_after(&refused);
        for command in &received {
            socket.reply(command, 200, "{}");
        }
        assert!(asked.into_iter().all(|asked| asked.join().unwrap().status == 200));
        let more = scope.spawn(ask);
        let command = socket.command();
        socket.reply(&command, 200, "{}");
        assert_eq!(more.join().unwrap().status, 200);
    });
}

#[test]
fn message_larger_than_any_may_be_ends_the_connection() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    socket.say_whatever(&"a".repeat(4 * 1024 * 1024));
    wait_for(&control, &owner, &session, false);
}

#[test]
fn commands_and_sockets_are_counted_by_what_became_of_them() {
    let control = Control::start();
    let owner = control.owner("acme");
    let metric = |series: &str| {
        let text = control.plane().metrics.render();
        let of = |line: &str| line.strip_prefix(series)?.trim().parse::<u64>().ok();
        text.lines().find_map(of).unwrap()
    };
    let commands =
        |outcome: &str| metric(&format!("sigilum_control_pairing_commands_total{{outcome=\"{outcome}\"}}"));
    let (session, mut socket) = paired(&control, &owner, &Agent::new("acme"));
    assert_eq!(metric("sigilum_control_pairing_sockets "), 1);
    command(&control, &owner, &session, "GET", "/metrics", Value::Null);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| command(&control, &owner, &session, "GET", "/health", Value::Null));
        let received = socket.command();
        socket.reply(&received, 404, "{}");
        assert_eq!(asked.join().unwrap().status, 200);
    });
    drop(socket);
    wait_for(&control, &owner, &session, false);
    command(&control, &owner, &session, "GET", "/health", Value::Null);
    let outcomes = ["answered", "refused", "not_connected", "timed_out", "busy", "failed"].map(commands);
    assert_eq!(outcomes, [1, 1, 1, 0, 0, 0]);
    eventually("the socket to be gone", || (metric("sigilum_control_pairing_sockets ") == 0).then_some(()));
}
