//! Limits and manners: sizes, rates, times, origins, and the one form of every refusal.

use std::time::Duration;

use serde_json::json;
use sigilum::control::Limits;

use super::api_scene::{Desk, refused};
use crate::support::control::{Control, Owner, Service};
use crate::support::raw::RawClient;

const DASHBOARD: &str = "https://dash.example";

#[test]
fn unknown_routes_and_methods_have_the_envelope_and_an_id() {
    let control = Control::start();
    refused(&control.ask("GET", "/v1/nowhere", &[], None), 404, "NOT_FOUND");
    refused(&control.ask("GET", "/v1/auth/signup", &[], None), 404, "NOT_FOUND");
    let wrong = control.ask("PUT", "/v1/services", &[("x-request-id", "my-own-id-1")], None);
    refused(&wrong, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(wrong.header("x-request-id"), Some("my-own-id-1"));
    let allowed = wrong.header("allow").unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    let unsafe_id = control.ask("GET", "/v1/nowhere", &[("x-request-id", "a b")], None);
    assert!(unsafe_id.header("x-request-id").unwrap().starts_with("req_"));
}

#[test]
fn body_that_is_too_large_is_refused_however_it_is_framed() {
    let desk = Desk::over(Control::with(|config| config.limits.body_bytes = 4096));
    let large = json!({ "slug": "fine-slug", "description": "a".repeat(5_000) });
    let sentence = refused(&desk.post(&desk.acme, "/v1/services", &large), 413, "REQUEST_BODY_TOO_LARGE");
    assert!(sentence.contains("4096"), "{sentence}");
    let mut body = Control::submission(&desk.agent, "openai");
    body["subject"] = "a".repeat(5_000).into();
    let request =
        desk.control.service_request(&desk.agent, &desk.openai.key, "POST", "/v1/claims", Some(&body));
    let answer = desk.control.send("POST", request.to_chunked_bytes(1_000));
    refused(&answer, 413, "REQUEST_BODY_TOO_LARGE");
}

#[test]
fn owner_s_body_must_be_declared_as_json() {
    let desk = Desk::start();
    let send = |declared: &str| {
        let head = format!(
            "POST /v1/services HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n{declared}content-length: 2\r\nconnection: close\r\n\r\n{{}}",
            desk.acme.token
        );
        desk.control.send("POST", head)
    };
    for declared in
        ["", "content-type: text/plain\r\n", "content-type: application/x-www-form-urlencoded\r\n"]
    {
        refused(&send(declared), 415, "CONTENT_TYPE_UNSUPPORTED");
    }
    refused(&send("content-type: application/json; charset=utf-8\r\n"), 400, "FIELD_INVALID");
}

#[test]
fn body_that_breaks_off_is_told_apart_from_a_wrong_one() {
    let desk = Desk::start();
    let mut client = RawClient::connect(desk.control.address());
    client.send(format!(
        "POST /v1/services HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n{{\"slug\"",
        desk.acme.token
    ));
    client.finish_sending();
    refused(&client.response(), 400, "REQUEST_BODY_INCOMPLETE");
    assert_eq!(desk.get(&desk.acme, "/v1/services").json()["services"].as_array().unwrap().len(), 1);
}

#[test]
fn body_that_does_not_come_in_time_is_given_up_with_its_connection() {
    let desk = Desk::over(Control::with(|config| config.limits.body_time = Duration::from_millis(50)));
    let mut client = RawClient::connect(desk.control.address());
    client.send(format!(
        "POST /v1/services HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 200\r\n\r\n{{\"slug\"",
        desk.acme.token
    ));
    let answer = client.response();
    refused(&answer, 408, "REQUEST_TIMEOUT");
    assert_eq!(answer.header("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn body_that_may_be_left_out_must_be_declared_as_json_where_it_is_there() {
    let desk = Desk::start();
    let id = desk.control.submit(&desk.agent, &desk.openai);
    let send = |owner: &Owner, path: &str, declared: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: {declared}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}",
            owner.token
        );
        desk.control.send("POST", head)
    };
    for decision in ["approve", "reject", "revoke"] {
        let path = format!("/v1/claims/{id}/{decision}");
        refused(&send(&desk.alice, &path, "text/plain"), 415, "CONTENT_TYPE_UNSUPPORTED");
    }
    let keys = format!("/v1/services/{}/keys", desk.openai.id);
    refused(&send(&desk.acme, &keys, "text/plain"), 415, "CONTENT_TYPE_UNSUPPORTED");
    assert_eq!(desk.get(&desk.alice, &format!("/v1/claims/{id}")).json()["status"], "pending");
    assert_eq!(desk.get(&desk.acme, &keys).json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(send(&desk.alice, &format!("/v1/claims/{id}/approve"), "application/json").status, 200);
}

fn slow() -> Limits {
    Limits { requests_per_second: 1, ..Limits::default() }
}

#[test]
fn owner_that_asks_too_often_waits_and_another_does_not() {
    let control = Control::with(|config| config.limits = slow());
    let (alice, acme) = (control.owner("alice"), control.owner("acme"));
    let limited = (0..30)
        .map(|_| control.as_owner(&alice, "GET", "/v1/auth/me", None))
        .find(|answer| answer.status != 200)
        .expect("an owner of one request a second sent thirty");
    refused(&limited, 429, "RATE_LIMITED");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(control.as_owner(&acme, "GET", "/v1/auth/me", None).status, 200);
    assert_eq!(control.ask("GET", "/health", &[], None).status, 200);
    assert!(!control.plane().metrics.render().contains("sigilum_control_rate_limited_total 0\n"));
}

#[test]
fn whoever_tries_tokens_and_keys_out_is_limited_by_the_address() {
    let control = Control::with(|config| config.limits = slow());
    let wrong = || control.ask("GET", "/v1/auth/me", &[("authorization", "Bearer nonsense")], None);
    let limited = (0..30).map(|_| wrong()).find(|answer| answer.status != 401).expect("a limit");
    refused(&limited, 429, "RATE_LIMITED");
    let did = control.ask("GET", "/.well-known/did/did:sigilum:alice", &[], None);
    refused(&did, 429, "RATE_LIMITED");
    // Those who can show who they are go on.
    let alice = control.owner("alice");
    assert_eq!(control.as_owner(&alice, "GET", "/v1/auth/me", None).status, 200);
}

#[test]
fn key_has_an_allowance_of_its_own() {
    let desk = Desk::over(Control::with(|config| config.limits = slow()));
    let page = || desk.service_get("/v1/namespaces/claims?service=openai");
    let limited = (0..30).map(|_| page()).find(|answer| answer.status != 200).expect("a limit");
    refused(&limited, 429, "RATE_LIMITED");
    let did = desk.control.ask("GET", "/.well-known/did/did:sigilum:alice", &[], None);
    assert_eq!(did.status, 200, "a known key spends nothing of its address: {}", did.text());
}

#[test]
fn whoever_signs_wrongly_is_limited_by_the_address_and_with_a_known_key_by_the_key() {
    let desk = Desk::over(Control::with(|config| config.limits = slow()));
    const PAGE: &str = "/v1/namespaces/claims?service=openai";
    let wrongly = |key: &str| {
        let request = desk.control.service_request(&desk.gateway, key, "GET", PAGE, None);
        desk.control.send("GET", request.replace("sigilum-subject", "another").to_bytes())
    };
    let above = |key: &str| {
        (0..30).map(|_| wrongly(key)).find(|answer| answer.status == 429).expect("a limit");
    };
    let resolved = || desk.control.ask("GET", "/.well-known/did/did:sigilum:alice", &[], None).status;
    assert_eq!(desk.service_get(PAGE).status, 200);
    refused(&wrongly(&desk.openai.key), 403, "AUTH_SIGNATURE_INVALID");
    above(&desk.openai.key);
    assert_eq!(resolved(), 200, "a known key spends nothing of its address");
    refused(&wrongly(&format!("sk_live_{}", "0".repeat(48))), 403, "AUTH_SIGNATURE_INVALID");
    above(&format!("sk_live_{}", "0".repeat(48)));
    assert_eq!(resolved(), 429);
}

#[test]
fn usage_that_is_told_too_often_leaves_the_key_its_way_to_the_claims() {
    let desk = Desk::over(Control::with(|config| config.limits = slow()));
    let page = || desk.service_get("/v1/namespaces/claims?service=openai");
    let tell = || {
        let batch = json!({ "events": [] });
        desk.control.as_service(&desk.gateway, &desk.openai.key, "POST", "/v1/usage/events", Some(&batch))
    };
    assert_eq!(tell().status, 202);
    let limited = (0..30).map(|_| tell()).find(|answer| answer.status != 202).expect("a limit");
    refused(&limited, 429, "RATE_LIMITED");
    assert_eq!(page().status, 200);
    let limited = (0..30).map(|_| page()).find(|answer| answer.status != 200).expect("a limit");
    refused(&limited, 429, "RATE_LIMITED");
}

#[test]
fn nonces_of_one_owner_or_of_strangers_leave_room_for_others_until_there_is_none() {
    // Strangers may have two, and the keys of one owner one.
    let desk = Desk::over(Control::with(|config| config.limits.nonces = 4));
    let page = |service: &Service| {
        let target = "/v1/namespaces/claims?service=openai";
        desk.control.as_service(&desk.gateway, &service.key, "GET", target, None)
    };
    let stranger = || desk.control.as_agent(&desk.agent, "GET", "/v1/namespaces/acme", None);
    let (globex, initech) = (desk.control.owner("globex"), desk.control.owner("initech"));
    let (globex, initech) =
        (desk.control.service(&globex, "openai"), desk.control.service(&initech, "openai"));
    assert_eq!(page(&desk.openai).status, 200);
    let limited = page(&desk.openai);
    refused(&limited, 429, "RATE_LIMITED");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() > 1);
    let another_key = desk.control.all_services_key(&desk.acme, &desk.openai);
    refused(&page(&another_key), 429, "RATE_LIMITED");
    assert_eq!(stranger().status, 200);
    let full = stranger();
    refused(&full, 503, "OVERLOADED");
    assert_eq!(full.header("retry-after"), Some("5"));
    assert_eq!(page(&globex).status, 200);
    assert_eq!(page(&initech).status, 200);
    let hooli = desk.control.service(&desk.control.owner("hooli"), "openai");
    refused(&page(&hooli), 503, "OVERLOADED");
}

