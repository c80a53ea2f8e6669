//! What the tests of the admin API begin with: the real gateway with a vault, and a client of its admin listener.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Reply, Upstream};

/// A secret that must come out nowhere.
pub const CANARY: &str = "sk-canary/4711+admin=z";

/// A gateway whose vault is made at the start, and an upstream that echoes.
pub struct Desk {
    pub upstream: Upstream,
    pub gateway: Gateway,
}

impl Desk {
    pub fn start() -> Self {
        Self::with(|setup| setup)
    }

    /// With changes to the set-up.
    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::answering(Reply::Echo);
        Self { gateway: change(Setup::new()).start(), upstream }
    }

    /// Sends a request with a body of JSON, or none, to the admin listener.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        ask(self.gateway.admin_address(), method, path, body)
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.ask("POST", path, Some(body))
    }

    /// Sends an unsigned request for a connection to the data plane.
    pub fn ask_proxy(&self, id: &str) -> Response {
        ask(self.gateway.address(), "GET", &format!("/proxy/{id}/v1/models"), None)
    }

    /// A connection of this id to the upstream, with a bearer secret, as the API takes it.
    pub fn openai(&self, id: &str) -> Value {
        json!({ "id": id, "base_url": self.upstream.url(), "secrets": { "api_key": CANARY } })
    }

    /// Makes it.
    pub fn add(&self, id: &str) -> Value {
        let made = self.post("/api/admin/connections", &self.openai(id));
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    }
}

pub fn ask(to: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Response {
    let body = body.map(Value::to_string).unwrap_or_default();
    let declared = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    send(to, method, path, declared, body.as_bytes())
}

/// Sends a request with these further header lines and this body.
pub fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
    let mut client = RawClient::connect(to);
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n"
    );
    client.send([head.as_bytes(), body].concat());
    client.response_to(method)
}

/// Panics unless this is a refusal with this status and code, in the envelope; gives its sentence.
pub fn refused(answer: &Response, status: u16, code: &str) -> String {
    let reason = if answer.status == status { answer.reason() } else { String::new() };
    super::scene::assert_refused("an admin request", answer, status, code, &reason);
    let sentence = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(!answer.text().contains("canary"), "{}", answer.text());
    sentence
}
