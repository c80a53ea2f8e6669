//! Usage over the API: told by services, seen by the owner of a namespace.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::control::Control;

const EVENTS: &str = "/v1/usage/events";

fn event(agent: &Agent, id: &str, service: &str) -> Value {
    json!({
        "event_id": id, "namespace": agent.namespace(), "service": service,
        "public_key": agent.public_key(), "subject": "user-7", "agent_id": "mailer", "protocol": "http",
        "action": "proxy.request", "outcome": "success", "status_code": 200, "duration_ms": 12,
        "response_bytes": 1000, "request_method": "GET", "request_path": "/v1/models", "remote_ip": "203.0.113.7",
    })
}

#[test]
fn gateway_tells_one_event_or_many_and_the_owner_sees_what_they_add_up_to() {
    let control = Control::start();
    let (acme, alice) = (control.owner("acme"), control.owner("alice"));
    let service = control.service(&acme, "openai");
    let (gateway, agent) = (Agent::new("acme"), Agent::new("alice"));
    let one = event(&agent, "ue_1", "openai");
    let answer = control.as_service(&gateway, &service.key, "POST", EVENTS, Some(&one));
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.json(), json!({ "accepted": 1, "duplicates": 0, "ignored": 0 }));
    let many = json!({ "events": [one, event(&agent, "ue_2", "openai")] });
    let answer = control.as_service(&gateway, &service.key, "POST", EVENTS, Some(&many));
    assert_eq!(answer.json(), json!({ "accepted": 1, "duplicates": 1, "ignored": 0 }));
    let seen = control.as_owner(&alice, "GET", "/v1/namespaces/alice/usage?sort=calls_desc&limit=10", None);
    assert_eq!(seen.status, 200, "{}", seen.text());
    let seen = seen.json();
    assert_eq!(seen["pagination"], json!({ "limit": 10, "offset": 0, "total": 1, "has_more": false }));
    let row = &seen["usage"][0];
    assert_eq!((&row["subject"], &row["agent_id"]), (&json!("user-7"), &json!("mailer")));
    assert_eq!((&row["calls"], &row["errors"]), (&json!(2), &json!(0)));
    assert_eq!(row["public_key"], agent.public_key());
    assert_eq!((&row["service"], &row["service_owner"]), (&json!("openai"), &json!("acme")));
    assert_eq!((&row["response_bytes"], &row["duration_ms"]), (&json!(2000), &json!(24)));
    assert_eq!(
        row["last"],
        json!({ "protocol": "http", "action": "proxy.request", "outcome": "success", "status_code": 200 })
    );
}

#[test]
fn key_tells_of_its_own_service_alone_unless_it_opens_all() {
    let control = Control::start();
    let (acme, gateway, agent) = (control.owner("acme"), Agent::new("acme"), Agent::new("alice"));
    control.owner("alice");
    let service = control.service(&acme, "openai");
    control.service(&acme, "linear");
    let batch = json!({ "events": [event(&agent, "ue_1", "openai"), event(&agent, "ue_2", "linear")] });
    let refused = control.as_service(&gateway, &service.key, "POST", EVENTS, Some(&batch));
    assert_eq!((refused.status, refused.code().as_str()), (403, "SERVICE_KEY_FORBIDDEN"));
    let all = control.all_services_key(&acme, &service);
    let answer = control.as_service(&gateway, &all.key, "POST", EVENTS, Some(&batch));
    assert_eq!(answer.json(), json!({ "accepted": 2, "duplicates": 0, "ignored": 0 }));
}

