use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sigilum::claims::{Registrar, RegistrarConfig, Registration, Services};
use sigilum::clock::Clock;
use sigilum::names::ConnectionId;
use sigilum::protocol::{Freshness, Identity, Message, Uncached, Unsigned, VerifiedSignature, sign, verify};
use tokio::runtime::Handle;

use super::server::{Behaviour, Nobody, START, Server, identity};

const AGENT_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn config(server: &Server, per_minute: u32) -> RegistrarConfig {
    RegistrarConfig { url: server.url(), per_minute: per_minute.try_into().unwrap() }
}

fn registrar(clock: &Clock, server: &Server, config: RegistrarConfig) -> Registrar {
    let services = Services::fixed(vec![openai()], server.key_source());
    Registrar::new(config, services, Arc::new(identity("gateway", 0)), clock.clone(), Handle::current())
        .unwrap()
}

fn started(per_minute: u32) -> (Clock, Server, Registrar) {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    let registrar = registrar(&clock, &server, config(&server, per_minute));
    (clock, server, registrar)
}

/// A request of alice's key `n`, signed and verified.
fn request_of(n: u32) -> VerifiedSignature {
    let (agent, uri) = (identity("alice", n), "http://127.0.0.1:38100/proxy/openai/v1/models");
    let unsigned = Unsigned {
        method: "GET",
        uri,
        content_digest: None,
        subject: Some("user-17"),
        agent_id: Some("researcher"),
        nonce: "nonce-0001",
        now: START,
    };
    let headers = sign(&agent, &unsigned).unwrap().into_iter().collect();
    let message = Message { method: "GET", target_uri: uri, headers: &headers, has_body: false };
    let freshness =
        Freshness { created_tolerance: Duration::from_secs(300), future_skew: Duration::from_secs(30) };
    verify(&message, freshness, START, &Uncached).unwrap()
}

fn openai() -> ConnectionId {
    "openai".parse().unwrap()
}

fn key_of(identity: &Identity) -> String {
    identity.public_key().to_string()
}

fn unregistered() -> Registration {
    Registration { status: "unregistered".to_owned(), claim_id: None, approve_url: None }
}

