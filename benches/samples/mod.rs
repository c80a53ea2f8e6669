//! Agents and signed requests for the benches, made once before anything is measured.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;
use sigilum::clock::UnixTime;
use sigilum::protocol::{
    Agent, CertificateFault, Certificates, ContentDigest, Identity, Message, Uncached, Unsigned, sign,
};

/// When everything happens.
pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// What every request asks for.
pub const TARGET_URI: &str = "https://gateway.example.com/proxy/openai/v1/responses?limit=20";

/// The seed of the agent with this number.
pub fn seed(number: u32) -> [u8; 32] {
    let mut seed = [0x5a; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    seed
}

/// The agent with this number; its namespace is `agent-<number>`.
pub fn identity(number: u32) -> Identity {
    Identity::create(&format!("agent-{number}").parse().unwrap(), seed(number), NOW)
}

/// A signed request.
pub struct Sample {
    pub method: &'static str,
    pub headers: HeaderMap,
    pub has_body: bool,
    key: SigningKey,
}

impl Sample {
    /// A GET of agent 1 in the form of the SDKs, which sign the method in lower case.
    pub fn get() -> Self {
        Self::new("GET", None)
    }

    /// A POST of 1 KiB of agent 1.
    pub fn post() -> Self {
        Self::new("POST", Some(&[b'a'; 1024]))
    }

    fn new(method: &'static str, body: Option<&[u8]>) -> Self {
        let unsigned = Unsigned {
            method,
            uri: TARGET_URI,
            content_digest: body.map(ContentDigest::of),
            subject: None,
            agent_id: None,
            nonce: "3f1c9a52-7b0e-4f6d-9e21-0a8c64d7b913",
            now: NOW,
        };
        let mut headers: HeaderMap = sign(&identity(1), &unsigned).unwrap().into_iter().collect();
        let others = [
            ("host", "gateway.example.com"),
            ("accept", "*/*"),
            ("accept-encoding", "gzip, deflate"),
            ("user-agent", "bench/1.0"),
        ];
        for (name, value) in others {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Self { method, headers, has_body: body.is_some(), key: SigningKey::from_bytes(&seed(1)) }
    }

    /// With a part of `signature-input` replaced, and the signature as it was.
    pub fn input_replaced(mut self, from: &str, to: &str) -> Self {
        let input = self.header("signature-input");
        assert!(input.contains(from), "{from:?} is not in {input:?}");
        let input = input.replacen(from, to, 1);
        self.headers.insert("signature-input", HeaderValue::try_from(input).unwrap());
        self
    }

    /// Signed anew with the method as it is sent, the form of RFC 9421 §2.2.1.
    pub fn method_signed_as_sent(mut self) -> Self {
        let signature = self.key.sign(self.base(self.method).as_bytes());
        let value = format!("sig1=:{}:", STANDARD.encode(signature.to_bytes()));
        self.headers.insert("signature", HeaderValue::try_from(value).unwrap());
        self
    }

    /// With a signature that does not fit.
    pub fn forged(mut self) -> Self {
        let signature = self.key.sign(b"another message");
        let value = format!("sig1=:{}:", STANDARD.encode(signature.to_bytes()));
        self.headers.insert("signature", HeaderValue::try_from(value).unwrap());
        self
    }

    /// The signature base (RFC 9421 §2.5) with this value of `@method`.
    pub fn base(&self, method: &str) -> String {
        let input = self.header("signature-input");
        let parameters = input.split_once('=').unwrap().1;
        let names = parameters.trim_start_matches('(').split_once(')').unwrap().0;
        let mut base = String::new();
        for name in names.split(' ').map(|name| name.trim_matches('"')) {
            let value = match name {
                "@method" => method,
                "@target-uri" => TARGET_URI,
                header => self.header(header),
            };
            base.push_str(&format!("\"{name}\": {value}\n"));
        }
        base + &format!("\"@signature-params\": {parameters}")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub fn message(&self) -> Message<'_> {
        Message {
            method: self.method,
            target_uri: TARGET_URI,
            headers: &self.headers,
            has_body: self.has_body,
        }
    }
}

/// Certificates that were proven before, kept as the gateway keeps them.
pub struct Kept(Cache<Box<str>, Arc<Agent>>);

impl Kept {
    pub fn new() -> Self {
        Self(Cache::new(16_384))
    }
}

impl Certificates for Kept {
    fn prove(&self, header: &str, now: UnixTime) -> Result<Arc<Agent>, CertificateFault> {
        if let Some(agent) = self.0.get(header) {
            return Ok(agent);
        }
        let agent = Uncached.prove(header, now)?;
        self.0.insert(header.into(), Arc::clone(&agent));
        Ok(agent)
    }
}
