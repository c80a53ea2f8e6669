//! The feed of approved claims, page by page and as a stream.

use std::collections::BTreeSet;

use serde_json::json;

use super::api_scene::{Desk, refused};
use crate::support::agent::Agent;
use crate::support::control::{Control, EventStream};

fn open(desk: &Desk, query: &str) -> EventStream {
    desk.control.stream(&desk.gateway, &desk.openai.key, query)
}

#[test]
fn pages_hold_every_approved_claim_once() {
    let desk = Desk::start();
    let ids: BTreeSet<String> =
        (0..5).map(|_| desk.control.approved(&desk.alice, &Agent::new("alice"), &desk.openai)).collect();
    desk.control.submit(&desk.agent, &desk.openai);
    let page = desk.page("");
    assert_eq!(page["pagination"], json!({ "limit": 500, "offset": 0, "total": 5, "has_more": false }));
    let (mut seen, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = desk.page(&format!("&limit=2{after}"));
        for claim in page["claims"].as_array().unwrap() {
            assert!(seen.insert(claim["claim_id"].as_str().unwrap().to_owned()), "{claim} came twice");
        }
        if page["pagination"]["has_more"] == false {
            break;
        }
        after = format!("&after={}", page["pagination"]["next"].as_str().unwrap());
    }
    assert_eq!(seen, ids);
    let by_offset = desk.page("&limit=2&offset=4");
    assert_eq!(by_offset["claims"].as_array().unwrap().len(), 1);
}

#[test]
fn page_s_claim_has_the_fields_of_the_contract() {
    let desk = Desk::start();
    let id = desk.control.submit(&desk.agent, &desk.openai);
    let body = json!({ "expires_at": "2999-01-01T00:00:00Z", "scopes": ["GET /v1/models"] });
    desk.post(&desk.alice, &format!("/v1/claims/{id}/approve"), &body);
    let claim = desk.page("")["claims"][0].clone();
    let names: Vec<&String> = claim.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "claim_id",
            "namespace",
            "public_key",
            "service",
            "subject",
            "agent_id",
            "agent_name",
            "approved_at",
            "expires_at",
            "scopes"
        ]
    );
    assert_eq!((&claim["namespace"], &claim["subject"]), (&json!("alice"), &json!("alice")));
    assert_eq!((&claim["expires_at"], &claim["scopes"]), (&body["expires_at"], &body["scopes"]));
    assert_eq!(claim["public_key"], desk.agent.public_key());
}

#[test]
fn feed_is_refused_to_whoever_may_not_read_it() {
    let desk = Desk::start();
    desk.control.service(&desk.acme, "linear");
    for path in ["/v1/namespaces/claims", "/v1/namespaces/claims/stream"] {
        let ask = |key: &str, query: &str| {
            desk.control.as_service(&desk.gateway, key, "GET", &format!("{path}?{query}"), None)
        };
        refused(&ask(&desk.openai.key, "service=linear"), 403, "SERVICE_KEY_FORBIDDEN");
        let wide = desk.control.all_services_key(&desk.acme, &desk.openai);
        let missing = ask(&wide.key, "service=nowhere");
        refused(&missing, 404, "SERVICE_NOT_FOUND");
        assert_eq!(missing.json()["details"]["services"], json!(["nowhere"]));
        refused(
            &ask("sk_live_000000000000000000000000000000000000000000000000", "service=openai"),
            401,
            "SERVICE_KEY_INVALID",
        );
        refused(&ask("sk_test_1", "service=openai"), 401, "SERVICE_KEY_INVALID");
        refused(&ask(&desk.openai.key, ""), 400, "FIELD_INVALID");
        refused(&ask(&desk.openai.key, "service=openai&sevice=x"), 400, "FIELD_INVALID");
        let target = format!("{path}?service=openai");
        let no_key = desk.control.as_agent(&desk.gateway, "GET", &target, None);
        refused(&no_key, 401, "SERVICE_KEY_REQUIRED");
        let bearer = format!("Bearer {}", desk.openai.key);
        let unsigned = desk.control.ask("GET", &target, &[("authorization", &bearer)], None);
        refused(&unsigned, 403, "AUTH_SIGNATURE_INVALID");
    }
    for query in ["limit=0", "limit=1001", "offset=-1", "after=a%20b", "after=cl_1&offset=2"] {
        let target = format!("/v1/namespaces/claims?service=openai&{query}");
        refused(&desk.service_get(&target), 400, "FIELD_INVALID");
    }
}

