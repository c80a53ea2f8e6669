//! An agent that signs, and knows how to sign wrongly.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use serde_json::json;
use sigilum::clock::{Clock, UnixTime};
use sigilum::protocol::{ContentDigest, Identity, Unsigned, sign};

use super::http1;

/// An agent with an identity of its own, in memory.
pub struct Agent {
    identity: Identity,
    key: SigningKey,
}

impl Agent {
    /// A new key in `namespace`.
    pub fn new(namespace: &str) -> Self {
        let seed = super::random();
        let identity = Identity::create(&namespace.parse().unwrap(), seed, Clock::system().now());
        Self { identity, key: SigningKey::from_bytes(&seed) }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn namespace(&self) -> &str {
        self.identity.namespace().as_str()
    }

    /// `ed25519:<base64>`.
    pub fn public_key(&self) -> String {
        self.identity.public_key().to_string()
    }

    /// The signature over bytes of the test's own making, as `signature` carries it under the label `sig1`.
    pub fn signature_over(&self, base: &[u8]) -> String {
        format!("sig1=:{}:", STANDARD.encode(self.key.sign(base).to_bytes()))
    }

    /// An entry of `claims.static`.
    pub fn claim(&self, services: &[&str]) -> serde_json::Value {
        json!({ "namespace": self.namespace(), "public_key": self.public_key(), "services": services })
    }

    /// The same as YAML, to stand under `claims: { static: … }` at that indentation.
    pub fn claim_yaml(&self, services: &[&str]) -> String {
        format!(
            "    - namespace: {}\n      public_key: \"{}\"\n      services: [{}]\n",
            self.namespace(),
            self.public_key(),
            services.join(", ")
        )
    }

    /// The signed headers alone, for the absolute `url`.
    pub fn sign(&self, method: &str, url: &str, body: Option<&[u8]>) -> Vec<(String, String)> {
        let unsigned = Unsigned {
            method,
            uri: url,
            content_digest: body.map(ContentDigest::of),
            subject: None,
            agent_id: None,
            nonce: &nonce(),
            now: Clock::system().now(),
        };
        signed_headers(&self.identity, &unsigned)
    }

    /// A request to `origin` (`http://127.0.0.1:1234`) for `target` (path and query), not yet signed.
    pub fn request<'a>(&'a self, method: &'a str, origin: &'a str, target: &'a str) -> Draft<'a> {
        Draft {
            agent: self,
            method,
            origin,
            target,
            body: None,
            subject: None,
            agent_id: None,
            nonce: nonce(),
            created_offset_secs: 0,
            unsigned: Vec::new(),
        }
    }

    /// A signed GET.
    pub fn get(&self, origin: &str, target: &str) -> Signed {
        self.request("GET", origin, target).sign()
    }

    /// A signed POST with a JSON body.
    pub fn post(&self, origin: &str, target: &str, body: &str) -> Signed {
        self.request("POST", origin, target).header("content-type", "application/json").body(body).sign()
    }
}

/// A request before it is signed.
pub struct Draft<'a> {
    agent: &'a Agent,
    method: &'a str,
    origin: &'a str,
    target: &'a str,
    body: Option<Vec<u8>>,
    subject: Option<&'a str>,
    agent_id: Option<&'a str>,
    nonce: String,
    created_offset_secs: i64,
    unsigned: Vec<(String, String)>,
}

impl<'a> Draft<'a> {
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    pub fn subject(mut self, subject: &'a str) -> Self {
        self.subject = Some(subject);
        self
    }

    pub fn agent_id(mut self, agent_id: &'a str) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    pub fn nonce(mut self, nonce: &str) -> Self {
        self.nonce = nonce.to_owned();
        self
    }

    /// `created` so many seconds from now, backwards where negative.
    pub fn created_in(mut self, seconds: i64) -> Self {
        self.created_offset_secs = seconds;
        self
    }

