//! What an admin request may send: JSON, declared, bounded, whole, and on a route that takes it.

use serde_json::json;

use super::admin_scene::{Desk, refused, send};

const CONNECTIONS: &str = "/api/admin/connections";

#[test]
fn body_that_is_not_declared_json_changes_nothing() {
    let desk = Desk::start();
    let body = desk.openai("openai").to_string();
    for headers in [
        "",
        "content-type: text/plain\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: multipart/form-data; boundary=x\r\n",
        "content-type: application/jsonp\r\n",
        "content-type: application/json\r\ncontent-type: text/plain\r\n",
    ] {
        let answer = send(desk.gateway.admin_address(), "POST", CONNECTIONS, headers, body.as_bytes());
        refused(&answer, 415, "CONTENT_TYPE_UNSUPPORTED");
    }
    assert_eq!(desk.get(CONNECTIONS).json(), json!({ "connections": [] }));
    let headers = "content-type: Application/JSON; charset=utf-8\r\n";
    let taken = send(desk.gateway.admin_address(), "POST", CONNECTIONS, headers, body.as_bytes());
    assert_eq!(taken.status, 201, "{}", taken.text());
}

#[test]
fn body_that_is_no_json_is_refused_with_its_place() {
    let desk = Desk::start();
    for (body, named) in [
        ("", "EOF"),
        ("{\n  \"id\": \"a\",\n  sk-canary\n}", "line 3 column 3"),
        ("{\"id\":\"sk-canary\",\"id\":\"b\"}", "id stands twice"),
        ("\u{feff}{}", "line 1 column 1"),
    ] {
        let declared = "content-type: application/json\r\n";
        let answer = send(desk.gateway.admin_address(), "POST", CONNECTIONS, declared, body.as_bytes());
        let sentence = refused(&answer, 400, "REQUEST_BODY_INVALID");
        assert!(sentence.contains(named), "{body:?}: {sentence}");
    }
    desk.gateway.assert_silent_about("sk-canary");
}

#[test]
fn body_of_more_than_a_mebibyte_is_refused() {
    let desk = Desk::start();
    let mut body = desk.openai("openai");
    body["name"] = json!("x".repeat(1024 * 1024));
    refused(&desk.post(CONNECTIONS, &body), 413, "REQUEST_BODY_TOO_LARGE");
}

#[test]
fn method_that_a_route_has_not_is_refused_with_those_it_has() {
    let desk = Desk::start();
    for (method, path, allowed) in [
        ("PUT", CONNECTIONS, "GET,HEAD,POST"),
        ("POST", "/api/admin/connections/a", "DELETE,GET,HEAD,PATCH"),
        ("GET", "/api/admin/connections/a/rotate", "POST"),
        ("TRACE", "/api/admin/gateway", "GET,HEAD"),
        ("DELETE", "/health", "GET,HEAD"),
        ("POST", "/metrics", "GET,HEAD"),
    ] {
        let answer = desk.ask(method, path, None);
        refused(&answer, 405, "METHOD_NOT_ALLOWED");
        let mut named: Vec<&str> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
        named.sort_unstable();
        assert_eq!(named.join(","), allowed, "{method} {path}");
    }
}

#[test]
fn names_in_the_path_are_held_to_their_form() {
    let desk = Desk::start();
    for path in
        ["/api/admin/connections/Open_AI", "/api/admin/connections/a%2Fb", "/api/admin/service-api-keys/-a"]
    {
        refused(&desk.get(path), 400, "FIELD_INVALID");
    }
    refused(&desk.get("/api/admin/connections/%ff"), 404, "NOT_FOUND");
    refused(&desk.get("/api/admin/connections/"), 404, "NOT_FOUND");
    refused(&desk.get("/api/admin"), 404, "NOT_FOUND");
}
