//! A request that another implementation of RFC 9421 signed passes the gateway on a real connection.
//!
//! The Python that `SIGILUM_PYTHON` names must have the package `http-message-signatures`; without the variable
//! these tests say so and pass.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use sigilum::clock::{Clock, UnixTime};
use sigilum::protocol::{ContentDigest, Identity, Unsigned, sign};

use super::scene::{CONNECTION, assert_refused};
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::Response;
use crate::support::upstream::{Reply, Upstream};

const BODY: &str = r#"{"model":"m"}"#;

/// What the script signs; `None` where there is no Python to ask.
fn signed_by_python(question: &Value) -> Option<Map<String, Value>> {
    let Some(python) = std::env::var_os("SIGILUM_PYTHON") else {
        eprintln!("not run: SIGILUM_PYTHON names no Python with http-message-signatures");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/http_message_signatures.py");
    let mut child = Command::new(python)
        .args([script, "sign"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

struct Peer {
    seed: [u8; 32],
    identity: Identity,
    upstream: Upstream,
    gateway: Gateway,
}

impl Peer {
    fn start() -> Self {
        let seed = crate::support::random();
        let identity = Identity::create(&"alice".parse().unwrap(), seed, Clock::system().now());
        let upstream = Upstream::answering(Reply::Echo);
        let claim = json!({
            "namespace": "alice", "public_key": identity.public_key().to_string(), "services": [CONNECTION],
        });
        let gateway = Setup::new().bearer(CONNECTION, &upstream.url(), "s").claim_entry(claim).start();
        Self { seed, identity, upstream, gateway }
    }

    /// The profile's headers but the two of the signature.
    fn headers(&self, url: &str) -> Map<String, Value> {
        let request = Unsigned {
            method: "POST",
            uri: url,
            content_digest: Some(ContentDigest::of(BODY.as_bytes())),
            subject: Some("user-17"),
            agent_id: Some("planner"),
            nonce: "not-used-here",
            now: Clock::system().now(),
        };
        let signed = sign(&self.identity, &request).unwrap();
        let text = |value: &http::HeaderValue| json!(value.to_str().unwrap());
        let named = signed.iter().map(|(name, value)| (name.to_string(), text(value)));
        named.filter(|(name, _)| !name.starts_with("signature")).collect()
    }

    /// Sends what Python signed for `target`; `None` without Python.
    fn send(
        &self,
        target: &str,
        further: &[&str],
        change: impl FnOnce(String) -> String,
    ) -> Option<Response> {
        let url = format!("{}{target}", self.gateway.url());
        let mut headers = self.headers(&url);
        headers.insert("content-type".to_owned(), json!("application/json"));
        let mut covers = vec![
            "@method",
            "@target-uri",
            "content-digest",
            "sigilum-namespace",
            "sigilum-subject",
            "sigilum-agent-id",
            "sigilum-agent-key",
            "sigilum-agent-cert",
        ];
        covers.extend(further);
        let seed: String = self.seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let now: UnixTime = Clock::system().now();
        let signature = signed_by_python(&json!({
            "method": "POST", "url": url, "headers": headers, "seed": seed, "covers": covers,
            "created": now.secs(), "nonce": format!("python-{}", now.millis()), "keyid": self.identity.key_id().as_str(),
        }))?;
        headers.extend(signature);
        let host = self.gateway.address();
        let mut request =
            format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n", BODY.len());
        for (name, value) in &headers {
            request.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
        }
        let mut client = self.gateway.connect();
        client.send(change(format!("{request}\r\n{BODY}")));
        Some(client.response())
    }
}

#[test]
fn request_signed_elsewhere_with_the_method_in_capitals_is_let_through() {
    let peer = Peer::start();
    let further = ["@authority", "@scheme", "@path", "@query", "content-type", "\"@query-param\";name=\"a\""];
    for more in [&[][..], &further[..]] {
        let Some(response) = peer.send("/proxy/openai/v1/chat?a=b%20c", more, |request| request) else {
            return;
        };
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let received = peer.upstream.wait_for(2);
    assert_eq!(
        (received[0].target.as_str(), received[0].body.as_slice()),
        ("/v1/chat?a=b%20c", BODY.as_bytes())
    );
}

#[test]
fn request_signed_elsewhere_and_changed_on_the_way_is_refused() {
    let peer = Peer::start();
    let changed = peer.send("/proxy/openai/v1/chat?a=b", &[], |request| request.replacen("?a=b", "?a=c", 1));
    let Some(response) = changed else { return };
    assert_refused("changed", &response, 403, "AUTH_SIGNATURE_INVALID", "SIG_VERIFICATION_FAILED");
    peer.upstream.assert_zero_bytes();
}
