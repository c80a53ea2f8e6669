//! The way of a claim through the API: submitted by services, decided by owners, asked for by verifiers.

use serde_json::{Value, json};

use super::api_scene::{Desk, refused};
use crate::support::agent::Agent;
use crate::support::control::Control;
use crate::support::raw::Response;

impl Desk {
    /// Submits for alice's agent, signed by `signer`, with these further headers and changes to the body.
    fn submits(&self, signer: &Agent, binding: Option<&str>, change: impl FnOnce(&mut Value)) -> Response {
        let mut body = Control::submission(&self.agent, "openai");
        change(&mut body);
        let request =
            self.control.service_request(signer, &self.openai.key, "POST", "/v1/claims", Some(&body));
        let request = match binding {
            Some(binding) => request.also("x-sigilum-claim-binding", binding),
            None => request,
        };
        self.control.send("POST", request.to_bytes())
    }

    /// Changes alice's policy; gives it as it is now.
    fn settings(&self, change: &Value) -> Value {
        let changed = self.control.as_owner(&self.alice, "PATCH", "/v1/auth/settings", Some(change));
        assert_eq!(changed.status, 200, "{}", changed.text());
        changed.json()
    }
}

#[test]
fn claim_is_submitted_once_and_stands() {
    let desk = Desk::start();
    let made = desk.submits(&desk.agent, None, |_| {});
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let id = made["claim_id"].as_str().unwrap();
    assert_eq!((&made["status"], &made["service"]), (&json!("pending"), &json!("openai")));
    assert!(made["message"].as_str().unwrap().contains(&format!("`sigilum claim approve {id}`")));
    assert_eq!(made.get("approve_url"), None);
    let again = desk.submits(&desk.agent, None, |_| {});
    assert_eq!((again.status, &again.json()["claim_id"]), (200, &json!(id)));
    let seen = desk.get(&desk.alice, &format!("/v1/claims/{id}")).json();
    assert_eq!((&seen["agent_ip"], &seen["subject"]), (&json!("203.0.113.7"), &json!("alice")));
    assert_eq!((&seen["service_owner"], &seen["status"]), (&json!("acme"), &json!("pending")));
}

#[test]
fn dashboard_s_address_leads_to_the_approval() {
    let desk = Desk::over(Control::with(|config| {
        config.dashboard_url = Some("https://dash.example/app/".parse().unwrap());
    }));
    let made = desk.submits(&desk.agent, None, |_| {}).json();
    let id = made["claim_id"].as_str().unwrap();
    assert_eq!(made["approve_url"], format!("https://dash.example/app/claims/{id}"));
}

#[test]
fn submission_s_nonce_works_once() {
    let desk = Desk::start();
    let other = Agent::new("alice");
    let nonce = "a-nonce-of-mine";
    assert_eq!(desk.submits(&desk.agent, None, |body| body["nonce"] = nonce.into()).status, 201);
    let mut body = Control::submission(&other, "openai");
    body["nonce"] = nonce.into();
    let again = desk.control.as_service(&other, &desk.openai.key, "POST", "/v1/claims", Some(&body));
    refused(&again, 409, "NONCE_REPLAY");
}

#[test]
fn without_a_binding_only_the_claim_s_own_key_may_submit() {
    let desk = Desk::start();
    let same_namespace = Agent::new("alice");
    refused(&desk.submits(&same_namespace, None, |_| {}), 403, "CLAIM_BINDING_INVALID");
    refused(&desk.submits(&desk.gateway, None, |_| {}), 403, "CLAIM_BINDING_INVALID");
    assert_eq!(desk.submits(&desk.agent, None, |_| {}).status, 201);
}

#[test]
fn namespace_binding_takes_the_namespace_s_agents_and_the_service_s_gateway() {
    let desk = Desk::start();
    let stranger = Agent::new("mallory");
    let only = Some("namespace-only");
    refused(&desk.submits(&stranger, only, |_| {}), 403, "CLAIM_BINDING_INVALID");
    assert_eq!(desk.submits(&desk.gateway, only, |_| {}).status, 201);
    assert_eq!(desk.submits(&Agent::new("alice"), only, |_| {}).status, 200);
    refused(&desk.submits(&desk.agent, Some("none"), |_| {}), 400, "FIELD_INVALID");
}

