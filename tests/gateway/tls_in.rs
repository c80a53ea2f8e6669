//! TLS towards clients: certificates by name, versions, client certificates, and the scheme that a signature covers.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::support::agent::{Agent, Signed};
use crate::support::certs::{Authority, CertFiles};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_client::H2Client;
use crate::support::raw::RawClient;
use crate::support::upstream::{Reply, Upstream};

struct Stage {
    authority: Authority,
    upstream: Upstream,
    agent: Agent,
    gateway: Gateway,
}

impl Stage {
    fn new(tls: impl FnOnce(&Authority) -> Value) -> Self {
        let (authority, agent) = (Authority::new(), Agent::new("alice"));
        let upstream = Upstream::answering(Reply::ok("taken"));
        let listener = json!([{ "address": "127.0.0.1:0", "tls": tls(&authority) }]);
        let gateway = Setup::new()
            .bearer("up", &upstream.url(), "canary")
            .claim(&agent, &["up"])
            .set("listeners", listener)
            .start();
        Self { authority, upstream, agent, gateway }
    }

    /// The gateway's origin by this name.
    fn origin(&self, name: &str) -> String {
        format!("https://{name}:{}", self.gateway.address().port())
    }

    fn connect(&self, name: &str, files: Option<&CertFiles>) -> std::io::Result<RawClient> {
        RawClient::connect_tls(self.gateway.address(), self.authority.client_config(files, &[]), name)
    }

    fn get(&self, name: &str) -> Signed {
        self.agent.get(&self.origin(name), "/proxy/up/v1")
    }

    /// Whether a client with this certificate is served.
    fn serves(&self, files: Option<&CertFiles>) -> bool {
        let Ok(mut client) = self.connect("localhost", files) else { return false };
        let _ = client.try_send(&self.get("localhost").to_bytes());
        // In TLS 1.3 the client learns only after its own part of the handshake that it was refused.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.try_response()))
            .is_ok_and(|answer| answer.is_some_and(|answer| answer.status == 200))
    }
}

fn pair(files: &CertFiles) -> Value {
    json!({ "cert": files.cert, "key": files.key })
}

#[test]
fn https_is_the_scheme_that_is_signed() {
    let stage =
        Stage::new(|authority| json!({ "certificates": [pair(&authority.server("a", &["localhost"]))] }));
    assert!(stage.gateway.url().starts_with("https://"));
    let mut client = stage.connect("localhost", None).unwrap();
    client.send(stage.get("localhost").to_bytes());
    assert_eq!(client.response().status, 200);
    let plain = stage.agent.get(&stage.origin("localhost").replace("https", "http"), "/proxy/up/v1");
    client.send(plain.to_bytes());
    let answer = client.response();
    assert_eq!((answer.status, answer.reason().as_str()), (403, "SIG_VERIFICATION_FAILED"));
    assert_eq!(stage.upstream.requests().len(), 1);
}

#[test]
fn h2_and_http_1_are_offered_and_served() {
    let stage =
        Stage::new(|authority| json!({ "certificates": [pair(&authority.server("a", &["localhost"]))] }));
    let config = stage.authority.client_config(None, &["h2", "http/1.1"]);
    let client = H2Client::connect_tls(stage.gateway.address(), config, "localhost");
    for _ in 0..3 {
        assert_eq!(client.request(stage.get("localhost").to_h2(), None).unwrap().status, 200);
    }
    let body = vec![9; 300_000];
    let request = stage.agent.request("POST", &stage.origin("localhost"), "/proxy/up/").body(&body).sign();
    assert_eq!(client.request(request.to_h2(), Some(&body)).unwrap().status, 200);
    let config = stage.authority.client_config(None, &["http/1.1"]);
    let mut client = RawClient::connect_tls(stage.gateway.address(), config, "localhost").unwrap();
    client.send(request.clone().to_chunked_bytes(5_000));
    assert_eq!(client.response().code(), "AUTH_REPLAY_DETECTED");
}

/// The certificate that the gateway shows to a client that asks for `name`.
fn shown(stage: &Stage, name: &str) -> Vec<u8> {
    let config = stage.authority.client_config(None, &[]);
    let mut tls = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut wire = std::net::TcpStream::connect(stage.gateway.address()).unwrap();
    while tls.is_handshaking() {
        // A name that is not in the certificate ends the handshake after it was shown.
        if tls.complete_io(&mut wire).is_err() {
            break;
        }
    }
    tls.peer_certificates().map(|chain| chain[0].to_vec()).unwrap_or_default()
}

