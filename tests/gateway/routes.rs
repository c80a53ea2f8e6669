//! What the data port serves, and what it does not.

use serde_json::json;

use super::scene::{Scene, assert_refused};
use crate::support::agent::Agent;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::Response;
use crate::support::upstream::{Reply, Upstream};

/// Sends an unsigned request with these further header lines.
fn raw(gateway: &Gateway, method: &str, target: &str, headers: &str) -> Response {
    let mut client = gateway.connect();
    client.send(format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}\r\n"));
    client.response_to(method)
}

/// Mode `managed`, with a control plane that nobody runs.
fn managed() -> Setup {
    let control_plane = json!({ "url": "http://127.0.0.1:9", "service_api_key": "env:TEST_KEY" });
    Setup::new().set("mode", "managed").set("control_plane", control_plane).env("TEST_KEY", "sk_live_1")
}

#[test]
fn health_is_answered_to_anybody() {
    let gateway = Setup::new().start();
    for (path, check) in [("/health", "health"), ("/health/live", "liveness"), ("/health/ready", "readiness")]
    {
        let response = raw(&gateway, "GET", path, "");
        assert_eq!((response.status, response.json()), (200, json!({ "status": "ok", "check": check })));
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(raw(&gateway, "GET", &format!("{path}?probe=1"), "").status, 200);
        let head = raw(&gateway, "HEAD", path, "");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_refused(path, &raw(&gateway, "DELETE", path, ""), 405, "METHOD_NOT_ALLOWED", "");
    }
    assert!(gateway.decisions().iter().all(|decision| decision["decision"] != "allow"));
}

#[test]
fn slack_is_an_alias_of_its_connection() {
    let (upstream, agent) = (Upstream::answering(Reply::Echo), Agent::new("alice"));
    let gateway =
        Setup::new().bearer("slack-proxy", &upstream.url(), "xoxb-1").claim(&agent, &["slack-proxy"]).start();
    for (sent, received) in [
        ("/slack/api/chat.postMessage?a=b", "/api/chat.postMessage?a=b"),
        ("/slack", "/"),
        ("/slack?a", "/?a"),
        ("/proxy/slack-proxy/api/x", "/api/x"),
    ] {
        let response = gateway.send(&agent.get(gateway.url(), sent));
        assert_eq!((response.status, &response.json()["target"]), (200, &json!(received)), "{sent}");
        assert_eq!(upstream.requests().pop().unwrap().header("authorization"), Some("Bearer xoxb-1"));
    }
    let decisions = gateway.wait_for_decisions(4);
    assert!(decisions.iter().all(|decision| decision["connection"] == "slack-proxy"));
}

#[test]
fn dot_segments_are_refused_in_every_encoding() {
    let scene = Scene::start();
    for rest in [
        "/..",
        "/../",
        "/.",
        "/./a",
        "/a/../b",
        "/a/..",
        "/%2e%2e/a",
        "/%2E%2e",
        "/.%2e/a",
        "/%2e./a",
        "/%2e",
        "/a%2f..%2fb",
        "/a%2F%2e%2E%2Fb",
        "/..%5ca",
        "/..\\a",
        "/a\\..\\b",
        "/..;/a",
        "/..;x=y/a",
        "/%2e%2e;/a",
        "/..%3b/a",
        "/%252e%252e/a",
        "/%25252e%25252e/a",
        "/a%252f..%252fb",
        "/a%00b",
        "/a%0d%0ab",
        "/%",
        "/%2",
        "/%zz",
    ] {
        let target = format!("/proxy/openai{rest}");
        let response = scene.gateway.send(&scene.draft(&target).sign());
        assert_refused(&target, &response, 400, "PATH_INVALID", "");
    }
    scene.upstream.assert_zero_bytes();
}

#[test]
fn target_that_is_no_uri_is_refused_in_the_envelope() {
    let scene = Scene::start();
    for rest in ["<x>", "a>b", "`id`", "a?b=\"c\"", "?<script>", "m\u{fc}ller", "?\u{fc}"] {
        let target = format!("/proxy/openai/{rest}");
        let response = scene.gateway.send(&scene.draft("/proxy/openai/").sign().target_swapped(&target));
        assert_refused(&target, &response, 400, "REQUEST_INVALID", "");
    }
    scene.upstream.assert_zero_bytes();
}

#[test]
fn target_is_as_long_as_a_uri_may_be_and_no_longer() {
    let scene = Scene::with(|setup| setup.set("limits.header_bytes", "256KiB"));
    let of = |bytes: usize| format!("/proxy/openai/{}", "a".repeat(bytes - "/proxy/openai/".len()));
    assert_eq!(scene.passed(&of(65_534)).target.len(), 65_534 - "/proxy/openai".len());
    let response = scene.gateway.send(&scene.draft(&of(65_535)).sign());
    assert_refused("too long", &response, 400, "REQUEST_INVALID", "");
}