#[test]
fn faulty_submissions_are_refused_with_the_field() {
    let desk = Desk::start();
    for (field, value) in [
        ("namespace", json!("a")),
        ("public_key", json!("ed25519:AAAA")),
        ("service", json!("Open AI")),
        ("agent_ip", json!("localhost")),
        ("nonce", json!("short")),
        ("subject", json!("")),
        ("agent_id", json!("a".repeat(129))),
        ("scopes", json!(["GET models"])),
        ("ttl_seconds", json!(0)),
        ("ttl_seconds", json!("60")),
        ("public_kez", json!("x")),
    ] {
        let signer = &desk.gateway;
        let answer = desk.submits(signer, Some("namespace-only"), |body| body[field] = value.clone());
        let sentence = refused(&answer, 400, "FIELD_INVALID");
        assert!(sentence.starts_with(field), "{sentence}");
    }
    let answer = desk.submits(&desk.gateway, Some("namespace-only"), |body| {
        body.as_object_mut().unwrap().remove("agent_ip");
    });
    assert_eq!(refused(&answer, 400, "FIELD_INVALID"), "agent_ip: is needed");
    refused(
        &desk.submits(&desk.gateway, Some("namespace-only"), |body| body["namespace"] = "nobody-here".into()),
        404,
        "NAMESPACE_NOT_FOUND",
    );
}

#[test]
fn key_of_one_service_submits_for_no_other() {
    let desk = Desk::start();
    desk.control.service(&desk.acme, "linear");
    let slug = |slug: &'static str| move |body: &mut Value| body["service"] = slug.into();
    refused(&desk.submits(&desk.agent, None, slug("linear")), 403, "SERVICE_KEY_FORBIDDEN");
    let wide = desk.control.all_services_key(&desk.acme, &desk.openai);
    let mut body = Control::submission(&desk.agent, "linear");
    let submit =
        |body: &Value| desk.control.as_service(&desk.agent, &wide.key, "POST", "/v1/claims", Some(body));
    assert_eq!(submit(&body).status, 201);
    body = Control::submission(&desk.agent, "nowhere");
    refused(&submit(&body), 404, "SERVICE_NOT_FOUND");
}

#[test]
fn above_the_pending_limit_claims_are_rejected_at_once() {
    let desk = Desk::start();
    desk.settings(&json!({ "maxPendingLimit": 1 }));
    desk.control.submit(&desk.agent, &desk.openai);
    let second = Agent::new("alice");
    let body = Control::submission(&second, "openai");
    let answer = desk.control.as_service(&second, &desk.openai.key, "POST", "/v1/claims", Some(&body));
    assert_eq!((answer.status, &answer.json()["status"]), (201, &json!("rejected")), "{}", answer.text());
}

#[test]
fn owner_approves_with_an_end_and_scopes() {
    let desk = Desk::start();
    let id = desk.control.submit(&desk.agent, &desk.openai);
    let approve = format!("/v1/claims/{id}/approve");
    let body = json!({ "expires_at": "2999-01-01T00:00:00Z", "scopes": ["GET /v1/models", "tool:read_*"] });
    let approved = desk.post(&desk.alice, &approve, &body);
    assert_eq!(approved.status, 200, "{}", approved.text());
    let approved = approved.json();
    assert_eq!(approved["status"], "approved");
    assert_eq!(approved["decided_by"], "alice@example.com");
    assert_eq!(approved["expires_at"], body["expires_at"]);
    assert_eq!(approved["scopes"], body["scopes"]);
    refused(&desk.post(&desk.alice, &approve, &json!({})), 409, "CLAIM_TRANSITION_INVALID");
}

#[test]
fn faulty_approvals_decide_nothing() {
    let desk = Desk::start();
    let id = desk.control.submit(&desk.agent, &desk.openai);
    let approve = format!("/v1/claims/{id}/approve");
    for body in [
        json!({ "expires_at": "canary tomorrow" }),
        json!({ "expires_at": "2001-01-01T00:00:00Z" }),
        json!({ "scopes": ["canary"] }),
        json!({ "scopes": ["canary /path"] }),
        json!({ "scopes": ["GET canary"] }),
        json!({ "scopes": ["tool:canary "] }),
        json!({ "scopes": null }),
        json!({ "expiry": "2999-01-01T00:00:00Z" }),
    ] {
        let sentence = refused(&desk.post(&desk.alice, &approve, &body), 400, "FIELD_INVALID");
        assert!(!sentence.contains("canary"), "{sentence}");
    }
    assert_eq!(desk.get(&desk.alice, &format!("/v1/claims/{id}")).json()["status"], "pending");
}

