//! Signed requests, made before anything is measured.

use std::fmt::Write as _;

use sigilum::clock::Clock;
use sigilum::protocol::{ContentDigest, Identity, Unsigned, sign};

use super::samples;

/// Agents, where no number is given.
pub const IDENTITIES: u32 = 512;
/// Signed as the requests' authority, wherever they are sent: so that one pool serves every system.
const AUTHORITY: &str = "gateway.test";
const TARGET: &str = "/proxy/bench/v1/items?limit=20";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// The agents that sign, in turn.
pub struct Agents(Vec<Identity>);

impl Agents {
    pub fn new(count: u32) -> Self {
        Self((0..count).map(samples::identity).collect())
    }
}

/// Requests of one method, each with a nonce of its own. What an agent's requests have in common is held once.
pub struct Pool {
    heads: Vec<Vec<u8>>,
    tails: Vec<u8>,
    /// Where each tail ends.
    ends: Vec<usize>,
    body: Vec<u8>,
}

impl Pool {
    /// Signs so many requests, created now; a POST has a body of so many bytes.
    pub fn sign(agents: &Agents, method: Method, body_bytes: usize, count: usize) -> Self {
        let body = if method == Method::Post { vec![b'a'; body_bytes] } else { Vec::new() };
        let uri = format!("http://{AUTHORITY}{TARGET}");
        let mut pool = Self { heads: Vec::new(), tails: Vec::new(), ends: Vec::with_capacity(count), body };
        let digest = (!pool.body.is_empty()).then(|| ContentDigest::of(&pool.body));
        let salt = Clock::system().now().millis();
        let mut nonce = String::new();
        for number in 0..count {
            let agent = number % agents.0.len();
            nonce.clear();
            let _ = write!(nonce, "{salt:x}-{method:?}-{number:08x}-9e21-0a8c64d7b913");
            let unsigned = Unsigned {
                method: method.as_str(),
                uri: &uri,
                content_digest: digest.clone(),
                subject: None,
                agent_id: None,
                nonce: &nonce,
                now: Clock::system().now(),
            };
            let signed = sign(&agents.0[agent], &unsigned).unwrap();
            let (own, shared): (Vec<_>, Vec<_>) =
                signed.iter().partition(|(name, _)| name.as_str().starts_with("signature"));
            if number == agent {
                pool.heads.push(head(method, pool.body.len(), &shared));
            }
            lines(&own, &mut pool.tails);
            pool.tails.extend_from_slice(b"\r\n");
            pool.ends.push(pool.tails.len());
        }
        pool
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Puts the whole request with this number in place of what `out` holds.
    pub fn put(&self, number: usize, out: &mut Vec<u8>) {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        out.clear();
        out.extend_from_slice(&self.heads[number % self.heads.len()]);
        out.extend_from_slice(&self.tails[start..self.ends[number]]);
        out.extend_from_slice(&self.body);
    }
}

type Line<'h> = &'h (http::HeaderName, http::HeaderValue);

fn head(method: Method, body_bytes: usize, shared: &[Line<'_>]) -> Vec<u8> {
    let mut head = format!(
        "{} {TARGET} HTTP/1.1\r\nhost: {AUTHORITY}\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\nuser-agent: load/1.0\r\n",
        method.as_str()
    )
    .into_bytes();
    if method == Method::Post {
        head.extend_from_slice(
            format!("content-type: text/plain\r\ncontent-length: {body_bytes}\r\n").as_bytes(),
        );
    }
    lines(shared, &mut head);
    head
}

fn lines(headers: &[Line<'_>], out: &mut Vec<u8>) {
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}
