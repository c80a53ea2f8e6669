//! A body reaches the upstream byte for byte when it is the signed one, and never as a complete request when it is not:
//! every way in, every way out, every size at which the gateway's handling changes.

use std::sync::Arc;

use serde_json::json;

use crate::support::agent::{Agent, Signed};
use crate::support::certs::Authority;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::raw::Response;
use crate::support::upstream::{Reply, Upstream};
use crate::support::upstream_h2::{H2Reply, H2Upstream, StreamEnd};

const KIB: usize = 1024;
const WINDOW: usize = 256 * KIB;
/// Up to here a body of declared length is proven before the upstream is contacted.
const READ_AHEAD: usize = 64 * KIB;
const SIZES: [usize; 9] =
    [0, 1, READ_AHEAD - 1, READ_AHEAD, READ_AHEAD + 1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW];

/// How the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Length,
    Chunked,
    H2,
    H2Length,
}

impl Way {
    fn tells_length(self) -> bool {
        matches!(self, Self::Length | Self::H2Length)
    }

    fn send(self, gateway: &Gateway, request: &Signed) -> Response {
        match self {
            Self::Length => gateway.send(request),
            Self::Chunked => {
                let mut client = gateway.connect();
                client.send(request.to_chunked_bytes(10_000));
                client.response()
            }
            Self::H2 => self.send_h2(gateway, request),
            Self::H2Length => {
                let length = request.body.as_ref().map_or(0, Vec::len).to_string();
                self.send_h2(gateway, &request.clone().also("content-length", &length))
            }
        }
    }

    fn send_h2(self, gateway: &Gateway, request: &Signed) -> Response {
        let client = H2Client::connect(gateway.address());
        client.request(request.to_h2(), request.body.as_deref()).expect("an answer over HTTP/2")
    }
}

/// What one request brought to the upstream: its body, and whether it was complete.
type Arrived = (Vec<u8>, bool);

/// The upstream of a test, of either version.
enum Provider {
    One(Upstream),
    Two(H2Upstream),
}

impl Provider {
    fn config(&self, authority: &Authority) -> serde_json::Value {
        match self {
            Self::One(upstream) => {
                json!({ "id": "up", "base_url": upstream.url(), "auth": { "mode": "none" } })
            }
            Self::Two(upstream) => json!({
                "id": "up", "base_url": upstream.url_by_name(), "auth": { "mode": "none" },
                "tls": { "ca": authority.ca_file() },
            }),
        }
    }

    /// What has come of the request with this id, once its end is known.
    fn arrived(&self, id: &str) -> Option<Arrived> {
        match self {
            Self::One(upstream) => {
                let requests = upstream.requests();
                let request =
                    requests.into_iter().find(|request| request.header("x-request-id") == Some(id))?;
                if !request.complete {
                    upstream.wait_closed(request.connection);
                }
                let requests = upstream.requests();
                let request =
                    requests.into_iter().find(|request| request.header("x-request-id") == Some(id))?;
                Some((request.body, request.complete))
            }
            Self::Two(upstream) => {
                let find = || {
                    upstream.requests().into_iter().find(|request| {
                        request.headers.iter().any(|(name, value)| name == "x-request-id" && value == id)
                    })
                };
                find()?;
                let request = eventually("the end of the stream", || {
                    find().filter(|request| request.end != StreamEnd::Open)
                });
                Some((request.body, request.end == StreamEnd::Complete))
            }
        }
    }
}

fn h1_upstream(_: &Authority) -> Provider {
    Provider::One(Upstream::answering(Reply::ok("taken")))
}

fn h2_upstream(authority: &Authority) -> Provider {
    let server = authority.server_config(&authority.server("upstream", &["localhost"]), false, &["h2"]);
    Provider::Two(H2Upstream::start(Arc::clone(&server), |_| H2Reply::Fixed {
        status: 200,
        headers: Vec::new(),
        body: b"taken".to_vec(),
    }))
}

/// Bytes that show where each of them belongs.
fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

