//! The OpenAPI document, held to what the API does.
//!
//! The Python that `SIGILUM_PYTHON` names must have the package `schemathesis` for the last of these tests; without the
//! variable it says so and passes.

use std::process::Command;

use serde_json::Value;
use sigilum::secret::SecretString;

use super::api_scene::{Desk, refused};
use crate::support::control::Control;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn with_seed() -> Control {
    Control::with(|config| {
        config.test_seed = Some(SecretString::new("seed-token-of-the-tests".to_owned()).unwrap());
        config.limits.keys_per_service = 100;
    })
}

#[test]
fn document_has_the_methods_of_every_route_and_no_other() {
    let control = with_seed();
    let document = control.ask("GET", "/openapi.json", &[], None).json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let concrete: String = path
            .split('/')
            .map(|segment| if segment.starts_with('{') { "nobody" } else { segment })
            .collect::<Vec<_>>()
            .join("/");
        for method in METHODS {
            let answer = control.ask(method, &concrete, &[], None);
            if operations.get(method.to_lowercase()).is_none() {
                refused(&answer, 405, "METHOD_NOT_ALLOWED");
            } else {
                assert_ne!(answer.status, 405, "{method} {path}");
                assert!(
                    path == "/v1/test/seed" || !answer.text().contains("\"NOT_FOUND\""),
                    "{method} {path}"
                );
            }
        }
    }
}

#[test]
fn every_route_under_v1_refuses_a_parameter_that_it_does_not_take() {
    let control = with_seed();
    let document = control.ask("GET", "/openapi.json", &[], None).json();
    let paths = document["paths"].as_object().unwrap().iter();
    for (path, operations) in paths.filter(|(path, _)| path.starts_with("/v1/")) {
        for method in METHODS.iter().filter(|method| operations.get(method.to_lowercase()).is_some()) {
            let answer = control.ask(method, &format!("{path}?canary=1").replace(['{', '}'], ""), &[], None);
            let sentence = refused(&answer, 400, "FIELD_INVALID");
            assert!(sentence.starts_with("the query holds an unknown parameter; "), "{method} {path}");
            assert!(!sentence.contains("canary"), "{sentence}");
        }
    }
    assert_eq!(control.ask("GET", "/health/live?from=a-probe", &[], None).status, 200);
}

#[test]
fn generated_requests_find_no_fault_and_no_breach_of_the_schema() {
    let Some(python) = std::env::var_os("SIGILUM_PYTHON") else {
        eprintln!("not run: SIGILUM_PYTHON names no Python with schemathesis");
        return;
    };
    let desk = Desk::over(with_seed());
    let url = format!("{}/openapi.json", desk.control.origin());
    let bearer = format!("Authorization: Bearer {}", desk.acme.token);
    let output = Command::new(python)
        .args(["-m", "schemathesis.cli", "run", &url, "--header", &bearer])
        .args(["--header", "X-Sigilum-Test-Seed-Token: seed-token-of-the-tests"])
        .args(["--checks", CHECKS, "--max-examples", "20", "--seed", "4711", "--workers", "1", "--no-color"])
        .args(["--suppress-health-check", "all", "--request-timeout", "15"])
        // It would end the owner whose token the others need.
        .args(["--exclude-operation-id", "deleteAccount"])
        .current_dir(desk.control.directory())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let listed: Value = desk.get(&desk.acme, "/v1/services").json();
    assert!(listed["services"].is_array());
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,negative_data_rejection,\
                      unsupported_method,use_after_free";
