//! TLS towards upstreams: whom the gateway trusts, by which name, and what it shows.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::certs::Authority;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::Response;
use crate::support::upstream::{Reply, Upstream};

/// An upstream under TLS whose certificate holds `names`.
fn upstream(authority: &Authority, names: &[&str], client_auth: bool) -> Upstream {
    let files = authority.server("upstream", names);
    let config = authority.server_config(&files, client_auth, &["http/1.1"]);
    Upstream::start_tls(config, |_| Reply::ok("taken"))
}

fn gateway(base_url: &str, tls: Value) -> (Gateway, Agent) {
    let agent = Agent::new("alice");
    let mut provider = json!({
        "id": "up", "base_url": base_url, "auth": { "mode": "bearer", "secret": "env:UP" },
    });
    if !tls.is_null() {
        provider["tls"] = tls;
    }
    let setup = Setup::new().provider(provider).env("UP", "canary-1f90").claim(&agent, &["up"]);
    (setup.start(), agent)
}

fn ask((gateway, agent): &(Gateway, Agent)) -> Response {
    gateway.send(&agent.post(gateway.url(), "/proxy/up/", "{}"))
}

/// The answer is the upstream's fault, of class `tls`, and the upstream got neither request nor secret.
fn assert_distrusted(stage: &(Gateway, Agent), upstream: &Upstream) {
    let answer = ask(stage);
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"), "{}", answer.text());
    stage.0.wait_for_metric("sigilum_gateway_upstream_error_total{class=\"tls\"}", 1.0);
    assert!(upstream.requests().is_empty());
}

#[test]
fn private_authority_is_not_trusted_unasked() {
    let authority = Authority::new();
    let upstream = upstream(&authority, &["localhost"], false);
    assert_distrusted(&gateway(&upstream.url_by_name(), Value::Null), &upstream);
}

#[test]
fn private_authority_is_trusted_where_it_is_configured() {
    let authority = Authority::new();
    let upstream = upstream(&authority, &["localhost"], false);
    let stage = gateway(&upstream.url_by_name(), json!({ "ca": authority.ca_file() }));
    assert_eq!(ask(&stage).status, 200);
    assert_eq!(upstream.connections()[0].server_name.as_deref(), Some("localhost"));
    let host = format!("localhost:{}", upstream.address().port());
    assert_eq!(upstream.requests()[0].header("host"), Some(host.as_str()));
}

#[test]
fn another_authority_s_certificate_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let upstream = upstream(&other, &["localhost"], false);
    assert_distrusted(&gateway(&upstream.url_by_name(), json!({ "ca": authority.ca_file() })), &upstream);
}

#[test]
fn certificate_of_another_name_is_refused() {
    let authority = Authority::new();
    let upstream = upstream(&authority, &["elsewhere.example"], false);
    assert_distrusted(&gateway(&upstream.url_by_name(), json!({ "ca": authority.ca_file() })), &upstream);
}

#[test]
fn configured_name_is_asked_for_and_verified() {
    let authority = Authority::new();
    let upstream = upstream(&authority, &["internal.example"], false);
    let tls = json!({ "ca": authority.ca_file(), "server_name": "internal.example" });
    let stage = gateway(&upstream.url_by_name(), tls);
    assert_eq!(ask(&stage).status, 200);
    assert_eq!(upstream.connections()[0].server_name.as_deref(), Some("internal.example"));
    let tls = json!({ "ca": authority.ca_file(), "server_name": "other.example" });
    let requests = upstream.requests().len();
    let answer = ask(&gateway(&upstream.url_by_name(), tls));
    assert_eq!((answer.status, upstream.requests().len()), (502, requests));
}

#[test]
fn address_is_verified_like_a_name() {
    let authority = Authority::new();
    let by_address = upstream(&authority, &["127.0.0.1"], false);
    let stage = gateway(&by_address.url(), json!({ "ca": authority.ca_file() }));
    assert_eq!(ask(&stage).status, 200);
    let by_name = upstream(&authority, &["localhost"], false);
    assert_distrusted(&gateway(&by_name.url(), json!({ "ca": authority.ca_file() })), &by_name);
}

#[test]
fn client_certificate_is_shown_where_it_is_configured() {
    let authority = Authority::new();
    let upstream = upstream(&authority, &["localhost"], true);
    let client = authority.client("gateway");
    let tls = json!({ "ca": authority.ca_file(), "cert": client.cert, "key": client.key });
    assert_eq!(ask(&gateway(&upstream.url_by_name(), tls)).status, 200);
    assert!(upstream.connections()[0].client_certificate);
    let without = ask(&gateway(&upstream.url_by_name(), json!({ "ca": authority.ca_file() })));
    assert_eq!((without.status, without.code().as_str()), (502, "UPSTREAM_ERROR"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn plain_upstream_behind_an_https_url_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut wire, _) = listener.accept().unwrap();
        wire.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").unwrap();
        let mut received = Vec::new();
        let _ = wire.read_to_end(&mut received);
        received
    });
    let answer = ask(&gateway(&url, Value::Null));
    assert_eq!((answer.status, answer.code().as_str()), (502, "UPSTREAM_ERROR"));
    assert!(!String::from_utf8_lossy(&server.join().unwrap()).contains("canary"));
}

#[test]
fn two_providers_of_one_address_trust_each_its_own_authority() {
    let (authority, other, agent) = (Authority::new(), Authority::new(), Agent::new("alice"));
    let upstream = upstream(&authority, &["localhost"], false);
    let provider = |id: &str, authority: &Authority| {
        json!({
            "id": id, "base_url": upstream.url_by_name(), "auth": { "mode": "none" },
            "tls": { "ca": authority.ca_file() },
        })
    };
    let gateway = Setup::new()
        .set("limits.threads", 1)
        .provider(provider("trusting", &authority))
        .provider(provider("doubting", &other))
        .claim(&agent, &["trusting", "doubting"])
        .start();
    for _ in 0..2 {
        assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/trusting/")).status, 200);
        assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/doubting/")).status, 502);
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn probes_show_and_trust_what_requests_do() {
    let (authority, agent) = (Authority::new(), Agent::new("alice"));
    let one = upstream(&authority, &["localhost"], true);
    // The second endpoint answers to its address alone.
    let two = upstream(&authority, &["127.0.0.1"], true);
    let client = authority.client("gateway");
    let provider = json!({
        "id": "up", "endpoints": [{ "url": one.url_by_name() }, { "url": two.url() }], "auth": { "mode": "none" },
        "tls": { "ca": authority.ca_file(), "cert": client.cert, "key": client.key },
        "health_check": { "path": "/health", "interval": "100ms", "healthy": 1, "unhealthy": 1 },
    });
    let gateway = Setup::new().provider(provider).claim(&agent, &["up"]).start();
    for upstream in [&one, &two] {
        let probes = upstream.wait_for(3);
        let host = upstream.requests()[0].header("host").unwrap().to_owned();
        assert!(probes.iter().all(|probe| probe.target == "/health" && probe.header("host") == Some(&host)));
    }
    for _ in 0..4 {
        assert_eq!(gateway.send(&agent.get(gateway.url(), "/proxy/up/v1")).status, 200);
    }
    for upstream in [&one, &two] {
        let served = upstream.requests().iter().filter(|request| request.target == "/v1").count();
        assert_eq!(served, 2);
    }
}
