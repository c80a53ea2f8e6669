//! One request, as the control plane is told of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Serialize;

use crate::policy::Claim;

/// What became of a request that was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// The upstream answered, whatever it said.
    Success,
    /// The gateway refused it after all: its body was not the one signed, its claim was withdrawn under it.
    Rejected,
    /// It failed.
    Error,
}

/// A request that was allowed, over now.
#[derive(Debug, Clone)]
pub struct Event {
    /// The claim that allowed it: who, with which key, on which service.
    pub claim: Arc<Claim>,
    /// Who triggered it.
    pub subject: String,
    /// The agent's name.
    pub agent_id: Option<String>,
    /// What became of it.
    pub result: Result,
    /// The status that the client got; 0 where it got none.
    pub status: u16,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// The request's method.
    pub method: Method,
    /// The path at the upstream, without query.
    pub path: String,
    /// The client's address.
    pub client: Option<IpAddr>,
}

/// The longest texts that are told, in bytes; of longer ones the beginning.
const PATH_BYTES: usize = 1024;
const METHOD_BYTES: usize = 32;
const SUBJECT_BYTES: usize = 256;
const AGENT_BYTES: usize = 128;

/// An event in the form that the control plane takes.
#[derive(Serialize)]
struct Wire<'a> {
    event_id: &'a str,
    namespace: &'a str,
    service: &'a str,
    public_key: String,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    protocol: &'static str,
    action: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    duration_ms: u64,
    response_bytes: u64,
    request_method: &'a str,
    request_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_ip: Option<IpAddr>,
}

impl Event {
    /// With texts no longer than they are told, so that many may wait.
    pub(super) fn bounded(mut self) -> Self {
        cut(&mut self.path, PATH_BYTES);
        cut(&mut self.subject, SUBJECT_BYTES);
        if let Some(agent) = &mut self.agent_id {
            cut(agent, AGENT_BYTES);
        }
        if self.method.as_str().len() > METHOD_BYTES {
            // The beginning of a method is one.
            self.method = beginning(self.method.as_str(), METHOD_BYTES).parse().unwrap_or_default();
        }
        self
    }

    /// The event under this id, as the control plane takes it.
    pub(super) fn json(&self, id: &str) -> Vec<u8> {
        // Text and numbers alone always become JSON.
        serde_json::to_vec(&self.wire(id)).unwrap_or_default()
    }

    fn wire<'a>(&'a self, id: &'a str) -> Wire<'a> {
        Wire {
            event_id: id,
            namespace: self.claim.namespace.as_str(),
            service: self.claim.service.as_str(),
            public_key: self.claim.public_key.to_string(),
            subject: &self.subject,
            agent_id: self.agent_id.as_deref(),
            protocol: "http",
            action: "proxy.request",
            outcome: match self.result {
                Result::Success => "success",
                Result::Rejected => "rejected",
                Result::Error => "error",
            },
            status_code: (self.status != 0).then_some(self.status),
            duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            response_bytes: self.response_bytes,
            request_method: self.method.as_str(),
            request_path: if self.path.is_empty() { "/" } else { &self.path },
            remote_ip: self.client,
        }
    }
}

fn beginning(text: &str, most_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(most_bytes)).unwrap_or_default()
}

/// Gives back the memory too.
fn cut(text: &mut String, most_bytes: usize) {
    if text.len() > most_bytes {
        *text = beginning(text, most_bytes).to_owned();
    }
}
