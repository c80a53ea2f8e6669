//! An upstream that echoes, an agent that may use it, and the gateway between them.

use serde_json::Value;

use super::strict::{self, Request};
use crate::support::agent::{Agent, Signed};
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Reply, Upstream};

/// The secret that the gateway injects.
pub const SECRET: &str = "stage-secret-4711";

/// The three together. The connection is `echo`.
pub struct Stage {
    pub upstream: Upstream,
    pub agent: Agent,
    pub gateway: Gateway,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|setup| setup)
    }

    /// With a changed configuration.
    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, agent) = (Upstream::answering(Reply::Echo), Agent::new("alice"));
        let setup = Setup::new().bearer("echo", &upstream.url(), SECRET).claim(&agent, &["echo"]);
        let gateway = change(setup).start();
        Self { upstream, agent, gateway }
    }

    /// A signed GET of a path at the upstream.
    pub fn get(&self, path: &str) -> Signed {
        self.agent.get(self.gateway.url(), &format!("/proxy/echo{path}"))
    }

    /// A signed GET after whose answer the connection ends.
    pub fn last(&self, path: &str) -> Signed {
        self.get(path).also("connection", "close")
    }

    /// `127.0.0.1:1234`, as `Host` has it.
    pub fn authority(&self) -> String {
        self.gateway.address().to_string()
    }

    pub fn connect(&self) -> RawClient {
        self.gateway.connect()
    }

    /// The gateway still answers, and no thread of it has panicked.
    pub fn assert_sound(&self) {
        let mut client = self.connect();
        client.send(format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", self.authority()));
        assert_eq!(client.response().status, 200);
        let answer = self.gateway.send(&self.get("/still-there"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!self.gateway.output().contains("panicked"), "{}", self.gateway.output());
    }

    /// The whole requests that the upstream received, read strictly; bytes that make none are a panic.
    pub fn forwarded(&self) -> Vec<Request> {
        self.upstream
            .connections()
            .iter()
            .flat_map(|connection| match strict::requests(&connection.bytes) {
                Ok((whole, _)) => whole,
                Err(fault) => panic!(
                    "the upstream received what is no request ({fault}): {:?}",
                    String::from_utf8_lossy(&connection.bytes)
                ),
            })
            .collect()
    }

    /// Panics unless each whole request at the upstream is one that the gateway says it allowed, counted one by one;
    /// where the log says that the client left, the request need not have come. Gives what was forwarded.
    pub fn assert_only_allowed_was_forwarded(&self) -> Vec<Request> {
        let forwarded = self.forwarded();
        // A decision is written after its answer.
        eventually("a decision for each request forwarded", || {
            let mut allowed: Vec<(Trace, bool)> = self
                .gateway
                .decisions()
                .iter()
                .filter(|line| line["decision"] == "allow")
                .map(|line| (trace_of_decision(line), line["code"].is_null()))
                .collect();
            for request in &forwarded {
                let trace = trace_of_request(request);
                // The answered ones first: each of them must have come.
                let at = [true, false].iter().find_map(|answered| {
                    allowed.iter().position(|known| *known == (trace.clone(), *answered))
                })?;
                allowed.swap_remove(at);
            }
            allowed.iter().all(|(_, answered)| !answered).then_some(())
        });
        forwarded
    }
}

/// Method, path without query, and bytes of the body: what a decision says of a request.
type Trace = (String, String, u64);

fn trace_of_request(request: &Request) -> Trace {
    let path = request.target.split('?').next().unwrap_or_default();
    (request.method.clone(), path.to_owned(), request.body.len() as u64)
}

fn trace_of_decision(line: &Value) -> Trace {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    (text("method"), text("path"), line["request_bytes"].as_u64().unwrap_or_default())
}

/// The refusal of a head: its envelope, and that the connection ends with it.
pub fn assert_refused(what: &str, client: &mut RawClient, status: u16, code: &str) -> Response {
    let answer = client.try_response().unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"), "{what}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
    assert!(answer.complete, "{what}");
    let envelope = answer.json();
    assert_eq!(envelope["request_id"].as_str(), answer.header("x-request-id"), "{what}");
    for field in ["error", "timestamp", "docs_url"] {
        assert!(envelope[field].is_string(), "{what}: no {field} in {envelope}");
    }
    assert!(client.rest().is_empty(), "{what}: the connection went on");
    answer
}
