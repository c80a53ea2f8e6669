//! What a proxy before the gateway says counts where that proxy is trusted, and nowhere else.

use serde_json::json;

use super::scene::Scene;
use crate::support::agent::Signed;
use crate::support::raw::{RawClient, Response};

const TARGET: &str = "/proxy/openai/v1/chat";

/// A request that was signed for `origin`, and came to the gateway with these headers added on the way.
fn sent_by_way(scene: &Scene, origin: &str, added: &[(&str, &str)]) -> Response {
    let mut request: Signed = scene.agent.get(origin, TARGET);
    for (name, value) in added {
        request = request.also(name, value);
    }
    scene.gateway.url().clone_into(&mut request.origin);
    scene.gateway.send(&request)
}

fn behind(trusted: &[&str]) -> Scene {
    Scene::with(|setup| setup.set("trusted_proxies", json!(trusted)))
}

const PUBLIC: &str = "https://gateway.example";

#[test]
fn trusted_proxy_says_what_the_client_asked_for() {
    let scene = behind(&["10.0.0.0/8", "127.0.0.0/8"]);
    let own = scene.gateway.url().trim_start_matches("http://").to_owned();
    let own_https = format!("https://{own}");
    let both: &[(&str, &str)] = &[("x-forwarded-proto", "https"), ("x-forwarded-host", "gateway.example")];
    let cases: [(&str, &[(&str, &str)]); 12] = [
        (PUBLIC, both),
        (PUBLIC, &[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "Gateway.Example:443")]),
        (PUBLIC, &[("forwarded", "proto=https;host=gateway.example")]),
        (PUBLIC, &[("Forwarded", "for=192.0.2.1; Proto=https; HOST=\"gateway.example\"")]),
        (PUBLIC, &[("forwarded", "proto=http;host=evil.example, proto=https;host=gateway.example")]),
        (
            PUBLIC,
            &[
                ("forwarded", "proto=http;host=evil.example"),
                ("forwarded", "proto=https;host=gateway.example"),
            ],
        ),
        (
            PUBLIC,
            &[("x-forwarded-proto", "http, https"), ("x-forwarded-host", "evil.example,gateway.example")],
        ),
        (PUBLIC, &[("forwarded", "host=gateway.example;proto=https"), ("x-forwarded-host", "evil.example")]),
        ("https://gateway.example:8443", &[("forwarded", "proto=https;host=\"gateway.example:8443\"")]),
        ("http://gateway.example", &[("x-forwarded-host", "gateway.example:80")]),
        (&own_https, &[("x-forwarded-proto", "https")]),
        (scene.gateway.url(), &[]),
    ];
    for (origin, added) in cases {
        let response = sent_by_way(&scene, origin, added);
        assert_eq!(response.status, 200, "{origin} {added:?}: {}", response.text());
    }
    let response = sent_by_way(&scene, "https://evil.example", both);
    assert_eq!(response.reason(), "SIG_VERIFICATION_FAILED");
}

#[test]
fn proxy_that_comes_by_ipv4_to_a_listener_of_both_families_is_the_same_proxy() {
    if std::net::TcpListener::bind("[::]:0").is_err() {
        eprintln!("not run: this machine has no IPv6");
        return;
    }
    let scene = Scene::with(|setup| {
        setup
            .set("listeners", json!([{ "address": "[::]:0" }]))
            .set("trusted_proxies", json!(["127.0.0.0/8"]))
    });
    let mut request = scene.agent.get(PUBLIC, TARGET).also("forwarded", "proto=https;host=gateway.example");
    request.origin = "http://localhost".to_owned();
    let mut client = RawClient::connect(([127, 0, 0, 1], scene.gateway.address().port()).into());
    client.send(request.to_bytes());
    let response = client.response();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(scene.gateway.wait_for_decisions(1)[0]["client"], "127.0.0.0/24");
}

#[test]
fn nobody_else_does() {
    for trusted in [&[][..], &["10.0.0.0/8", "192.0.2.7"][..]] {
        let scene = behind(trusted);
        for added in [
            &[("x-forwarded-proto", "https"), ("x-forwarded-host", "gateway.example")][..],
            &[("forwarded", "proto=https;host=gateway.example")][..],
        ] {
            let forged = sent_by_way(&scene, PUBLIC, added);
            assert_eq!(forged.reason(), "SIG_VERIFICATION_FAILED", "{added:?}");
            let honest = sent_by_way(&scene, scene.gateway.url(), added);
            assert_eq!(honest.status, 200, "{added:?}");
        }
        assert_eq!(scene.upstream.wait_for(2).len(), 2);
    }
}

#[test]
fn forwarded_host_that_is_no_host_is_refused() {
    let scene = behind(&["127.0.0.1"]);
    for host in ["a b", "user@gateway.example", "gateway.example/x", "gateway.example:port", "[::1"] {
        let response = sent_by_way(&scene, PUBLIC, &[("x-forwarded-host", host)]);
        assert_eq!((response.status, response.code().as_str()), (400, "REQUEST_INVALID"), "{host}");
    }
    scene.upstream.assert_zero_bytes();
}

#[test]
fn request_is_verified_for_the_host_it_was_signed_for_without_default_port_and_case() {
    let scene = Scene::start();
    for (origin, host) in [
        ("http://gateway.example", "gateway.example:80"),
        ("http://gateway.example", "GATEWAY.example"),
        ("http://gateway.example:8080", "gateway.example:8080"),
        ("http://[2001:db8::1]:8080", "[2001:DB8::1]:8080"),
    ] {
        let mut request = scene.agent.get(origin, TARGET);
        request.origin = format!("http://{host}");
        assert_eq!(scene.gateway.send(&request).status, 200, "{host}");
    }
}
