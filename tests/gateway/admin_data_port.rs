//! Admin routes on the data port, under the sidecar's own rules.

use serde_json::json;

use super::admin_scene::{Desk, ask, refused, send};

#[test]
fn data_port_hands_admin_requests_to_the_sidecar() {
    let desk = Desk::start();
    let port = desk.gateway.address();
    let made = ask(port, "POST", "/api/admin/connections", Some(&desk.openai("openai")));
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(ask(port, "GET", "/api/admin/connections/openai", None).json(), made.json());
    assert_eq!(ask(port, "DELETE", "/api/admin/connections/openai", None).status, 204);
    assert!(ask(port, "GET", "/metrics", None).text().contains("sigilum_gateway_requests_total"));
    let wrong = ask(port, "PUT", "/api/admin/connections", Some(&json!({})));
    refused(&wrong, 405, "METHOD_NOT_ALLOWED");
}

#[test]
fn rules_of_access_hold_on_the_data_port_too() {
    let desk = Desk::with(|setup| {
        setup
            .set("admin.access", "token")
            .set("admin.token", "env:ADMIN_TOKEN")
            .env("ADMIN_TOKEN", "canary-token")
    });
    let port = desk.gateway.address();
    refused(&ask(port, "GET", "/api/admin/gateway", None), 401, "ADMIN_TOKEN_REQUIRED");
    let with = send(port, "GET", "/api/admin/gateway", "x-sigilum-admin-token: canary-token\r\n", b"");
    assert_eq!(with.status, 200);
    let page = "x-sigilum-admin-token: canary-token\r\norigin: https://evil.example\r\n";
    refused(&send(port, "GET", "/api/admin/gateway", page, b""), 403, "ADMIN_ORIGIN_FORBIDDEN");
}

#[test]
fn data_port_knows_no_admin_route_where_it_is_switched_off() {
    let desk = Desk::with(|setup| setup.set("admin.on_data_port", false));
    for path in ["/api/admin/connections", "/metrics"] {
        refused(&ask(desk.gateway.address(), "GET", path, None), 404, "NOT_FOUND");
    }
}
