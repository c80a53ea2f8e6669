//! Sessions from their code to their end: who is let in, and who is not.

use std::time::Duration;

use serde_json::json;
use sigilum::clock::Clock;

use super::pairing_scene::{
    Session, Socket, knock, paired, refused, revoke, start, started, status, target, wait_for, wrong,
};
use crate::support::agent::Agent;
use crate::support::control::Control;

#[test]
fn session_is_started_with_a_code_of_which_nothing_is_kept() {
    let control = Control::start();
    let owner = control.owner("acme");
    let answer = control.as_owner(&owner, "POST", "/v1/gateway/pairing/start", Some(&json!({})));
    assert_eq!(answer.status, 201);
    let answer = answer.json();
    let (id, code) = (answer["session_id"].as_str().unwrap(), answer["pair_code"].as_str().unwrap());
    assert!(code.len() == 8 && code.chars().all(|c| "ABCDEFGHJKMNPQRSTUVWXYZ23456789".contains(c)), "{code}");
    assert_eq!(answer["pairing_code"], format!("{id}.{code}"));
    let ws = format!("ws://{}/v1/gateway/pairing/connect?session_id={id}&namespace=acme", control.address());
    assert!(answer["ws_url"].as_str().unwrap().starts_with(&ws), "{answer}");
    for entry in std::fs::read_dir(control.directory()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|part| part == code.as_bytes()), "the code is on disk");
    }
    let listed = control.as_owner(&owner, "GET", "/v1/gateway/pairing", None).json();
    assert_eq!(listed["pairings"][0]["state"], "waiting");
    assert!(!listed.to_string().contains(code));
}

#[test]
fn hundredth_session_is_the_last_until_one_is_revoked() {
    let control = Control::start();
    let owner = control.owner("acme");
    let first = start(&control, &owner);
    for _ in 1..100 {
        start(&control, &owner);
    }
    let next = || control.as_owner(&owner, "POST", "/v1/gateway/pairing/start", Some(&json!({})));
    let above = next();
    assert_eq!((above.status, above.code().as_str()), (409, "LIMIT_REACHED"), "{}", above.text());
    revoke(&control, &owner, &first);
    assert_eq!(next().status, 201);
}

#[test]
fn session_is_for_the_owner_s_namespace_and_a_time_within_bounds() {
    let control = Control::start();
    let (owner, other) = (control.owner("acme"), control.owner("globex"));
    let refusal = |body| control.as_owner(&owner, "POST", "/v1/gateway/pairing/start", Some(&body));
    for (body, status, code) in [
        (json!({ "namespace": "globex" }), 403, "NAMESPACE_FORBIDDEN"),
        (json!({ "ttl_seconds": 29 }), 400, "FIELD_INVALID"),
        (json!({ "ttl_seconds": 3601 }), 400, "FIELD_INVALID"),
        (json!({ "ttl": 60 }), 400, "FIELD_INVALID"),
    ] {
        let answer = refusal(body);
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()));
    }
    assert_eq!(control.ask("POST", "/v1/gateway/pairing/start", &[], None).status, 401);
    let session = started(&control, &owner, &json!({ "namespace": "acme", "ttl_seconds": 30 }));
    let path = format!("/v1/gateway/pairing/status?session_id={}", session.id);
    assert_eq!(control.as_owner(&other, "GET", &path, None).code(), "PAIRING_NOT_FOUND");
    assert_eq!(revoke(&control, &other, &session), 404);
}

#[test]
fn session_beyond_a_hundred_is_refused_until_one_is_over() {
    let control = Control::start();
    let owner = control.owner("acme");
    let first = start(&control, &owner);
    for _ in 1..100 {
        start(&control, &owner);
    }
    let beyond = control.as_owner(&owner, "POST", "/v1/gateway/pairing/start", Some(&json!({})));
    assert_eq!((beyond.status, beyond.code()), (409, "LIMIT_REACHED".to_owned()));
    assert!(beyond.json()["error"].as_str().unwrap().contains("limited to 100"), "{}", beyond.text());
    start(&control, &control.owner("globex"));
    assert_eq!(revoke(&control, &owner, &first), 204);
    start(&control, &owner);
}

#[test]
fn session_that_is_not_there_is_unknown_to_every_gateway() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, session) = (Agent::new("acme"), start(&control, &owner));
    for unknown in [
        Session { id: format!("ps_{}", "0".repeat(32)), ..session.clone() },
        Session { id: "nonsense".into(), ..session.clone() },
        Session { namespace: "globex".into(), ..session.clone() },
    ] {
        let code = unknown.code.clone();
        assert_eq!(refused(&control, &agent, &unknown, Some(&code)), (404, "PAIRING_NOT_FOUND".to_owned()));
    }
}

#[test]
fn fifth_wrong_code_ends_the_session_for_the_right_one_too() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, session) = (Agent::new("acme"), start(&control, &owner));
    let bad = wrong(&session.code);
    for _ in 0..4 {
        assert_eq!(refused(&control, &agent, &session, Some(&bad)), (403, "PAIRING_CODE_INVALID".to_owned()));
    }
    for code in [bad.as_str(), session.code.as_str(), session.code.as_str()] {
        assert_eq!(
            refused(&control, &agent, &session, Some(code)),
            (403, "PAIRING_TOO_MANY_TRIES".to_owned())
        );
    }
}

