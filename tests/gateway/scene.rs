//! What most of these tests begin with: a gateway, an upstream behind it, and an agent that may use it.

use serde_json::Value;

use crate::support::agent::{Agent, Draft};
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::Response;
use crate::support::upstream::{Recorded, Reply, Upstream};

/// The id of the connection.
pub const CONNECTION: &str = "openai";
/// Its secret.
pub const SECRET: &str = "sk-canary/4711+x=y";
/// The codes' page.
pub const DOCS: &str = "https://sigilum.id/docs/errors#";

/// A gateway with one connection, its upstream, and an agent with a claim on it.
pub struct Scene {
    pub agent: Agent,
    pub upstream: Upstream,
    pub gateway: Gateway,
}

impl Scene {
    /// With a bearer secret, the upstream echoing.
    pub fn start() -> Self {
        Self::with(|setup| setup)
    }

    /// The same with changes to the set-up.
    pub fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        Self::answering(Reply::Echo, change)
    }

    /// The same with this answer of the upstream.
    pub fn answering(reply: Reply, change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::answering(reply);
        Self::before(upstream, |setup, url| change(setup.bearer(CONNECTION, url, SECRET)))
    }

    /// Before this upstream, whose URL the set-up of the connection gets.
    pub fn before(upstream: Upstream, connection: impl FnOnce(Setup, &str) -> Setup) -> Self {
        let agent = Agent::new("alice");
        let gateway = connection(Setup::new(), &upstream.url()).claim(&agent, &[CONNECTION]).start();
        Self { agent, upstream, gateway }
    }

    /// A GET of the agent, not yet signed.
    pub fn draft<'a>(&'a self, target: &'a str) -> Draft<'a> {
        self.agent.request("GET", self.gateway.url(), target)
    }

    /// Sends a signed GET.
    pub fn get(&self, target: &str) -> Response {
        self.gateway.send(&self.agent.get(self.gateway.url(), target))
    }

    /// Sends a signed GET, which must be let through, and gives what the upstream received of it.
    pub fn passed(&self, target: &str) -> Recorded {
        self.passed_draft(self.draft(target))
    }

    /// Signs and sends, and gives what the upstream received.
    pub fn passed_draft(&self, draft: Draft<'_>) -> Recorded {
        let response = self.gateway.send(&draft.sign());
        assert_eq!(response.status, 200, "{}", response.text());
        self.upstream.requests().pop().unwrap()
    }
}

/// Panics unless this is a refusal in the contract's whole form.
pub fn assert_refused(what: &str, response: &Response, status: u16, code: &str, reason: &str) {
    let text = response.text();
    assert_eq!(response.status, status, "{what}: {text}");
    assert_eq!(response.header("content-type"), Some("application/json"), "{what}");
    let envelope = response.json();
    assert_eq!(
        (envelope["code"].as_str(), response.reason().as_str()),
        (Some(code), reason),
        "{what}: {text}"
    );
    assert_eq!(envelope["docs_url"], format!("{DOCS}{code}"), "{what}");
    assert_eq!(envelope["request_id"].as_str(), response.header("x-request-id"), "{what}");
    assert!(response.header("x-request-id").is_some_and(|id| id.len() >= 8), "{what}");
    assert!(envelope["error"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{what}: {text}");
    assert!(is_utc(&envelope["timestamp"]), "{what}: {text}");
    let retry = envelope["code"] == "RATE_LIMITED" || envelope["code"] == "OVERLOADED";
    assert!(!retry || seconds(response) >= 1, "{what}: retry-after is missing");
}

/// The seconds of `retry-after`; 0 where there is none.
pub fn seconds(response: &Response) -> u64 {
    response.header("retry-after").map_or(0, |seconds| seconds.parse().unwrap())
}

fn is_utc(timestamp: &Value) -> bool {
    timestamp
        .as_str()
        .is_some_and(|text| text.ends_with('Z') && text.parse::<sigilum::clock::UnixTime>().is_ok())
}