#[test]
fn stream_tells_of_approval_and_revocation_from_now_on() {
    let desk = Desk::start();
    let before = desk.control.approved(&desk.alice, &Agent::new("alice"), &desk.openai);
    let mut stream = open(&desk, "service=openai");
    assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.head.header("cache-control"), Some("no-store"));
    assert_eq!(stream.head.header("x-accel-buffering"), Some("no"));
    let live = stream.next().unwrap();
    assert_eq!(live.name, "heartbeat");
    assert_eq!(live.data["cursor"], live.id.as_str());
    let id = desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let approved = stream.next_change().unwrap();
    assert_eq!((approved.name.as_str(), &approved.data["claim_id"]), ("claim.approved", &json!(id)));
    assert_eq!(approved.data["public_key"], desk.agent.public_key());
    assert_eq!(approved.data["at"], approved.data["approved_at"]);
    desk.control.decide(&desk.alice, &id, "revoke");
    let revoked = stream.next_change().unwrap();
    assert_eq!(revoked.name, "claim.revoked");
    let names: Vec<&String> = revoked.data.as_object().unwrap().keys().collect();
    assert_eq!(names, ["claim_id", "service", "at"]);
    desk.control.decide(&desk.alice, &before, "revoke");
    assert_eq!(stream.next_change().unwrap().data["claim_id"], before);
}

#[test]
fn reader_that_was_away_gets_what_it_missed_and_then_the_heartbeat() {
    let desk = Desk::start();
    let cursor = desk.page("")["cursor"].as_str().unwrap().to_owned();
    let id = desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    desk.control.decide(&desk.alice, &id, "revoke");
    let told = |stream: &mut EventStream| -> Vec<(String, String)> {
        std::iter::from_fn(|| stream.next())
            .map(|event| (event.name, event.id))
            .take_while(|(name, _)| name != "heartbeat")
            .collect()
    };
    let all = told(&mut open(&desk, &format!("service=openai&since={cursor}")));
    assert_eq!(
        all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["claim.approved", "claim.revoked"]
    );
    // From the id of the first on there is the second alone.
    let rest = told(&mut open(&desk, &format!("service=openai&since={}", all[0].1)));
    assert_eq!(rest, all[1..]);
}

#[test]
fn last_event_id_goes_before_the_address() {
    let desk = Desk::start();
    let cursor = desk.page("")["cursor"].as_str().unwrap().to_owned();
    desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let here = desk.page("")["cursor"].as_str().unwrap().to_owned();
    let target = format!("/v1/namespaces/claims/stream?service=openai&since={cursor}");
    let request = desk
        .control
        .service_request(&desk.gateway, &desk.openai.key, "GET", &target, None)
        .also("last-event-id", &here);
    let mut client = crate::support::raw::RawClient::connect(desk.control.address());
    client.send(request.to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    let first = String::from_utf8(client.chunk().unwrap()).unwrap();
    assert!(first.starts_with("event: heartbeat\n"), "{first}");
}

#[test]
fn cursor_of_another_database_asks_for_a_snapshot_and_ends() {
    let desk = Desk::start();
    for cursor in ["0000000000000000-0", "0000000000000000-9000000000000000000"] {
        let mut stream = open(&desk, &format!("service=openai&since={cursor}"));
        let event = stream.next().unwrap();
        assert_eq!((event.name.as_str(), &event.data), ("snapshot.required", &json!({})));
        assert_eq!(stream.next(), None);
    }
    let target = "/v1/namespaces/claims/stream?service=openai&since=yesterday";
    refused(&desk.service_get(target), 400, "FIELD_INVALID");
}

#[test]
fn one_stream_serves_several_services_and_no_others() {
    let desk = Desk::start();
    let linear = desk.control.service(&desk.acme, "linear");
    let slack = desk.control.service(&desk.acme, "slack");
    let wide = desk.control.all_services_key(&desk.acme, &desk.openai);
    let mut stream = desk.control.stream(&desk.gateway, &wide.key, "service=openai&service=linear");
    assert_eq!(stream.next().unwrap().name, "heartbeat");
    desk.control.approved(&desk.alice, &desk.agent, &slack);
    desk.control.approved(&desk.alice, &desk.agent, &linear);
    desk.control.approved(&desk.alice, &desk.agent, &desk.openai);
    let told = [stream.next_change().unwrap(), stream.next_change().unwrap()];
    assert_eq!([&told[0].data["service"], &told[1].data["service"]], ["linear", "openai"]);
}

#[test]
fn claim_whose_time_is_over_expires_in_the_stream() {
    let desk = Desk::start();
    let mut stream = open(&desk, "service=openai");
    let mut body = Control::submission(&desk.agent, "openai");
    body["ttl_seconds"] = json!(1);
    let made = desk.control.as_service(&desk.agent, &desk.openai.key, "POST", "/v1/claims", Some(&body));
    let id = made.json()["claim_id"].as_str().unwrap().to_owned();
    desk.control.decide(&desk.alice, &id, "approve");
    assert_eq!(stream.next_change().unwrap().name, "claim.approved");
    let expired = stream.next_change().unwrap();
    assert_eq!((expired.name.as_str(), &expired.data["claim_id"]), ("claim.expired", &json!(id)));
    assert_eq!(desk.get(&desk.alice, &format!("/v1/claims/{id}")).json()["status"], "expired");
    assert!(desk.control.plane().metrics.render().contains("claims_total{event=\"expired\"} 1\n"));
}

#[test]
fn stream_of_a_revoked_key_ends() {
    let desk = Desk::start();
    let mut stream = open(&desk, "service=openai");
    assert_eq!(stream.next().unwrap().name, "heartbeat");
    let key = format!("/v1/services/{}/keys/{}", desk.openai.id, desk.openai.key_id);
    assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &key, None).status, 204);
    assert_eq!(stream.next(), None);
}

