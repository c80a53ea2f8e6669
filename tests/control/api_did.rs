//! DID documents and their resolution.

use serde_json::{Value, json};

use super::api_scene::{Desk, refused};
use crate::support::agent::Agent;
use crate::support::control::Control;
use crate::support::raw::Response;

impl Desk {
    fn document(&self, did: &str) -> Response {
        self.control.ask("GET", &format!("/.well-known/did/{did}"), &[], None)
    }

    fn resolved(&self, did: &str) -> Response {
        self.control.ask("GET", &format!("/1.0/identifiers/{did}"), &[], None)
    }
}

#[test]
fn document_has_the_keys_of_approved_claims() {
    let desk = Desk::start();
    desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    desk.control.submit(&Agent::new("alice"), &desk.openai);
    let answer = desk.document("did:sigilum:alice");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/did+ld+json"));
    let document = answer.json();
    assert_eq!(document["id"], "did:sigilum:alice");
    let methods = document["verificationMethod"].as_array().unwrap();
    assert_eq!(methods.len(), 1, "{document}");
    let key_id = desk.agent.identity().key_id().to_string();
    assert_eq!(methods[0]["id"], key_id);
    assert_eq!(document["authentication"], json!([key_id]));
    assert_eq!(document["assertionMethod"], json!([key_id]));
    let bytes = bs58::decode(&methods[0]["publicKeyMultibase"].as_str().unwrap()[1..]).into_vec().unwrap();
    assert_eq!(
        (&bytes[..2], &bytes[2..]),
        (&[0xed, 0x01][..], &desk.agent.identity().public_key().as_bytes()[..])
    );
    let endpoint = format!("{}/v1/namespaces/alice", desk.control.origin());
    assert_eq!(document["service"][0]["serviceEndpoint"], endpoint);
    assert_eq!(document["service"][0]["type"], "AgentEndpoint");
}

#[test]
fn resolution_is_the_envelope_of_the_standard() {
    let desk = Desk::start();
    let answer = desk.resolved("did:sigilum:alice");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/ld+json;profile=\"https://w3id.org/did-resolution\"")
    );
    let result = answer.json();
    assert_eq!(result["didDocument"], desk.document("did:sigilum:alice").json());
    assert_eq!(result["didResolutionMetadata"]["contentType"], "application/did+ld+json");
    assert!(result["didDocumentMetadata"]["created"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn what_is_no_did_of_ours_and_what_names_nobody_are_told_apart() {
    let desk = Desk::start();
    for wrong in ["did:web:alice", "alice", "did:sigilum:Alice", "did:sigilum:a", "did%3Asigilum%3A%ff"] {
        refused(&desk.document(wrong), 400, "DID_INVALID");
        let resolved = desk.resolved(wrong);
        assert_eq!(resolved.status, 400);
        assert_eq!(resolved.json()["didResolutionMetadata"]["error"], "invalidDid");
        assert_eq!(resolved.json()["didDocument"], Value::Null);
    }
    refused(&desk.document("did:sigilum:nobody"), 404, "DID_NOT_FOUND");
    let resolved = desk.resolved("did:sigilum:nobody");
    assert_eq!(
        (resolved.status, &resolved.json()["didResolutionMetadata"]["error"]),
        (404, &json!("notFound"))
    );
    assert_eq!(desk.resolved("did%3Asigilum%3Aalice").status, 200);
}

#[test]
fn namespace_that_is_gone_and_left_claims_is_deactivated() {
    let desk = Desk::start();
    desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    assert_eq!(desk.control.as_owner(&desk.alice, "DELETE", "/v1/auth/account", None).status, 204);
    refused(&desk.document("did:sigilum:alice"), 410, "DID_DEACTIVATED");
    let resolved = desk.resolved("did:sigilum:alice");
    assert_eq!(
        (resolved.status, &resolved.json()["didDocumentMetadata"]),
        (410, &json!({ "deactivated": true }))
    );
}

#[test]
fn endpoint_stands_under_the_public_url() {
    let desk = Desk::over(Control::with(|config| {
        config.public_url = Some("https://api.example/".parse().unwrap());
    }));
    let endpoint = desk.document("did:sigilum:alice").json()["service"][0]["serviceEndpoint"].clone();
    assert_eq!(endpoint, "https://api.example/v1/namespaces/alice");
}
