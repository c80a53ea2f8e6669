//! Shared credential variables, and a service's own key, over the admin API.

use serde_json::json;

use super::admin_scene::{CANARY, Desk, refused};

const VARIABLES: &str = "/api/admin/credential-variables";

#[test]
fn variable_is_set_shown_by_name_and_removed() {
    let desk = Desk::start();
    let new = json!({ "key": "OPENAI_API_KEY", "value": CANARY, "created_by_subject": "ann" });
    let made = desk.post(VARIABLES, &new);
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!((&made.json()["key"], &made.json()["used_by"]), (&json!("OPENAI_API_KEY"), &json!([])));
    assert_eq!(desk.post(VARIABLES, &new).status, 200);
    let listed = desk.get(VARIABLES);
    assert_eq!(listed.json()["credential_variables"][0]["created_by_subject"], "ann");
    assert!(!listed.text().contains("canary"));
    assert_eq!(desk.ask("DELETE", &format!("{VARIABLES}/OPENAI_API_KEY"), None).status, 204);
    let again = desk.ask("DELETE", &format!("{VARIABLES}/OPENAI_API_KEY"), None);
    refused(&again, 404, "CREDENTIAL_VARIABLE_NOT_FOUND");
    desk.gateway.assert_silent_about(CANARY);
}

#[test]
fn variable_that_connections_refer_to_stays() {
    let desk = Desk::start();
    desk.post(VARIABLES, &json!({ "key": "SHARED", "value": CANARY }));
    let mut body = desk.openai("openai");
    body["secrets"]["api_key"] = json!("{{SHARED}}");
    let made = desk.post("/api/admin/connections", &body);
    assert_eq!(made.json()["credential_variables"], json!({ "api_key": "SHARED" }), "{}", made.text());
    let kept = desk.ask("DELETE", &format!("{VARIABLES}/SHARED"), None);
    assert!(refused(&kept, 409, "CREDENTIAL_VARIABLE_REFERENCED").contains("openai"));
    desk.ask("DELETE", "/api/admin/connections/openai", None);
    assert_eq!(desk.ask("DELETE", &format!("{VARIABLES}/SHARED"), None).status, 204);
}

#[test]
fn variable_with_a_wrong_name_or_value_is_refused() {
    let desk = Desk::start();
    for wrong in [json!({ "key": "1A", "value": "x" }), json!({ "key": "A-B", "value": "x" })] {
        refused(&desk.post(VARIABLES, &wrong), 400, "FIELD_INVALID");
    }
    for wrong in [json!({ "key": "A" }), json!({ "value": "sk-canary" })] {
        assert!(refused(&desk.post(VARIABLES, &wrong), 400, "FIELD_INVALID").ends_with("is needed"));
    }
    let wrong = json!({ "key": "A", "value": "sk-canary\n\u{7}x" });
    assert_eq!(desk.post(VARIABLES, &wrong).status, 400);
    assert_eq!(desk.get(VARIABLES).json(), json!({ "credential_variables": [] }));
}

#[test]
fn service_key_is_told_by_its_beginning_alone() {
    let desk = Desk::start();
    desk.add("openai");
    let path = "/api/admin/service-api-keys/openai";
    assert_eq!(desk.get(path).json(), json!({ "has_key": false, "key_prefix": null, "claims": null }));
    let put = desk.ask("PUT", path, Some(&json!({ "key": "sk_live_0123456789abcdefcanary" })));
    assert_eq!(put.status, 200, "{}", put.text());
    let shown = desk.get(path).json();
    assert_eq!(shown["has_key"], true);
    assert!("sk_live_0123456789abcdefcanary".starts_with(shown["key_prefix"].as_str().unwrap()));
    assert!(!put.text().contains("canary"));
    refused(&desk.ask("PUT", path, Some(&json!({ "key": "" }))), 400, "SECRET_INVALID");
    refused(&desk.get("/api/admin/service-api-keys/nobody"), 404, "CONNECTION_NOT_FOUND");
    desk.gateway.assert_silent_about("sk_live_0123456789abcdefcanary");
}