#[test]
fn trusted_proxy_s_clients_are_counted_one_by_one() {
    let control = Control::with(|config| {
        config.limits = slow();
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let from = |client: &str| {
        control.ask("GET", "/.well-known/did/did:sigilum:nobody", &[("x-forwarded-for", client)], None)
    };
    let limited = (0..30).map(|_| from("203.0.113.9")).find(|answer| answer.status == 429);
    assert!(limited.is_some());
    assert_eq!(from("203.0.113.10").status, 404);
}

#[test]
fn pages_of_allowed_origins_may_call_and_read_refusals_too() {
    let control = Control::with(|config| config.allowed_origins = vec![DASHBOARD.to_owned()]);
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        control.ask("OPTIONS", "/v1/auth/settings", &headers, None)
    };
    let told = preflight(DASHBOARD);
    assert_eq!(told.header("access-control-allow-origin"), Some(DASHBOARD));
    assert_eq!(told.header("access-control-allow-credentials"), Some("true"));
    assert!(told.header("access-control-allow-methods").unwrap().contains("PATCH"));
    assert!(told.header("x-request-id").is_some());
    let refusal = control.ask("GET", "/v1/auth/me", &[("origin", DASHBOARD)], None);
    refused(&refusal, 401, "AUTH_TOKEN_REQUIRED");
    assert_eq!(refusal.header("access-control-allow-origin"), Some(DASHBOARD));
    for foreign in ["https://evil.example", "null", "https://dash.example:8443", "http://dash.example"] {
        assert_eq!(preflight(foreign).header("access-control-allow-origin"), None, "{foreign}");
        let answer = control.ask("GET", "/health", &[("origin", foreign)], None);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{foreign}");
    }
}

#[test]
fn health_metrics_and_document_are_open() {
    let control = Control::start();
    for (path, check) in [("/health", "health"), ("/health/live", "liveness"), ("/health/ready", "readiness")]
    {
        assert_eq!(control.ask("GET", path, &[], None).json(), json!({ "status": "ok", "check": check }));
    }
    control.ask("GET", "/v1/services/svc_1", &[], None);
    control.ask("GET", "/v1/whatever-a-client-makes-up", &[], None);
    let metrics = control.ask("GET", "/metrics", &[], None);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    for line in [
        "sigilum_control_requests_total{route=\"/health\",status=\"2xx\"} 1",
        "sigilum_control_requests_total{route=\"/v1/services/{id}\",status=\"4xx\"} 1",
        "sigilum_control_requests_total{route=\"none\",status=\"4xx\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("made-up") && !text.contains("makes-up"));
}

#[test]
fn readiness_ends_with_the_database() {
    let control = Control::start();
    let store = control.store().clone();
    control.call(async move { store.close().await });
    let waits = control.ask("GET", "/health/ready", &[], None);
    refused(&waits, 503, "NOT_READY");
    assert_eq!(waits.header("retry-after"), Some("1"));
    assert_eq!(control.ask("GET", "/health/live", &[], None).status, 200);
    let did = control.ask("GET", "/.well-known/did/did:sigilum:alice", &[], None);
    refused(&did, 503, "DATABASE_UNAVAILABLE");
    assert_eq!(did.header("retry-after"), Some("1"));
}

#[test]
fn connections_end_at_their_number_and_the_next_waits_its_turn() {
    let control = Control::with(|config| config.limits.connections = 1);
    let ask = "GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = RawClient::connect(control.address());
    first.send(ask);
    assert_eq!(first.response_to("GET").status, 200);
    let mut second = RawClient::connect(control.address());
    second.send(ask);
    // The first goes on while the second waits.
    first.send(ask);
    assert_eq!(first.response_to("GET").status, 200);
    drop(first);
    assert_eq!(second.response_to("GET").status, 200);
}

#[test]
fn request_that_runs_is_answered_when_the_control_plane_stops() {
    let mut desk = Desk::start();
    let mut client = RawClient::connect(desk.control.address());
    let body = r#"{"slug":"late-one"}"#;
    client.send(format!(
        "POST /v1/services HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        desk.acme.token,
        body.len()
    ));
    // The interim answer says that the handler waits for the body.
    assert!(client.some().starts_with(b"HTTP/1.1 100"));
    desk.control.ask_to_stop();
    client.send(body);
    assert_eq!(client.response().status, 201);
    desk.control.stop();
}

#[test]
fn stop_cuts_what_still_runs_at_the_end_of_the_drain() {
    let mut desk = Desk::over(Control::with(|config| config.drain = Duration::from_millis(50)));
    let mut client = RawClient::connect(desk.control.address());
    client.send(format!(
        "POST /v1/services HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n",
        desk.acme.token
    ));
    assert!(client.some().starts_with(b"HTTP/1.1 100"));
    desk.control.stop();
    client.assert_closed();
}