#[test]
fn approvals_end_at_the_limits_of_the_owner() {
    let desk = Desk::start();
    let approve =
        |id: &str| desk.control.as_owner(&desk.alice, "POST", &format!("/v1/claims/{id}/approve"), None);
    let (one, two) = (desk.control.submit(&desk.agent, &desk.openai), Agent::new("alice"));
    let two = desk.control.submit(&two, &desk.openai);
    let linear = desk.control.service(&desk.acme, "linear");
    let elsewhere = desk.control.submit(&desk.agent, &linear);
    desk.settings(&json!({ "maxAgentsPerService": 1, "maxServices": 1 }));
    assert_eq!(approve(&one).status, 200);
    let sentence = refused(&approve(&two), 409, "LIMIT_REACHED");
    assert!(sentence.contains("agents on one service is limited to 1"), "{sentence}");
    let sentence = refused(&approve(&elsewhere), 409, "LIMIT_REACHED");
    assert!(sentence.contains("services with an approved claim is limited to 1"), "{sentence}");
    desk.settings(&json!({ "maxAgentsPerService": 2 }));
    assert_eq!(approve(&two).status, 200);
}

#[test]
fn claims_on_trusted_services_are_approved_at_once() {
    let desk = Desk::start();
    let rules = json!({ "autoApproveTrusted": true, "trustedServices": ["Acme/openai"] });
    // As a namespace is written in all else.
    assert_eq!(desk.settings(&rules)["trustedServices"], json!(["acme/openai"]));
    let told = desk.submits(&desk.agent, None, |_| {}).json();
    assert_eq!(told["status"], "approved", "{told}");
    let seen = desk.get(&desk.alice, &format!("/v1/claims/{}", told["claim_id"].as_str().unwrap())).json();
    assert_eq!(seen["decided_by"], "auto");
    let linear = desk.control.service(&desk.acme, "linear");
    let body = Control::submission(&desk.agent, "linear");
    let other = desk.control.as_service(&desk.agent, &linear.key, "POST", "/v1/claims", Some(&body));
    assert_eq!(other.json()["status"], "pending");
}

#[test]
fn claims_from_trusted_addresses_are_approved_at_once_on_services_that_are_trusted() {
    let desk = Desk::start();
    desk.settings(&json!({ "autoApproveIP": true, "trustedIPRanges": ["203.0.113.0/24"] }));
    let submit = |agent: &Agent, address: &str| {
        let mut body = Control::submission(agent, "openai");
        body["agent_ip"] = address.into();
        let made = desk.control.as_service(agent, &desk.openai.key, "POST", "/v1/claims", Some(&body));
        made.json()["status"].clone()
    };
    // What the address is, anybody's service may say.
    assert_eq!(submit(&desk.agent, "203.0.113.7"), "pending");
    desk.settings(&json!({ "trustedServices": ["acme/openai"] }));
    assert_eq!(submit(&Agent::new("alice"), "203.0.113.7"), "approved");
    assert_eq!(submit(&Agent::new("alice"), "198.51.100.7"), "pending");
}

#[test]
fn claims_are_decided_by_their_own_namespace_s_owner_alone() {
    let desk = Desk::start();
    let id = desk.control.submit(&desk.agent, &desk.openai);
    for path in ["approve", "reject", "revoke"] {
        let path = format!("/v1/claims/{id}/{path}");
        // The service's owner has no say in it either.
        refused(&desk.control.as_owner(&desk.acme, "POST", &path, None), 404, "CLAIM_NOT_FOUND");
    }
    refused(&desk.get(&desk.acme, &format!("/v1/claims/{id}")), 404, "CLAIM_NOT_FOUND");
    assert_eq!(desk.control.decide(&desk.alice, &id, "reject")["status"], "rejected");
    refused(
        &desk.control.as_owner(&desk.alice, "POST", &format!("/v1/claims/{id}/revoke"), None),
        409,
        "CLAIM_TRANSITION_INVALID",
    );
}

#[test]
fn second_approver_must_be_another_owner() {
    let desk = Desk::start();
    desk.settings(&json!({ "requireSecondApprover": true }));
    let id = desk.control.submit(&desk.agent, &desk.openai);
    let first = desk.control.decide(&desk.alice, &id, "approve");
    assert_eq!(
        (&first["status"], &first["first_approver"]),
        (&json!("pending"), &json!("alice@example.com"))
    );
    let approve = format!("/v1/claims/{id}/approve");
    let again = desk.control.as_owner(&desk.alice, "POST", &approve, None);
    refused(&again, 409, "SECOND_APPROVER_REQUIRED");
    let second = desk.control.owner_named("alice", "bob@example.com");
    assert_eq!(desk.control.decide(&second, &id, "approve")["status"], "approved");
}