#[test]
fn wrong_code_and_none_leave_the_right_one_its_tries() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, session) = (Agent::new("acme"), start(&control, &owner));
    assert_eq!(refused(&control, &agent, &session, Some(&wrong(&session.code))).0, 403);
    assert_eq!(refused(&control, &agent, &session, None).0, 403);
    let code = session.code.to_lowercase();
    let _socket = Socket::open(&control, &agent, &session, Some(&code));
    wait_for(&control, &owner, &session, true);
}

#[test]
fn code_whose_time_is_over_opens_nothing() {
    let clock = Clock::fixed(Clock::system().now());
    let control = Control::by(clock.clone());
    let owner = control.owner("acme");
    let agent = Agent::new("acme");
    let session = started(&control, &owner, &json!({ "ttl_seconds": 30 }));
    clock.set(clock.now().plus(Duration::from_secs(30)));
    let code = session.code.clone();
    assert_eq!(refused(&control, &agent, &session, Some(&code)), (410, "PAIRING_EXPIRED".to_owned()));
    assert_eq!(status(&control, &owner, &session)["state"], "expired");
}

#[test]
fn session_that_was_revoked_opens_nothing() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, session) = (Agent::new("acme"), start(&control, &owner));
    assert_eq!(revoke(&control, &owner, &session), 204);
    assert_eq!(revoke(&control, &owner, &session), 204);
    let code = session.code.clone();
    assert_eq!(refused(&control, &agent, &session, Some(&code)), (410, "PAIRING_REVOKED".to_owned()));
    assert_eq!(status(&control, &owner, &session)["state"], "revoked");
}

#[test]
fn paired_gateway_comes_back_by_its_key_and_no_other_by_the_code() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, thief) = (Agent::new("acme"), Agent::new("acme"));
    let (session, socket) = paired(&control, &owner, &agent);
    drop(socket);
    wait_for(&control, &owner, &session, false);
    assert_eq!(status(&control, &owner, &session)["state"], "disconnected");
    for code in [Some(session.code.as_str()), None] {
        assert_eq!(refused(&control, &thief, &session, code), (403, "PAIRING_OTHER_GATEWAY".to_owned()));
    }
    let _socket = Socket::open(&control, &agent, &session, None);
    wait_for(&control, &owner, &session, true);
}

#[test]
fn status_shows_the_gateway_and_its_sealing_key() {
    let control = Control::start();
    let owner = control.owner("acme");
    let agent = Agent::new("acme");
    let (session, _socket) = paired(&control, &owner, &agent);
    let shown = status(&control, &owner, &session);
    assert_eq!(shown["state"], "connected");
    assert_eq!(shown["gateway"]["gateway_id"], "did:sigilum:gateway-1");
    assert_eq!(shown["gateway"]["public_key"], agent.public_key());
    assert_eq!(shown["gateway"]["sealing_key"]["public_key"], super::pairing_scene::sealing_key());
    assert!(shown["last_connected_at"].is_string());
}

#[test]
fn request_that_is_not_signed_or_was_changed_since_is_refused_and_counts_no_try() {
    let control = Control::start();
    let owner = control.owner("acme");
    let (agent, session) = (Agent::new("acme"), start(&control, &owner));
    let good = target(&session, Some(&session.code));
    let unsigned = control.ask("GET", &good, &[("connection", "upgrade"), ("upgrade", "websocket")], None);
    assert_eq!((unsigned.status, unsigned.code()), (403, "AUTH_SIGNATURE_INVALID".to_owned()));
    let swapped = good.replace("gateway-1", "gateway-2");
    let changed = knock(&control, &agent, &good).target_swapped(&swapped);
    assert_eq!(control.send("GET", changed.to_bytes()).code(), "AUTH_SIGNATURE_INVALID");
    let mut once = knock(&control, &agent, &good);
    once.headers.retain(|(name, _)| !name.contains("upgrade") && name != "connection");
    let plain = control.send("GET", once.to_bytes());
    assert_eq!((plain.status, plain.code()), (426, "UPGRADE_REQUIRED".to_owned()));
    assert_eq!(control.send("GET", once.to_bytes()).code(), "AUTH_REPLAY_DETECTED");
    let code = session.code.clone();
    let _socket = Socket::open(&control, &agent, &session, Some(&code));
}

#[test]
fn pairing_of_a_namespace_that_is_gone_opens_nothing() {
    let control = Control::start();
    let owner = control.owner("acme");
    let agent = Agent::new("acme");
    let (session, socket) = paired(&control, &owner, &agent);
    drop(socket);
    let plane = std::sync::Arc::clone(control.plane());
    control.call(async move {
        plane.store.delete_namespace(&"acme".parse().unwrap(), plane.clock.now()).await.unwrap();
    });
    assert_eq!(refused(&control, &agent, &session, None), (404, "PAIRING_NOT_FOUND".to_owned()));
}