fn der(files: &CertFiles) -> Vec<u8> {
    CertificateDer::from_pem_file(&files.cert).unwrap().to_vec()
}

#[test]
fn name_asked_for_chooses_the_certificate() {
    let mut files = Vec::new();
    let stage = Stage::new(|authority| {
        files = vec![
            authority.server("first", &["first.example"]),
            authority.server("second", &["second.example", "also.example"]),
            authority.server("wild", &["*.wild.example"]),
        ];
        json!({ "certificates": files.iter().map(pair).collect::<Vec<_>>() })
    });
    for (name, at) in [
        ("first.example", 0),
        ("second.example", 1),
        ("also.example", 1),
        ("SECOND.example", 1),
        ("any.wild.example", 2),
    ] {
        assert!(shown(&stage, name) == der(&files[at]), "{name}");
    }
    // The first is for whoever asks for another name; that it does not fit is theirs to judge.
    assert!(stage.connect("other.example", None).is_err());
    let mut client = stage.connect("second.example", None).unwrap();
    client.send(stage.get("second.example").to_bytes());
    assert_eq!(client.response().status, 200);
}

/// A client of one version alone.
fn only(authority: &Authority, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca_file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

#[test]
fn older_version_than_the_least_is_refused() {
    for (least, old_is_served) in [(None, true), (Some("1.2"), true), (Some("1.3"), false)] {
        let stage = Stage::new(|authority| {
            let mut tls = json!({ "certificates": [pair(&authority.server("a", &["localhost"]))] });
            if let Some(least) = least {
                tls["min_version"] = least.into();
            }
            tls
        });
        for (version, served) in [(&TLS12, old_is_served), (&TLS13, true)] {
            let config = only(&stage.authority, version);
            let client = RawClient::connect_tls(stage.gateway.address(), config, "localhost");
            assert_eq!(client.is_ok(), served, "{least:?} {version:?}");
            if let Ok(mut client) = client {
                client.send(stage.get("localhost").to_bytes());
                assert_eq!(client.response().status, 200);
            }
        }
    }
}

fn with_client_auth(mode: &str) -> Stage {
    Stage::new(|authority| {
        json!({
            "certificates": [pair(&authority.server("a", &["localhost"]))],
            "client_auth": mode,
            "client_ca": authority.ca_file(),
        })
    })
}

#[test]
fn client_certificate_is_needed_where_the_listener_says_so() {
    let stranger = Authority::new();
    let stage = with_client_auth("required");
    assert!(stage.serves(Some(&stage.authority.client("agent"))));
    assert!(!stage.serves(None));
    assert!(!stage.serves(Some(&stranger.client("agent"))));
    assert_eq!(stage.upstream.requests().len(), 1);
}

#[test]
fn client_certificate_may_be_left_out_but_not_forged() {
    let stranger = Authority::new();
    let stage = with_client_auth("optional");
    assert!(stage.serves(Some(&stage.authority.client("agent"))));
    assert!(stage.serves(None));
    assert!(!stage.serves(Some(&stranger.client("agent"))));
}

#[test]
fn client_certificate_does_not_stand_for_a_signature() {
    let stage = with_client_auth("required");
    let mut client = stage.connect("localhost", Some(&stage.authority.client("agent"))).unwrap();
    client.send(stage.get("localhost").without("signature").to_bytes());
    assert_eq!(client.response().status, 403);
    stage.upstream.assert_zero_bytes();
}

#[test]
fn plain_text_on_a_tls_listener_is_not_served() {
    let stage =
        Stage::new(|authority| json!({ "certificates": [pair(&authority.server("a", &["localhost"]))] }));
    let mut client = stage.gateway.connect();
    client.send(stage.get("localhost").to_bytes());
    client.finish_sending();
    assert!(!String::from_utf8_lossy(&client.rest()).contains("HTTP/1.1 200"));
    stage.upstream.assert_zero_bytes();
    assert!(stage.serves(None));
}

#[test]
fn files_that_do_not_fit_are_named_at_the_start() {
    let authority = Authority::new();
    let (one, other) = (authority.server("one", &["localhost"]), authority.server("other", &["localhost"]));
    for (cert, key, named) in [
        (&one.cert, &other.key, "one.pem"),
        (&one.key, &one.key, "one.key"),
        (&one.cert, &one.cert, "one.pem"),
    ] {
        let tls = json!({ "certificates": [{ "cert": cert, "key": key }] });
        let listener = json!([{ "address": "127.0.0.1:0", "tls": tls }]);
        let (status, output) = Setup::new().set("listeners", listener).refused();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains(named), "{output}");
    }
}