#[test]
fn stream_of_a_deleted_service_tells_of_the_revocations_and_ends() {
    let desk = Desk::start();
    let linear = desk.control.service(&desk.acme, "linear");
    let wide = desk.control.all_services_key(&desk.acme, &desk.openai);
    let id = desk.control.approved(&desk.alice, &desk.agent, &linear);
    let mut stream = desk.control.stream(&desk.gateway, &wide.key, "service=openai&service=linear");
    let path = format!("/v1/services/{}", linear.id);
    assert_eq!(desk.control.as_owner(&desk.acme, "DELETE", &path, None).status, 204);
    let revoked = stream.next_change().unwrap();
    assert_eq!((revoked.name.as_str(), &revoked.data["claim_id"]), ("claim.revoked", &json!(id)));
    assert_eq!(stream.next_change(), None);
}

#[test]
fn streams_end_at_their_number_and_give_their_places_back() {
    let desk = Desk::over(Control::with(|config| config.limits.streams = 1));
    let mut first = open(&desk, "service=openai");
    assert_eq!(first.next().unwrap().name, "heartbeat");
    let target = "/v1/namespaces/claims/stream?service=openai";
    let full = desk.service_get(target);
    refused(&full, 503, "OVERLOADED");
    assert_eq!(full.header("retry-after"), Some("5"));
    assert!(desk.control.plane().metrics.render().contains("sigilum_control_streams 1\n"));
    drop(first);
    let mut second = crate::support::eventually("a free place", || {
        let request = desk.control.service_request(&desk.gateway, &desk.openai.key, "GET", target, None);
        let mut client = crate::support::raw::RawClient::connect(desk.control.address());
        client.send(request.to_bytes());
        (client.head()?.status == 200).then_some(client)
    });
    assert!(!second.chunk().unwrap().is_empty());
}

#[test]
fn stream_ends_when_the_control_plane_stops() {
    let mut desk = Desk::start();
    let mut stream = open(&desk, "service=openai");
    assert_eq!(stream.next().unwrap().name, "heartbeat");
    desk.control.stop();
    assert_eq!(stream.next(), None);
}

#[test]
fn backlog_of_several_batches_comes_whole_and_in_order() {
    let desk = Desk::start();
    let limits = json!({ "maxPendingLimit": 10_000 });
    desk.control.as_owner(&desk.alice, "PATCH", "/v1/auth/settings", Some(&limits));
    let cursor = desk.page("")["cursor"].as_str().unwrap().to_owned();
    let plane = std::sync::Arc::clone(desk.control.plane());
    let keys: Vec<_> = (0..1_100).map(|_| *Agent::new("alice").identity().public_key()).collect();
    desk.control.call(async move {
        for key in keys {
            let (namespace, service) = ("alice".parse().unwrap(), "openai".parse().unwrap());
            plane.store.seed_claim(&namespace, &service, &key, true, plane.clock.now()).await.unwrap();
        }
    });
    let mut stream = open(&desk, &format!("service=openai&since={cursor}"));
    let mut last = 0;
    for _ in 0..1_100 {
        let event = stream.next().unwrap();
        assert_eq!(event.name, "claim.approved");
        let seq: u64 = event.id.split('-').nth(1).unwrap().parse().unwrap();
        assert!(seq > last, "{seq} came after {last}");
        last = seq;
    }
    assert_eq!(stream.next().unwrap().name, "heartbeat");
}