#[test]
fn events_that_are_not_as_they_must_be_are_refused_with_their_place() {
    let control = Control::start();
    let (acme, gateway, agent) = (control.owner("acme"), Agent::new("acme"), Agent::new("alice"));
    control.owner("alice");
    let service = control.service(&acme, "openai");
    for (field, change) in [
        ("event_id", json!({ "event_id": "" })),
        ("event_id", json!({ "event_id": "a b" })),
        ("namespace", json!({ "namespace": "-" })),
        ("public_key", json!({ "public_key": "ed25519:AAAA" })),
        ("subject", json!({ "subject": "" })),
        ("subject", json!({ "subject": "a".repeat(257) })),
        ("action", json!({ "action": "a\nb" })),
        ("protocol", json!({ "protocol": "gopher" })),
        ("outcome", json!({ "outcome": "maybe" })),
        ("status_code", json!({ "status_code": 99 })),
        ("duration_ms", json!({ "duration_ms": -1 })),
        ("remote_ip", json!({ "remote_ip": "example.com" })),
        ("colour", json!({ "colour": "red" })),
    ] {
        let mut wrong = event(&agent, "ue_2", "openai");
        for (name, value) in change.as_object().unwrap() {
            wrong[name] = value.clone();
        }
        for (place, body) in [
            (field.to_owned(), wrong.clone()),
            (format!("events[1].{field}"), json!({ "events": [event(&agent, "ue_1", "openai"), wrong] })),
        ] {
            let refused = control.as_service(&gateway, &service.key, "POST", EVENTS, Some(&body));
            assert_eq!((refused.status, refused.code().as_str()), (400, "FIELD_INVALID"), "{change}");
            let sentence = refused.json()["error"].as_str().unwrap().to_owned();
            assert!(sentence.starts_with(&format!("{place}: ")), "{sentence}");
        }
    }
    let many: Vec<Value> = (0..1_001).map(|_| json!({ "event_id": "ue_1" })).collect();
    let refused =
        control.as_service(&gateway, &service.key, "POST", EVENTS, Some(&json!({ "events": many })));
    assert_eq!(refused.status, 400);
    // None of the sound ones beside them was taken.
    let first = control.as_service(
        &gateway,
        &service.key,
        "POST",
        EVENTS,
        Some(&json!({ "events": [event(&agent, "ue_1", "openai")] })),
    );
    assert_eq!(first.json()["accepted"], 1);
}

#[test]
fn thousand_events_fit_into_one_request() {
    let control = Control::start();
    let (acme, gateway, agent) = (control.owner("acme"), Agent::new("acme"), Agent::new("alice"));
    control.owner("alice");
    let service = control.service(&acme, "openai");
    let many: Vec<Value> = (0..1_000).map(|id| event(&agent, &format!("ue_{id}"), "openai")).collect();
    let answer = control.as_service(&gateway, &service.key, "POST", EVENTS, Some(&json!({ "events": many })));
    assert_eq!(answer.json(), json!({ "accepted": 1000, "duplicates": 0, "ignored": 0 }));
}

#[test]
fn usage_of_another_namespace_is_not_shown_and_strangers_tell_nothing() {
    let control = Control::start();
    let (acme, alice, agent) = (control.owner("acme"), control.owner("alice"), Agent::new("alice"));
    let path = "/v1/namespaces/alice/usage";
    assert_eq!(control.as_owner(&acme, "GET", path, None).code(), "NAMESPACE_FORBIDDEN");
    assert_eq!(control.ask("GET", path, &[], None).status, 401);
    for query in ["sort=loudest", "limit=0", "limit=1001", "order=recent"] {
        let refused = control.as_owner(&alice, "GET", &format!("{path}?{query}"), None);
        assert_eq!(refused.code(), "FIELD_INVALID", "{query}");
    }
    let told = event(&agent, "ue_1", "openai");
    assert_eq!(control.as_agent(&agent, "POST", EVENTS, Some(&told)).code(), "SERVICE_KEY_REQUIRED");
    let key = format!("sk_live_{}", "0".repeat(48));
    let refused = control.as_service(&agent, &key, "POST", EVENTS, Some(&told));
    assert_eq!(refused.code(), "SERVICE_KEY_INVALID");
}
