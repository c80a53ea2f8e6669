//! What the tests of pairings begin with: sessions, and a gateway's end that does exactly what a test says.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use sigilum::protocol::sealed::SealingKey;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};
use zeroize::Zeroizing;

use crate::support::agent::{Agent, Signed};
use crate::support::control::{Control, Owner};
use crate::support::raw::Response;
use crate::support::{PATIENCE, eventually};

/// A session that was started.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: String,
    pub namespace: String,
    pub code: String,
}

pub fn start(control: &Control, owner: &Owner) -> Session {
    started(control, owner, &json!({}))
}

pub fn started(control: &Control, owner: &Owner, body: &Value) -> Session {
    let answer = control.as_owner(owner, "POST", "/v1/gateway/pairing/start", Some(body));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = answer.json();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    Session { id: text("session_id"), namespace: text("namespace"), code: text("pair_code") }
}

/// A code that is another one.
pub fn wrong(code: &str) -> String {
    let other = if code.starts_with('A') { "B" } else { "A" };
    format!("{other}{}", &code[1..])
}

pub fn sealing_key() -> String {
    SealingKey::from_bytes(Zeroizing::new([3; 32])).public().to_string()
}

/// Where a gateway knocks, with this code or none.
pub fn target(session: &Session, code: Option<&str>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("session_id", &session.id)
        .append_pair("namespace", &session.namespace)
        .append_pair("gateway_id", "did:sigilum:gateway-1")
        .append_pair("sealing_key", &sealing_key());
    if let Some(code) = code {
        query.append_pair("code", code);
    }
    format!("/v1/gateway/pairing/connect?{}", query.finish())
}

/// A signed upgrade.
pub fn knock<'a>(control: &Control, agent: &'a Agent, target: &'a str) -> Signed {
    agent
        .request("GET", &control.origin(), target)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .sign()
}

/// The refusal of an upgrade.
pub fn refused(control: &Control, agent: &Agent, session: &Session, code: Option<&str>) -> (u16, String) {
    let answer = control.send("GET", knock(control, agent, &target(session, code)).to_bytes());
    (answer.status, answer.code())
}

/// A gateway's open socket.
pub struct Socket(WebSocket<TcpStream>);

impl Socket {
    /// Opens it, and waits until the control plane counts it.
    pub fn open(control: &Control, agent: &Agent, session: &Session, code: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(control.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&knock(control, agent, &target(session, code)).to_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    pub fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message, as JSON; else the close code.
    pub fn hear(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(text.as_str()).unwrap()),
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Ok(_) => {}
                Err(fault) => panic!("{fault}"),
            }
        }
    }

    /// The next command.
    pub fn command(&mut self) -> Value {
        let message = self.hear().unwrap();
        assert_eq!(message["type"], "command", "{message}");
        message
    }

    /// Answers a command with this status and body.
    pub fn reply(&mut self, command: &Value, status: u16, body: &str) {
        self.say(&json!({
            "type": "response", "request_id": command["request_id"], "status": status,
            "headers": { "content-type": "application/json" }, "body": body, "error": null,
        }));
    }
}

/// The first connection of a session, with its code, once the control plane counts it.
pub fn paired(control: &Control, owner: &Owner, agent: &Agent) -> (Session, Socket) {
    let session = start(control, owner);
    let socket = Socket::open(control, agent, &session, Some(&session.code));
    wait_for(control, owner, &session, true);
    (session, socket)
}

pub fn status(control: &Control, owner: &Owner, session: &Session) -> Value {
    let path = format!("/v1/gateway/pairing/status?session_id={}", session.id);
    let answer = control.as_owner(owner, "GET", &path, None);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

pub fn wait_for(control: &Control, owner: &Owner, session: &Session, connected: bool) {
    eventually(&format!("connected {connected}"), || {
        (status(control, owner, session)["connected"] == connected).then_some(())
    });
}

pub fn command(
    control: &Control,
    owner: &Owner,
    session: &Session,
    method: &str,
    path: &str,
    body: Value,
) -> Response {
    let mut sent = json!({ "session_id": session.id, "method": method, "path": path, "timeout_ms": 20_000 });
    if !body.is_null() {
        sent["body"] = body;
    }
    control.as_owner(owner, "POST", "/v1/gateway/pairing/command", Some(&sent))
}

pub fn revoke(control: &Control, owner: &Owner, session: &Session) -> u16 {
    control.as_owner(owner, "DELETE", &format!("/v1/gateway/pairing/{}", session.id), None).status
}

impl Socket {
    /// Sends a text, as far as the other side takes it.
    pub fn say_whatever(&mut self, text: &str) {
        let _ = self.0.send(Message::text(text));
    }
}