/// Bytes of the same size, the last of them another; for nothing, something.
fn others(size: usize) -> Vec<u8> {
    let mut bytes = bytes(size.max(1));
    *bytes.last_mut().unwrap() ^= 0xff;
    bytes
}

fn every_size(way: Way, provider: fn(&Authority) -> Provider) {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let provider = provider(&authority);
    let gateway = Setup::new()
        .provider(provider.config(&authority))
        .claim(&agent, &["up"])
        .set("limits.body.window", "256KiB")
        .start();
    for size in SIZES {
        let draft =
            |id: &str| agent.request("POST", gateway.url(), "/proxy/up/v1/files").header("x-request-id", id);
        let id = format!("right-{size:08}");
        let answer = way.send(&gateway, &draft(&id).body(bytes(size)).sign());
        assert_eq!((answer.status, answer.text()), (200, "taken".to_owned()), "{way:?}, {size} bytes");
        let (body, complete) = provider.arrived(&id).expect("the right body arrives");
        assert!(complete && body == bytes(size), "{way:?}: {size} bytes became {}", body.len());

        let id = format!("wrong-{size:08}");
        let wrong = draft(&id).body(others(size)).sign().body_swapped(bytes(size));
        let answer = way.send(&gateway, &wrong);
        assert_eq!(
            (answer.status, answer.code(), answer.reason()),
            (403, "AUTH_SIGNATURE_INVALID".to_owned(), "SIG_CONTENT_DIGEST_MISMATCH".to_owned()),
            "{way:?}, {size} bytes"
        );
        let arrived = provider.arrived(&id);
        if way.tells_length() && size <= READ_AHEAD {
            assert!(arrived.is_none(), "{way:?}: {size} wrong bytes reached the upstream");
        } else if let Some((body, complete)) = arrived {
            assert!(!complete, "{way:?}: {size} wrong bytes became a complete request");
            assert!(body.len() <= size.saturating_sub(WINDOW), "{way:?}: of {size}, {} left", body.len());
        }
    }
}

#[test]
fn content_length_to_h1_upstream() {
    every_size(Way::Length, h1_upstream);
}

#[test]
fn content_length_to_h2_upstream() {
    every_size(Way::Length, h2_upstream);
}

#[test]
fn chunks_to_h1_upstream() {
    every_size(Way::Chunked, h1_upstream);
}

#[test]
fn chunks_to_h2_upstream() {
    every_size(Way::Chunked, h2_upstream);
}

#[test]
fn h2_stream_to_h1_upstream() {
    every_size(Way::H2, h1_upstream);
}

#[test]
fn h2_stream_to_h2_upstream() {
    every_size(Way::H2, h2_upstream);
}

#[test]
fn h2_stream_with_length_to_h1_upstream() {
    every_size(Way::H2Length, h1_upstream);
}

#[test]
fn h2_stream_with_length_to_h2_upstream() {
    every_size(Way::H2Length, h2_upstream);
}

#[test]
fn connection_that_takes_only_what_is_proven_refuses_what_exceeds_the_window() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let provider = h1_upstream(&authority);
    let mut config = provider.config(&authority);
    config["unverified_stream"] = "refuse".into();
    let gateway =
        Setup::new().provider(config).claim(&agent, &["up"]).set("limits.body.window", "256KiB").start();
    for way in [Way::Length, Way::Chunked, Way::H2, Way::H2Length] {
        let draft = |id: &str, size| {
            let draft = agent.request("POST", gateway.url(), "/proxy/up/").header("x-request-id", id);
            draft.body(bytes(size)).sign()
        };
        let answer = way.send(&gateway, &draft(&format!("fits-{way:?}-000"), WINDOW));
        assert_eq!(answer.status, 200, "{way:?}: {}", answer.text());
        let id = format!("exceeds-{way:?}-000");
        let answer = way.send(&gateway, &draft(&id, WINDOW + 1));
        assert_eq!((answer.status, answer.code().as_str()), (413, "REQUEST_BODY_TOO_LARGE"), "{way:?}");
        let arrived = provider.arrived(&id);
        assert!(arrived.is_none_or(|(body, complete)| !complete && body.is_empty()), "{way:?}");
    }
}
