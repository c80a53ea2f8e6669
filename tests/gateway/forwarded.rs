//! What a proxy before the gateway says counts where that proxy is trusted, and nowhere else.

use serde_json::json;

use super::scene::Scene;
use crate::support::agent::{Agent, Signed};
use crate::support::control::Control;
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Reply, Upstream};

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
        (
            PUBLIC,
            &[
                ("forwarded", "proto=https;host=gateway.example"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "gateway.example"),
            ],
        ),
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
fn headers_of_the_two_kinds_that_contradict_each_other_are_refused() {
    let scene = behind(&["127.0.0.1"]);
    let own = scene.gateway.url().to_owned();
    // Whichever of the two the proxy writes, the other is its client's.
    for (written, passed_on) in [
        (("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=192.0.2.7")),
        (("forwarded", "for=203.0.113.9"), ("x-forwarded-for", "192.0.2.7")),
        (("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9;host=evil.example")),
        (("forwarded", "for=203.0.113.9"), ("x-forwarded-proto", "https")),
    ] {
        let response = sent_by_way(&scene, &own, &[passed_on, written]);
        assert_eq!((response.status, response.code().as_str()), (400, "REQUEST_INVALID"), "{written:?}");
        let sentence = response.json()["error"].as_str().unwrap().to_owned();
        assert!(sentence.contains("the proxy in front must write one of them"), "{sentence}");
    }
    scene.upstream.assert_zero_bytes();
    // Who is no proxy cannot contradict one.
    let alone = behind(&[]);
    let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=192.0.2.7")];
    assert_eq!(sent_by_way(&alone, alone.gateway.url(), &both).status, 200);
}

/// What became of the claim that a request with this `X-Forwarded-For` asked for, and the client of the decision, at a
/// gateway that trusts these proxies, where claims of agents in `range` are approved at once.
fn claim_by_way(trusted: &[&str], range: &[&str], forwarded_for: &str) -> (String, String) {
    let control = Control::start();
    let owner = control.owner("acme");
    let service = control.service(&owner, "openai");
    let policy = json!({ "autoApproveIP": true, "trustedIPRanges": range });
    assert_eq!(control.as_owner(&owner, "PATCH", "/v1/auth/settings", Some(&policy)).status, 200);
    let upstream = Upstream::answering(Reply::Echo);
    let gateway = Setup::new()
        .bearer("openai", &upstream.url(), "sk-of-the-provider")
        .set("identity.namespace", "acme")
        .set("trusted_proxies", json!(trusted))
        .set("control_plane.url", control.url().as_str())
        .set("control_plane.service_api_key", "env:SERVICE_KEY")
        .env("SERVICE_KEY", &service.key)
        .start();
    let agent = Agent::new("acme");
    let status = eventually("a claim", || {
        let request = agent.get(gateway.url(), TARGET).also("x-forwarded-for", forwarded_for);
        assert!([200, 403, 503].contains(&gateway.send(&request).status));
        let claims = control.as_owner(&owner, "GET", "/v1/namespaces/acme/claims", None).json();
        claims["claims"][0]["status"].as_str().map(str::to_owned)
    });
    (status, gateway.wait_for_decisions(1)[0]["client"].as_str().unwrap().to_owned())
}

#[test]
fn claim_is_asked_for_with_the_address_of_the_client_behind_the_proxy() {
    let trusted = ["127.0.0.0/8"];
    // The networks of the owner's agents hold the proxy too.
    let range = ["127.0.0.0/8", "192.0.2.0/24"];
    let inside = claim_by_way(&trusted, &range, "203.0.113.9, 192.0.2.7");
    assert_eq!(inside, ("approved".to_owned(), "192.0.2.0/24".to_owned()));
    let outside = claim_by_way(&trusted, &range, "192.0.2.7, 203.0.113.9");
    assert_eq!(outside, ("pending".to_owned(), "203.0.113.0/24".to_owned()));
}

#[test]
fn claim_is_asked_for_with_the_peer_s_address_where_it_is_no_trusted_proxy() {
    let told = claim_by_way(&["10.0.0.0/8"], &["192.0.2.0/24"], "192.0.2.7");
    assert_eq!(told, ("pending".to_owned(), "127.0.0.0/24".to_owned()));
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