#[test]
fn owner_lists_its_claims_by_status_and_service() {
    let desk = Desk::start();
    let first = desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let second = desk.control.submit(&Agent::new("alice"), &desk.openai);
    let list = |query: &str| desk.get(&desk.alice, &format!("/v1/namespaces/alice/claims{query}"));
    let ids = |query: &str| -> Vec<String> {
        let page = list(query).json();
        let claims = page["claims"].as_array().unwrap().clone();
        claims.iter().map(|claim| claim["claim_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("").len(), 2);
    assert_eq!(ids("?status=approved&service=openai"), [first]);
    assert_eq!(ids("?status=pending"), [second]);
    assert_eq!(ids("?service=linear"), [""; 0]);
    let page = list("?limit=1").json();
    assert_eq!(page["pagination"], json!({ "limit": 1, "offset": 0, "total": 2, "has_more": true }));
    assert_eq!(list("?limit=1&offset=1").json()["pagination"]["has_more"], false);
    refused(&list("?status=open"), 400, "FIELD_INVALID");
    refused(&list("?limit=1001"), 400, "FIELD_INVALID");
    refused(&list("?state=pending"), 400, "FIELD_INVALID");
    refused(&desk.get(&desk.acme, "/v1/namespaces/alice/claims"), 403, "NAMESPACE_FORBIDDEN");
}

#[test]
fn verifier_is_told_whether_a_key_may_use_a_service() {
    let desk = Desk::start();
    let key = url::form_urlencoded::byte_serialize(desk.agent.public_key().as_bytes()).collect::<String>();
    let target = format!("/v1/verify?namespace=alice&public_key={key}&service=openai");
    let anyone = Agent::new("somebody");
    let verify = |target: &str| desk.control.as_agent(&anyone, "GET", target, None);
    assert_eq!(verify(&target).json(), json!({ "authorized": false, "reason": "AUTH_CLAIM_REQUIRED" }));
    let id = desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let told = verify(&target).json();
    assert_eq!((&told["authorized"], &told["claim_id"]), (&json!(true), &json!(id)));
    assert!(told["approved_at"].is_string());
    assert_eq!(desk.service_get(&target).json()["authorized"], true);
    refused(&desk.service_get(&target.replace("openai", "linear")), 403, "SERVICE_KEY_FORBIDDEN");
    refused(&verify("/v1/verify?namespace=alice&service=openai"), 400, "FIELD_INVALID");
    refused(&desk.control.ask("GET", &target, &[], None), 403, "AUTH_SIGNATURE_INVALID");
    desk.control.decide(&desk.alice, &id, "revoke");
    assert_eq!(verify(&target).json()["authorized"], false);
}

#[test]
fn service_that_asks_without_its_key_is_told_of_itself_and_not_of_another_of_its_slug() {
    let desk = Desk::start();
    let mallory = desk.control.owner("mallory");
    let agent = Agent::new("mallory");
    desk.control.approved(&mallory, &agent, &desk.control.service(&mallory, "openai"));
    let key = url::form_urlencoded::byte_serialize(agent.public_key().as_bytes()).collect::<String>();
    let target = format!("/v1/verify?namespace=mallory&public_key={key}&service=openai");
    let asked_by = |namespace: &str| {
        desk.control.as_agent(&Agent::new(namespace), "GET", &target, None).json()["authorized"].clone()
    };
    assert_eq!(asked_by("acme"), false);
    assert_eq!(asked_by("mallory"), true);
    assert_eq!(asked_by("nobody"), true, "who has no such service asks about anybody's");
}

#[test]
fn namespace_is_known_to_whoever_signs() {
    let desk = Desk::start();
    let told = desk.control.as_agent(&desk.agent, "GET", "/v1/namespaces/acme", None).json();
    assert_eq!((&told["namespace"], &told["did"]), (&json!("acme"), &json!("did:sigilum:acme")));
    let nobody = desk.control.as_agent(&desk.agent, "GET", "/v1/namespaces/nobody", None);
    refused(&nobody, 404, "NAMESPACE_NOT_FOUND");
    let unsigned = desk.control.ask("GET", "/v1/namespaces/acme", &[], None);
    refused(&unsigned, 403, "AUTH_SIGNATURE_INVALID");
}
