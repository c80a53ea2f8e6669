//! Signed requests at the control plane: what is proven, against which address, and that nothing works twice.

use serde_json::json;

use super::api_scene::{Desk, refused};
use crate::support::control::Control;

const PAGE: &str = "/v1/namespaces/claims?service=openai";

#[test]
fn request_sent_twice_is_refused_the_second_time() {
    let desk = Desk::start();
    let request = desk.control.service_request(&desk.gateway, &desk.openai.key, "GET", PAGE, None);
    assert_eq!(desk.control.send("GET", request.to_bytes()).status, 200);
    refused(&desk.control.send("GET", request.to_bytes()), 403, "AUTH_REPLAY_DETECTED");
}

#[test]
fn nonce_is_left_unused_where_the_key_does_not_hold() {
    let desk = Desk::start();
    let request = desk.control.service_request(&desk.gateway, &desk.openai.key, "GET", PAGE, None);
    let strange = format!("Bearer sk_live_{}", "0".repeat(48));
    let wrong = request.clone().replace("authorization", &strange);
    refused(&desk.control.send("GET", wrong.to_bytes()), 401, "SERVICE_KEY_INVALID");
    assert_eq!(desk.control.send("GET", request.to_bytes()).status, 200);
}

#[test]
fn what_was_not_signed_is_refused() {
    let desk = Desk::start();
    let body = Control::submission(&desk.agent, "openai");
    let request =
        || desk.control.service_request(&desk.agent, &desk.openai.key, "POST", "/v1/claims", Some(&body));
    let send = |request: crate::support::agent::Signed| desk.control.send("POST", request.to_bytes());
    let swapped = send(request().body_swapped(b"{}"));
    refused(&swapped, 403, "AUTH_SIGNATURE_INVALID");
    assert_eq!(swapped.reason(), "SIG_CONTENT_DIGEST_MISMATCH");
    let elsewhere = send(request().target_swapped("/v1/usage/event"));
    assert_eq!(elsewhere.status, 404);
    let other = send(request().replace("host", "control.example"));
    assert_eq!(other.status, 400, "two hosts: {}", other.text());
    let method = request().method_swapped("GET").target_swapped(PAGE);
    refused(&desk.control.send("GET", method.to_bytes()), 403, "AUTH_SIGNATURE_INVALID");
    let late = desk.agent.request("GET", &desk.control.origin(), PAGE).created_in(-301).sign();
    let late = desk.control.send("GET", late.to_bytes());
    refused(&late, 403, "AUTH_SIGNATURE_INVALID");
    assert_eq!(late.reason(), "SIG_TIMESTAMP_OUT_OF_RANGE");
}

#[test]
fn signature_from_before_the_start_is_refused_since_it_may_have_worked_before() {
    let desk = Desk::start();
    let origin = desk.control.origin();
    let bearer = format!("Bearer {}", desk.openai.key);
    let draft = desk.gateway.request("GET", &origin, PAGE).header("authorization", &bearer);
    let early = desk.control.send("GET", draft.created_in(-120).sign().to_bytes());
    let sentence = refused(&early, 403, "AUTH_REPLAY_DETECTED");
    assert!(sentence.contains("before the control plane started"), "{sentence}");
}

#[test]
fn request_without_a_host_and_one_with_two_are_no_requests() {
    let desk = Desk::start();
    let signed = desk.control.service_request(&desk.gateway, &desk.openai.key, "GET", PAGE, None);
    let text = String::from_utf8(signed.to_bytes()).unwrap();
    let host = format!("host: {}\r\n", desk.control.address());
    for hosts in [String::new(), format!("{host}{host}")] {
        let answer = desk.control.send("GET", text.replace(&host, &hosts));
        refused(&answer, 400, "REQUEST_INVALID");
    }
    assert_eq!(desk.control.send("GET", text).status, 200);
}

#[test]
fn body_in_chunks_is_proven_too() {
    let desk = Desk::start();
    let body = Control::submission(&desk.agent, "openai");
    let request =
        desk.control.service_request(&desk.agent, &desk.openai.key, "POST", "/v1/claims", Some(&body));
    assert_eq!(desk.control.send("POST", request.to_chunked_bytes(7)).status, 201);
}

#[test]
fn public_url_is_what_counts_where_there_is_one() {
    let desk = Desk::over(Control::with(|config| {
        config.public_url = Some("https://api.example/".parse().unwrap());
    }));
    let to = |origin: &str| {
        let draft = desk.gateway.request("GET", origin, PAGE);
        draft.header("authorization", &format!("Bearer {}", desk.openai.key)).sign().to_bytes()
    };
    assert_eq!(desk.control.send("GET", to("https://api.example")).status, 200);
    refused(&desk.control.send("GET", to(&desk.control.origin())), 403, "AUTH_SIGNATURE_INVALID");
}

#[test]
fn trusted_proxy_says_what_the_client_asked_and_others_do_not() {
    let with = |desk: &Desk, added: &[(&str, &str)]| {
        let draft = desk.gateway.request("GET", "https://api.example", PAGE);
        let draft = draft.header("authorization", &format!("Bearer {}", desk.openai.key));
        let draft = added.iter().fold(draft, |draft, (name, value)| draft.header(name, value));
        let request = draft.header("forwarded", "for=203.0.113.9;host=api.example;proto=https").sign();
        // The host of the hop, which the signature knows nothing of.
        let text = String::from_utf8(request.to_bytes()).unwrap();
        desk.control.send("GET", text.replace("host: api.example\r\n", "host: 10.0.0.1:8787\r\n"))
    };
    let behind = Desk::over(Control::with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    }));
    assert_eq!(with(&behind, &[]).status, 200);
    let sentence = refused(&with(&behind, &[("x-forwarded-for", "192.0.2.7")]), 400, "REQUEST_INVALID");
    assert!(sentence.contains("the proxy in front must write one of them"), "{sentence}");
    refused(&with(&Desk::start(), &[]), 403, "AUTH_SIGNATURE_INVALID");
}

#[test]
fn signed_body_that_is_no_json_is_refused_by_its_place() {
    let desk = Desk::start();
    let origin = desk.control.origin();
    let request = desk
        .agent
        .request("POST", &origin, "/v1/claims")
        .header("authorization", &format!("Bearer {}", desk.openai.key))
        .body("{\"namespace\": alice}")
        .sign();
    let sentence = refused(&desk.control.send("POST", request.to_bytes()), 400, "REQUEST_BODY_INVALID");
    assert!(sentence.contains("line 1"), "{sentence}");
    let twice = json!({}).to_string().replace('}', "\"nonce\":\"1\",\"nonce\":\"2\"}");
    let request = desk
        .agent
        .request("POST", &origin, "/v1/claims")
        .header("authorization", &format!("Bearer {}", desk.openai.key))
        .body(twice)
        .sign();
    refused(&desk.control.send("POST", request.to_bytes()), 400, "REQUEST_BODY_INVALID");
}
