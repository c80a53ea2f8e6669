//! What the tests of the control plane's API begin with: an owner with a service, an agent, and how refusals are read.

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::control::{Control, Owner, Service};
use crate::support::raw::Response;

/// A control plane with an owner `acme`, its service `openai` with a key, and agents of `alice`, whose owner is there.
pub struct Desk {
    pub control: Control,
    pub acme: Owner,
    pub openai: Service,
    pub alice: Owner,
    pub agent: Agent,
    /// In the namespace that owns the service.
    pub gateway: Agent,
}

impl Desk {
    pub fn start() -> Self {
        Self::over(Control::start())
    }

    pub fn over(control: Control) -> Self {
        let acme = control.owner("acme");
        let openai = control.service(&acme, "openai");
        let alice = control.owner("alice");
        Self { acme, openai, alice, agent: Agent::new("alice"), gateway: Agent::new("acme"), control }
    }

    /// GET with the service's key, signed by the gateway.
    pub fn service_get(&self, target: &str) -> Response {
        self.control.as_service(&self.gateway, &self.openai.key, "GET", target, None)
    }

    /// The page of approved claims.
    pub fn page(&self, query: &str) -> Value {
        let answer = self.service_get(&format!("/v1/namespaces/claims?service=openai{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    pub fn get(&self, owner: &Owner, path: &str) -> Response {
        self.control.as_owner(owner, "GET", path, None)
    }

    pub fn post(&self, owner: &Owner, path: &str, body: &Value) -> Response {
        self.control.as_owner(owner, "POST", path, Some(body))
    }
}

/// Panics unless this is a refusal with this status and code, in the whole envelope; gives its sentence.
pub fn refused(answer: &Response, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    let told = answer.json();
    assert_eq!(told["code"], code, "{told}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-request-id"), told["request_id"].as_str());
    assert!(told["docs_url"].as_str().unwrap().ends_with(code), "{told}");
    assert!(told["timestamp"].as_str().unwrap().parse::<sigilum::clock::UnixTime>().is_ok(), "{told}");
    let sentence = told["error"].as_str().unwrap();
    assert!(!sentence.is_empty() && !sentence.ends_with('.'), "{sentence}");
    sentence.to_owned()
}