#[test]
fn connect_and_trace_are_refused() {
    let scene = Scene::start();
    for (method, target) in
        [("CONNECT", "example.com:443"), ("TRACE", "/proxy/openai/"), ("TRACE", "/health")]
    {
        assert_refused(method, &raw(&scene.gateway, method, target, ""), 405, "METHOD_NOT_ALLOWED", "");
    }
    scene.upstream.assert_zero_bytes();
}

#[test]
fn anything_else_is_not_found() {
    let scene = Scene::start();
    for target in [
        "/",
        "/proxy",
        "/proxy/",
        "/proxy//x",
        "/Proxy/openai/",
        "//proxy/openai/",
        "/%70roxy/openai/",
        "/slackx",
        "/healthz",
        "/health/",
        "/health/Ready",
        "/v1/chat",
        "/mcp/openai",
        "/favicon.ico",
    ] {
        let signed = scene.gateway.send(&scene.draft(target).sign());
        assert_refused(target, &signed, 404, "NOT_FOUND", "");
    }
    scene.upstream.assert_zero_bytes();
}

#[test]
fn admin_routes_are_on_the_data_port_where_the_mode_or_the_setting_says_so() {
    for (setup, served) in [
        (Setup::new(), true),
        (Setup::new().set("mode", "oss-local"), true),
        (managed(), true),
        (Setup::new().set("mode", "enterprise"), false),
        (Setup::new().set("mode", "enterprise").set("admin.on_data_port", true), true),
        (Setup::new().set("admin.on_data_port", false), false),
    ] {
        let gateway = setup.start();
        let metrics = raw(&gateway, "GET", "/metrics", "");
        let admin = raw(&gateway, "GET", "/api/admin/nothing", "");
        if served {
            assert_eq!(metrics.status, 200);
            assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
            assert!(metrics.text().contains("sigilum_gateway_requests_total"));
            assert!(metrics.header("x-request-id").is_some());
        } else {
            assert_refused("metrics", &metrics, 404, "NOT_FOUND", "");
        }
        assert_refused("admin", &admin, 404, "NOT_FOUND", "");
        assert_eq!(gateway.admin_get("/metrics").status, 200);
    }
}

#[test]
fn admin_routes_on_the_data_port_keep_their_access_rules() {
    let gateway = Setup::new()
        .set("admin.access", "token")
        .set("admin.token", "env:TEST_ADMIN_TOKEN")
        .env("TEST_ADMIN_TOKEN", "canary-token")
        .start();
    assert_refused("no token", &raw(&gateway, "GET", "/metrics", ""), 401, "ADMIN_TOKEN_REQUIRED", "");
    let wrong = raw(&gateway, "GET", "/metrics", "x-sigilum-admin-token: wrong\r\n");
    assert_refused("wrong token", &wrong, 401, "ADMIN_TOKEN_REQUIRED", "");
    for token in ["x-sigilum-admin-token: canary-token\r\n", "authorization: Bearer canary-token\r\n"] {
        assert_eq!(raw(&gateway, "GET", "/metrics", token).status, 200);
    }
    gateway.assert_silent_about("canary-token");

    let hybrid = Setup::new().start();
    let foreign = raw(&hybrid, "GET", "/metrics", "origin: https://evil.example\r\n");
    assert_refused("foreign page", &foreign, 403, "ADMIN_ORIGIN_FORBIDDEN", "");
    let proxied = raw(&hybrid, "GET", "/metrics", "x-forwarded-for: 203.0.113.9\r\n");
    assert_refused("proxied", &proxied, 401, "ADMIN_TOKEN_OR_LOOPBACK_REQUIRED", "");
    let mut client = hybrid.connect();
    client.send("GET /metrics HTTP/1.1\r\nhost: rebound.example\r\n\r\n");
    assert_refused("rebound", &client.response(), 403, "ADMIN_ORIGIN_FORBIDDEN", "");
    assert_refused("method", &raw(&hybrid, "DELETE", "/metrics", ""), 405, "METHOD_NOT_ALLOWED", "");
}

#[test]
fn admin_request_whose_body_does_not_come_is_given_up() {
    let gateway = Setup::new().set("limits.header_timeout", "200ms").start();
    let mut client = gateway.connect();
    client.send("POST /api/admin/reload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n12345");
    assert_refused("half a body", &client.response(), 408, "REQUEST_TIMEOUT", "");
    client.assert_closed();
}

#[test]
fn refused_head_has_no_body_and_its_connection_goes_on() {
    let scene = Scene::start();
    let mut client = scene.gateway.connect();
    for _ in 0..2 {
        let request = scene.agent.request("HEAD", scene.gateway.url(), "/proxy/openai/").sign();
        client.send(request.without("signature").to_bytes());
        let refused = client.response_to("HEAD");
        assert_eq!((refused.status, refused.header("content-type")), (403, Some("application/json")));
        assert!(refused.header("content-length").is_some_and(|length| length != "0"));
    }
    client.send(scene.draft("/proxy/openai/").sign().to_bytes());
    assert_eq!(client.response().status, 200);
}