#[tokio::test]
async fn claim_is_submitted_for_the_agent_under_the_gateways_signature() {
    let (_clock, server, registrar) = started(30);
    let told = registrar.register(&request_of(1), &openai(), AGENT_IP).await.unwrap();
    assert_eq!((told.status.as_str(), told.claim_id.as_deref()), ("pending", Some("cl_1")));
    assert_eq!(told.approve_url.as_deref(), Some("https://example.com/claims/cl_1"));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].namespace.as_str(), "gateway");
    assert_eq!(seen[0].headers["x-sigilum-claim-binding"], "namespace-only");
    assert_eq!(seen[0].headers["content-type"], "application/json");
    let mut body = seen[0].body.clone();
    let nonce = body.as_object_mut().unwrap().remove("nonce");
    assert!(matches!(nonce, Some(Value::String(nonce)) if nonce.len() >= 8));
    let expected = serde_json::json!({
        "namespace": "alice", "public_key": key_of(&identity("alice", 1)), "service": "openai",
        "agent_ip": "192.0.2.7", "subject": "user-17", "agent_id": "researcher",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn ten_callers_at_once_make_one_submission_and_hear_its_answer() {
    let (_clock, server, registrar) = started(30);
    server.behave(Behaviour::Hold);
    let (request, service) = (request_of(1), openai());
    let callers = (0..10).map(|_| registrar.register(&request, &service, AGENT_IP));
    let release = async {
        server.arrived().await;
        server.release();
    };
    let (told, ()) = tokio::join!(futures::future::join_all(callers), release);
    assert!(told.iter().all(|told| told.as_ref().unwrap().claim_id.as_deref() == Some("cl_1")), "{told:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn keys_and_services_are_submitted_each_on_their_own() {
    let (_clock, server, registrar) = started(30);
    registrar.register(&request_of(1), &openai(), AGENT_IP).await.unwrap();
    registrar.register(&request_of(2), &openai(), AGENT_IP).await.unwrap();
    registrar.register(&request_of(1), &"slack".parse().unwrap(), AGENT_IP).await.unwrap();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn claim_that_was_made_is_submitted_again_only_after_a_minute() {
    let (clock, server, registrar) = started(30);
    let first = registrar.register(&request_of(1), &openai(), AGENT_IP).await;
    clock.set(START.plus(Duration::from_millis(59_999)));
    assert_eq!(registrar.register(&request_of(1), &openai(), AGENT_IP).await, first);
    assert_eq!(server.seen().len(), 1);
    clock.set(START.plus(Duration::from_secs(60)));
    registrar.register(&request_of(1), &openai(), AGENT_IP).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn refused_submission_is_unregistered_and_tried_again_after_ten_seconds() {
    let (clock, server, registrar) = started(30);
    server.behave(Behaviour::Refuse(404));
    assert_eq!(registrar.register(&request_of(1), &openai(), AGENT_IP).await, Ok(unregistered()));
    server.behave(Behaviour::Serve);
    clock.set(START.plus(Duration::from_millis(9_999)));
    assert_eq!(registrar.register(&request_of(1), &openai(), AGENT_IP).await, Ok(unregistered()));
    clock.set(START.plus(Duration::from_secs(10)));
    let told = registrar.register(&request_of(1), &openai(), AGENT_IP).await.unwrap();
    assert_eq!(told.status, "pending");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn unreachable_control_plane_leaves_the_caller_unregistered() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    let (nobody, mut config) = (Nobody::there(), config(&server, 30));
    config.url = nobody.url();
    let registrar = registrar(&clock, &server, config);
    assert_eq!(registrar.register(&request_of(1), &openai(), AGENT_IP).await, Ok(unregistered()));
}

#[tokio::test]
async fn submissions_above_the_rate_are_refused_and_remembered_ones_are_not() {
    let (_clock, server, registrar) = started(2);
    for n in [1, 2] {
        registrar.register(&request_of(n), &openai(), AGENT_IP).await.unwrap();
    }
    let limited = registrar.register(&request_of(3), &openai(), AGENT_IP).await.unwrap_err();
    assert!((1..=31).contains(&limited.retry_after_secs), "{limited:?}");
    assert!(registrar.register(&request_of(1), &openai(), AGENT_IP).await.is_ok());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn stranger_with_keys_of_its_own_making_leaves_others_their_submissions() {
    let (_clock, server, registrar) = started(30);
    for n in 0..10 {
        registrar.register(&request_of(n), &openai(), AGENT_IP).await.unwrap();
    }
    let limited = registrar.register(&request_of(10), &openai(), AGENT_IP).await.unwrap_err();
    assert_eq!(limited.retry_after_secs, 61);
    let other = "192.0.2.8".parse().unwrap();
    assert_eq!(registrar.register(&request_of(10), &openai(), other).await.unwrap().status, "pending");
    assert_eq!(server.seen().len(), 11);
}

#[tokio::test]
async fn caller_is_answered_while_the_control_plane_still_thinks_and_the_next_hears_the_result() {
    let (_clock, server, registrar) = started(30);
    server.behave(Behaviour::Hold);
    assert_eq!(registrar.register(&request_of(1), &openai(), AGENT_IP).await, Ok(unregistered()));
    assert_eq!(server.seen().len(), 1, "the server holds the request");
    server.release();
    let told = registrar.register(&request_of(1), &openai(), AGENT_IP).await.unwrap();
    assert_eq!((told.status.as_str(), told.claim_id.as_deref()), ("pending", Some("cl_1")));
    assert_eq!(server.seen().len(), 1, "it was submitted once");
}

#[tokio::test]
async fn callers_on_runtimes_that_end_do_not_take_the_connection_with_them() {
    let (_clock, server, registrar) = started(30);
    let registrar = Arc::new(registrar);
    for n in 1..=3 {
        let registrar = Arc::clone(&registrar);
        let told = tokio::task::spawn_blocking(move || {
            let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            worker.block_on(registrar.register(&request_of(n), &openai(), AGENT_IP)).unwrap()
        });
        assert_eq!(told.await.unwrap().status, "pending");
    }
    assert_eq!(server.seen().len(), 3);
}
