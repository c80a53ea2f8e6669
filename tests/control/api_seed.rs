//! `POST /v1/test/seed`: there under all four conditions, and under fewer no route at all.

use serde_json::{Value, json};
use sigilum::control::{ControlConfig, Environment};
use sigilum::secret::SecretString;

use super::api_scene::{Desk, refused};
use crate::support::agent::Agent;
use crate::support::control::Control;

const TOKEN: &str = "seed-token-of-the-tests";
const PATH: &str = "/v1/test/seed";

fn switched_on(config: &mut ControlConfig) {
    config.test_seed = Some(SecretString::new(TOKEN.to_owned()).unwrap());
}

fn seeds(agent: &Agent) -> Value {
    json!([{ "namespace": agent.namespace(), "service": "openai", "public_key": agent.public_key() }])
}

#[test]
fn claims_are_made_and_taken_back() {
    let desk = Desk::over(Control::with(switched_on));
    let seed =
        |body: Value| desk.control.ask("POST", PATH, &[("x-sigilum-test-seed-token", TOKEN)], Some(&body));
    let made = seed(json!({ "upserts": seeds(&desk.agent) }));
    assert_eq!((made.status, made.json()), (200, json!({ "upserted": 1, "deleted": 0 })));
    let claims = desk.page("")["claims"].clone();
    assert_eq!(claims[0]["public_key"], desk.agent.public_key());
    let taken = seed(json!({ "deletes": seeds(&desk.agent) }));
    assert_eq!(taken.json(), json!({ "upserted": 0, "deleted": 1 }));
    assert_eq!(desk.page("")["claims"], json!([]));
    refused(&seed(json!({ "upserts": [{ "namespace": "alice" }] })), 400, "FIELD_INVALID");
    let many: Vec<Value> = (0..1_001).map(|_| seeds(&desk.agent)[0].clone()).collect();
    refused(&seed(json!({ "upserts": many })), 400, "FIELD_INVALID");
}

#[test]
fn name_of_a_namespace_that_was_deleted_is_not_given_again() {
    let desk = Desk::over(Control::with(switched_on));
    assert_eq!(desk.control.as_owner(&desk.alice, "DELETE", "/v1/auth/account", None).status, 204);
    let body = json!({ "upserts": seeds(&desk.agent) });
    let answer = desk.control.ask("POST", PATH, &[("x-sigilum-test-seed-token", TOKEN)], Some(&body));
    let sentence = refused(&answer, 404, "NAMESPACE_NOT_FOUND");
    assert!(sentence.contains("the namespace alice was deleted"), "{sentence}");
}

#[test]
fn whatever_is_missing_there_is_no_such_route() {
    let right = [("x-sigilum-test-seed-token", TOKEN)];
    let body = json!({ "upserts": seeds(&Agent::new("alice")) });
    let none = |control: &Control, headers: &[(&str, &str)]| {
        refused(&control.ask("POST", PATH, headers, Some(&body)), 404, "NOT_FOUND");
    };
    none(&Control::start(), &right);
    let production = Control::with(|config| {
        switched_on(config);
        config.environment = Environment::Production;
    });
    none(&production, &right);
    let on = Control::with(switched_on);
    none(&on, &[]);
    none(&on, &[("x-sigilum-test-seed-token", "seed-token-of-the-test")]);
    // A proxy on this machine speaks for callers that need not be on it.
    none(&on, &[right[0], ("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(on.ask("POST", PATH, &right, Some(&body)).status, 200);
}