    /// A header that the signature does not cover.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.unsigned.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn sign(self) -> Signed {
        let now = UnixTime::from_secs(Clock::system().now().secs() + self.created_offset_secs);
        let unsigned = Unsigned {
            method: self.method,
            uri: &format!("{}{}", self.origin, self.target),
            content_digest: self.body.as_deref().map(ContentDigest::of),
            subject: self.subject,
            agent_id: self.agent_id,
            nonce: &self.nonce,
            now,
        };
        let mut headers = self.unsigned;
        headers.extend(signed_headers(&self.agent.identity, &unsigned));
        Signed {
            method: self.method.to_owned(),
            origin: self.origin.to_owned(),
            target: self.target.to_owned(),
            headers,
            body: self.body,
        }
    }
}

/// A signed request, which a test may spoil before it sends it.
#[derive(Debug, Clone)]
pub struct Signed {
    pub method: String,
    pub origin: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

impl Signed {
    /// The value of a header.
    pub fn header(&self, name: &str) -> &str {
        http1::all(&self.headers, name)
            .first()
            .copied()
            .unwrap_or_else(|| panic!("there is no header {name}"))
    }

    /// With another value in a header that stands, or with a new header.
    pub fn replace(mut self, name: &str, value: &str) -> Self {
        match self.headers.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// With one header line more, whether or not the name stands already.
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// With `signature-input` changed and signed anew by `agent`, in good order but for that change: what the library's
    /// own signer refuses to write.
    pub fn resigned(mut self, agent: &Agent, change: impl FnOnce(&str) -> String) -> Self {
        let input = change(self.header("signature-input"));
        let parameters = input.split_once('=').map_or("", |(_, parameters)| parameters).to_owned();
        let components = parameters.split([')', '(']).nth(1).unwrap_or_default().split_whitespace();
        let mut base = String::new();
        for component in components.map(|quoted| quoted.trim_matches('"')) {
            let value = match component {
                "@method" => self.method.to_lowercase(),
                "@target-uri" => format!("{}{}", self.origin, self.target),
                name => self.header(name).to_owned(),
            };
            base.push_str(&format!("\"{component}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        self = self.replace("signature-input", &input);
        self.replace("signature", &agent.signature_over(base.as_bytes()))
    }

    /// With another body than the one signed.
    pub fn body_swapped(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// With another method than the one signed.
    pub fn method_swapped(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// With another target than the one signed.
    pub fn target_swapped(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// The whole request in HTTP/1.1, its body with a content-length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Some(body) = &self.body else { return self.head("") };
        let mut bytes = self.head(&format!("content-length: {}\r\n", body.len()));
        bytes.extend_from_slice(body);
        bytes
    }

    /// The whole request in HTTP/1.1, its body in chunks of at most `size` bytes.
    pub fn to_chunked_bytes(&self, size: usize) -> Vec<u8> {
        let mut bytes = self.head("transfer-encoding: chunked\r\n");
        for piece in self.body.as_deref().unwrap_or_default().chunks(size) {
            bytes.extend_from_slice(&http1::chunk(piece));
        }
        bytes.extend_from_slice(&http1::chunk(b""));
        bytes
    }

    /// The head alone, with `framing` (whole header lines) before the empty line.
    pub fn head(&self, framing: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.authority());
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(framing);
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The head for an HTTP/2 client.
    pub fn to_h2(&self) -> http::Request<()> {
        let mut request = http::Request::builder()
            .method(self.method.as_str())
            .uri(format!("{}{}", self.origin, self.target));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    }

    fn authority(&self) -> &str {
        self.origin.split_once("://").map_or(self.origin.as_str(), |(_, authority)| authority)
    }
}

/// A nonce that no other request of this run has.
fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{:08}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn signed_headers(identity: &Identity, unsigned: &Unsigned<'_>) -> Vec<(String, String)> {
    sign(identity, unsigned)
        .expect("the request can be signed")
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}
