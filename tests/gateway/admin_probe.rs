//! The test of a connection over the admin API: what is sent, what is told, and where it does not go.

use serde_json::json;

use super::admin_scene::{CANARY, Desk, refused};
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

fn answering(reply: Reply) -> Desk {
    let upstream = Upstream::answering(reply);
    let desk = Desk { gateway: Setup::new().start(), upstream };
    desk.add("openai");
    desk
}

const TEST: &str = "/api/admin/connections/openai/test";

#[test]
fn test_sends_what_the_gateway_would_and_its_outcome_is_kept() {
    let desk = Desk::start();
    let mut body = desk.openai("openai");
    body["path_prefix"] = json!("/base");
    body["base_url"] = json!(format!("{}/root", desk.upstream.url()));
    assert_eq!(desk.post("/api/admin/connections", &body).status, 201);
    let asked = json!({
        "method": "POST", "test_path": "/v1/echo?a=b", "headers": { "x-version": "7" }, "body": "{\"q\":1}",
    });
    let tested = desk.post(TEST, &asked);
    assert_eq!(tested.status, 200, "{}", tested.text());
    let outcome = tested.json();
    assert_eq!((&outcome["status"], &outcome["http_status"]), (&json!("pass"), &json!(200)), "{outcome}");
    let sent = desk.upstream.requests().pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/root/base/v1/echo?a=b"));
    assert_eq!(sent.header("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    assert_eq!((sent.header("x-version"), sent.body.as_slice()), (Some("7"), br#"{"q":1}"#.as_slice()));
    assert_eq!(sent.all("host"), [desk.upstream.address().to_string()]);
    let view = desk.get("/api/admin/connections/openai").json();
    assert_eq!((&view["last_test_status"], &view["last_test_http_status"]), (&json!("pass"), &json!(200)));
    assert!(view["last_tested_at"].is_string());
}

#[test]
fn template_of_the_catalog_says_what_to_send() {
    let desk = Desk::start();
    desk.add("openai");
    assert_eq!(desk.ask("POST", TEST, None).status, 200);
    assert_eq!(desk.upstream.requests().pop().unwrap().target, "/v1/models");
    desk.add("unknown-one");
    assert_eq!(desk.ask("POST", "/api/admin/connections/unknown-one/test", None).status, 200);
    assert_eq!(desk.upstream.requests().pop().unwrap().target, "/");
}

#[test]
fn answer_that_is_no_success_fails_with_a_masked_excerpt() {
    let body = format!("{{\"error\": \"bad key {CANARY}\",\n \"hint\": \"look\"}}");
    let desk = answering(Reply::status(401, &body));
    let outcome = desk.ask("POST", TEST, None).json();
    assert_eq!((&outcome["status"], &outcome["http_status"]), (&json!("fail"), &json!(401)));
    assert_eq!(outcome["excerpt"], r#"{"error": "bad key [secret]", "hint": "look"}"#);
    assert_eq!(outcome["error"], "the upstream answered 401 Unauthorized");
    let view = desk.get("/api/admin/connections/openai").json();
    assert_eq!(view["last_test_error"], "the upstream answered 401 Unauthorized");
    desk.gateway.assert_silent_about(CANARY);
}

#[test]
fn redirect_is_not_followed() {
    let elsewhere = Upstream::answering(Reply::Echo);
    let location = format!("{}/stolen", elsewhere.url());
    let desk = answering(Reply::redirect(&location));
    let outcome = desk.ask("POST", TEST, None).json();
    assert_eq!((&outcome["status"], &outcome["http_status"]), (&json!("fail"), &json!(302)));
    assert!(!outcome.to_string().contains("stolen"));
    elsewhere.assert_zero_bytes();
}

#[test]
fn upstream_that_is_not_there_fails_the_test_and_not_the_request() {
    let desk = Desk::start();
    let gone = json!({
        "id": "gone", "base_url": "http://127.0.0.1:1/", "auth_mode": "query_param", "secrets": { "k": CANARY },
    });
    assert_eq!(desk.post("/api/admin/connections", &gone).status, 201);
    let tested = desk.ask("POST", "/api/admin/connections/gone/test", None);
    assert_eq!(tested.status, 200, "{}", tested.text());
    let outcome = tested.json();
    assert_eq!((&outcome["status"], &outcome["http_status"]), (&json!("fail"), &json!(null)));
    assert!(outcome["error"].as_str().unwrap().contains("refused"), "{outcome}");
    assert!(!tested.text().contains("canary"));
    desk.gateway.assert_silent_about(CANARY);
}

#[test]
fn test_that_is_asked_for_wrongly_is_refused_before_anything_is_sent() {
    let desk = answering(Reply::Echo);
    for (asked, named) in [
        (json!({ "method": "DELETE" }), "method:"),
        (json!({ "test_path": "v1" }), "test_path:"),
        (json!({ "test_path": "/../admin" }), "test_path:"),
        (json!({ "test_path": "/%2e%2E/admin" }), "test_path:"),
        (json!({ "test_path": "//evil.example/" }), "test_path:"),
        (json!({ "headers": { "host": "evil.example" } }), "headers:"),
        (json!({ "headers": { "transfer-encoding": "chunked" } }), "headers:"),
        (json!({ "headers": { "x-a": "b\r\nc: d" } }), "headers.x-a:"),
        (json!({ "paht": "/" }), "unknown field"),
    ] {
        let sentence = refused(&desk.post(TEST, &asked), 400, "FIELD_INVALID");
        assert!(sentence.contains(named), "{asked}: {sentence}");
    }
    desk.upstream.assert_zero_bytes();
    refused(&desk.ask("POST", "/api/admin/connections/nobody/test", None), 404, "CONNECTION_NOT_FOUND");
}
