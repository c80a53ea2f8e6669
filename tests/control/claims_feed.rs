use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sigilum::claims::{ClaimsIndex, Feed, FeedConfig, FeedFailure, FeedFault, FeedSource, Lookup, Services};
use sigilum::clock::Clock;
use sigilum::telemetry::Metrics;
use tokio::sync::watch;

use super::server::{Behaviour, Nobody, START, Server, identity};

const STALENESS: Duration = Duration::from_secs(30);

/// A gateway's index and what feeds it.
struct Gateway {
    clock: Clock,
    index: Arc<ClaimsIndex>,
    feed: Feed,
}

fn config(server: &Server) -> FeedConfig {
    FeedConfig {
        url: server.url(),
        source: FeedSource::Poll,
        refresh: Duration::from_millis(20),
        max_staleness: STALENESS,
        max_entries: None,
    }
}

fn gateway(clock: &Clock, server: &Server, config: FeedConfig, services: &[&str]) -> Gateway {
    let ids = services.iter().map(|service| service.parse().unwrap()).collect();
    let services = Services::fixed(ids, server.key_source());
    let index = Arc::new(ClaimsIndex::new(vec![], Some(config.max_staleness)));
    let signer = Arc::new(identity("gateway", 0));
    let metrics = Arc::new(Metrics::new());
    let feed = Feed::new(config, services, Arc::clone(&index), signer, clock.clone(), metrics).unwrap();
    Gateway { clock: clock.clone(), index, feed }
}

fn started() -> (Server, Gateway) {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    let gateway = gateway(&clock, &server, config(&server), &["openai"]);
    (server, gateway)
}

/// The claim of alice's key `n` on `service`, as the control plane writes it.
fn claim(n: u32, service: &str) -> Value {
    json!({
        "claim_id": format!("cl_{n}"), "namespace": "alice", "service": service,
        "public_key": identity("alice", n).public_key().to_string(), "subject": "alice", "agent_id": null,
        "agent_name": null, "approved_at": "2026-02-20T18:04:26Z", "expires_at": null, "scopes": ["*"],
    })
}

fn with(mut claim: Value, field: &str, value: Value) -> Value {
    claim[field] = value;
    claim
}

/// What the index says of alice's key `n` on `service`: the claim's id, or the other outcome's name.
fn lookup_on(gateway: &Gateway, n: u32, service: &str) -> String {
    let agent = identity("alice", n);
    let service = service.parse().unwrap();
    match gateway.index.lookup(agent.namespace(), agent.public_key(), &service, gateway.clock.now()) {
        Lookup::Found(claim) => claim.id.to_string(),
        other => format!("{other:?}"),
    }
}

fn lookup(gateway: &Gateway, n: u32) -> String {
    lookup_on(gateway, n, "openai")
}

#[tokio::test]
async fn claims_of_all_pages_are_found() {
    let (server, gateway) = started();
    server.set_claims((0..1_200).map(|n| claim(n, "openai")).collect());
    gateway.feed.poll().await.unwrap();
    for n in 0..1_200 {
        assert_eq!(lookup(&gateway, n), format!("cl_{n}"));
    }
    assert_eq!(lookup(&gateway, 1_200), "Absent");
    let state = gateway.index.state(START);
    assert_eq!((state.ready, state.entries, state.age), (true, 1_200, Some(Duration::ZERO)));
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        targets,
        ["", "&offset=500", "&offset=1000"]
            .map(|more| format!("/v1/namespaces/claims?service=openai&limit=500{more}"))
    );
}

#[tokio::test]
async fn each_service_has_its_own_claims() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    server.set_claims(vec![claim(1, "openai"), claim(2, "slack")]);
    let gateway = gateway(&clock, &server, config(&server), &["openai", "slack"]);
    gateway.feed.poll().await.unwrap();
    assert_eq!(lookup_on(&gateway, 1, "openai"), "cl_1");
    assert_eq!(lookup_on(&gateway, 1, "slack"), "Absent");
    assert_eq!(lookup_on(&gateway, 2, "slack"), "cl_2");
    assert_eq!(lookup_on(&gateway, 2, "gitlab"), "Unavailable", "nobody asked for its claims");
}

#[tokio::test]
async fn pages_go_by_the_last_claim_where_the_control_plane_names_it() {
    let (server, gateway) = started();
    server.page_by_claim();
    server.set_claims((1_000..2_200).map(|n| claim(n, "openai")).collect());
    server.behave(Behaviour::Restless);
    gateway.feed.poll().await.unwrap();
    assert_eq!(gateway.index.state(START).entries, 1_200);
    let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    let page = |more| format!("/v1/namespaces/claims?service=openai&limit=500{more}");
    // Claims that change meanwhile are no reason to read again: no page skips a claim that stands all the time.
    assert_eq!(targets, ["", "&after=cl_1499", "&after=cl_1999"].map(page));
}

#[tokio::test]
async fn base_path_of_the_control_plane_is_kept_and_signed() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    server.set_claims(vec![claim(1, "openai")]);
    let mut config = config(&server);
    config.url = server.url().join("base/").unwrap();
    let gateway = gateway(&clock, &server, config, &["openai"]);
    gateway.feed.poll().await.unwrap();
    assert_eq!(lookup(&gateway, 1), "cl_1");
    assert!(server.seen()[0].target.starts_with("/base/v1/namespaces/claims?"));
}

#[tokio::test]
async fn last_good_reading_serves_while_the_server_is_down_until_it_is_too_old() {
    let (mut server, gateway) = started();
    server.set_claims(vec![claim(1, "openai")]);
    gateway.feed.poll().await.unwrap();
    let _nobody = server.stop();
    gateway.clock.set(START.plus(STALENESS));
    let fault = gateway.feed.poll().await.unwrap_err();
    assert_eq!(fault.failure(), FeedFailure::Unreachable, "{fault}");
    assert_eq!(lookup(&gateway, 1), "cl_1");
    gateway.clock.set(START.plus(STALENESS + Duration::from_millis(1)));
    assert_eq!(lookup(&gateway, 1), "Unavailable");
}

#[tokio::test]
async fn feed_that_was_never_received_is_unavailable() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    let (nobody, mut config) = (Nobody::there(), config(&server));
    config.url = nobody.url();
    let gateway = gateway(&clock, &server, config, &["openai"]);
    assert_eq!(lookup(&gateway, 1), "Unavailable");
    gateway.feed.poll().await.unwrap_err();
    assert_eq!(lookup(&gateway, 1), "Unavailable");
    assert!(!gateway.index.state(START).ready);
}

#[tokio::test]
async fn control_plane_in_trouble_is_unavailable_and_not_failed() {
    let (server, gateway) = started();
    for status in [500, 503, 429] {
        server.behave(Behaviour::Refuse(status));
        gateway.feed.poll().await.unwrap_err();
        assert_eq!(lookup(&gateway, 1), "Unavailable", "{status}");
    }
}

#[tokio::test]
async fn refused_key_is_a_failed_lookup_only_when_nothing_good_is_left() {
    let (server, gateway) = started();
    server.set_claims(vec![claim(1, "openai")]);
    gateway.feed.poll().await.unwrap();
    server.accept_key("sk_live_second");
    let fault = gateway.feed.poll().await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the control plane answers 401 Unauthorized KEY_INVALID for the claims of openai"
    );
    assert_eq!(lookup(&gateway, 1), "cl_1");
    gateway.clock.set(START.plus(STALENESS * 2));
    assert_eq!(lookup(&gateway, 1), "Failed");
}

#[tokio::test]
async fn rotated_key_is_used_from_the_next_poll_on() {
    let (server, gateway) = started();
    server.set_claims(vec![claim(1, "openai")]);
    server.accept_key("sk_live_second");
    gateway.feed.poll().await.unwrap_err();
    assert_eq!(lookup(&gateway, 1), "Failed");
    server.write_key("sk_live_second\n");
    gateway.feed.poll().await.unwrap();
    assert_eq!(lookup(&gateway, 1), "cl_1");
}

#[tokio::test]
async fn withdrawn_claim_is_absent_after_the_next_poll() {
    let (server, gateway) = started();
    server.set_claims(vec![claim(1, "openai"), claim(2, "openai")]);
    gateway.feed.poll().await.unwrap();
    server.set_claims(vec![claim(2, "openai")]);
    gateway.feed.poll().await.unwrap();
    assert_eq!(lookup(&gateway, 1), "Absent");
    assert_eq!(lookup(&gateway, 2), "cl_2");
}

#[tokio::test]
async fn claims_that_cannot_be_understood_are_left_out_and_the_rest_is_taken() {
    let (server, gateway) = started();
    server.set_claims(vec![
        claim(1, "openai"),
        with(claim(2, "openai"), "public_key", json!("ed25519:AAAA")),
        with(claim(3, "openai"), "scopes", json!(["*", "read everything"])),
        with(claim(4, "openai"), "expires_at", json!(1_900_000_000)),
        with(claim(5, "openai"), "status", json!("revoked")),
        claim(6, "openai"),
    ]);
    gateway.feed.poll().await.unwrap();
    for (n, outcome) in [(1, "cl_1"), (2, "Absent"), (3, "Absent"), (4, "Absent"), (5, "Absent"), (6, "cl_6")]
    {
        assert_eq!(lookup(&gateway, n), outcome, "claim {n}");
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let (server, gateway) = started();
    let elsewhere = Server::start(&gateway.clock);
    elsewhere.set_claims(vec![claim(1, "openai")]);
    server.behave(Behaviour::Redirect(elsewhere.address()));
    let fault = gateway.feed.poll().await.unwrap_err();
    assert!(matches!(fault, FeedFault::Status { status, .. } if status.as_u16() == 307), "{fault}");
    assert!(elsewhere.seen().is_empty());
    assert_eq!(lookup(&gateway, 1), "Failed");
}

#[tokio::test]
async fn answer_that_is_too_large_or_no_page_is_refused() {
    let (server, gateway) = started();
    server.behave(Behaviour::Spaces(16 * 1024 * 1024 + 1));
    let fault = gateway.feed.poll().await.unwrap_err();
    assert_eq!(fault.to_string(), "the control plane's answer has more than 16777216 bytes");
    for text in ["", "<html>", "[]", "{}", r#"{"claims":[]}"#, r#"{"claims":[],"pagination":{}}"#] {
        server.behave(Behaviour::Text(text));
        let fault = gateway.feed.poll().await.unwrap_err();
        assert!(matches!(fault, FeedFault::Unreadable { .. }), "{text}: {fault}");
        assert_eq!(fault.failure(), FeedFailure::Refused);
    }
    assert_eq!(lookup(&gateway, 1), "Failed");
}

#[tokio::test]
async fn pages_that_do_not_go_on_are_refused() {
    let (server, gateway) = started();
    server.behave(Behaviour::Stuck);
    let fault = gateway.feed.poll().await.unwrap_err();
    assert!(matches!(fault, FeedFault::NoProgress { offset: 0, .. }), "{fault}");
    server.set_claims((0..500).map(|n| claim(n, "openai")).collect());
    let fault = gateway.feed.poll().await.unwrap_err();
    assert!(matches!(fault, FeedFault::NoProgress { offset: 500, .. }), "{fault}");
    assert_eq!(gateway.index.state(START).entries, 0);
}

#[tokio::test]
async fn claims_that_change_between_pages_are_read_once_more() {
    let (server, gateway) = started();
    server.set_claims((0..501).map(|n| claim(n, "openai")).collect());
    server.behave(Behaviour::Restless);
    gateway.feed.poll().await.unwrap();
    assert_eq!(server.seen().len(), 4);
    assert_eq!(gateway.index.state(START).entries, 501);
    assert_eq!(lookup(&gateway, 500), "cl_500");
}

#[tokio::test]
async fn refused_service_keeps_its_last_good_reading_and_the_others_go_on() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    server.set_claims(vec![claim(1, "openai"), claim(2, "slack")]);
    let gateway = gateway(&clock, &server, config(&server), &["slack", "openai"]);
    gateway.feed.poll().await.unwrap();
    server.set_claims(vec![claim(3, "openai")]);
    server.behave(Behaviour::Only("openai"));
    clock.set(START.plus(STALENESS));
    let fault = gateway.feed.poll().await.unwrap_err();
    assert_eq!(gateway.index.state(clock.now()).problem, Some(fault.to_string()));
    assert_eq!(
        (lookup_on(&gateway, 1, "openai"), lookup_on(&gateway, 3, "openai")),
        ("Absent".into(), "cl_3".into())
    );
    assert_eq!(lookup_on(&gateway, 2, "slack"), "cl_2");
    clock.set(START.plus(STALENESS * 2));
    assert_eq!(lookup_on(&gateway, 3, "openai"), "cl_3");
    assert_eq!(lookup_on(&gateway, 2, "slack"), "Failed", "each service is as stale as it is");
}

#[tokio::test]
async fn claims_of_a_service_that_is_deleted_are_absent_after_the_next_poll() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    server.set_claims(vec![claim(1, "openai"), claim(2, "slack")]);
    let gateway = gateway(&clock, &server, config(&server), &["openai", "slack"]);
    gateway.feed.poll().await.unwrap();
    server.delete("slack");
    let fault = gateway.feed.poll().await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the control plane answers 404 Not Found SERVICE_NOT_FOUND for the claims of slack"
    );
    assert_eq!(lookup_on(&gateway, 1, "openai"), "cl_1");
    assert_eq!(lookup_on(&gateway, 2, "slack"), "Absent");
    assert_eq!(gateway.index.state(START).problem, Some(fault.to_string()));
}

#[tokio::test]
async fn other_answers_of_404_withdraw_nothing() {
    let (server, gateway) = started();
    server.set_claims(vec![claim(1, "openai")]);
    gateway.feed.poll().await.unwrap();
    server.behave(Behaviour::Refuse(404));
    gateway.feed.poll().await.unwrap_err();
    assert_eq!(lookup(&gateway, 1), "cl_1");
}

#[tokio::test]
async fn more_claims_than_allowed_are_refused_whole() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    let mut config = config(&server);
    config.max_entries = Some(2);
    let gateway = gateway(&clock, &server, config, &["openai", "slack"]);
    server.set_claims(vec![claim(1, "openai"), claim(2, "slack")]);
    gateway.feed.poll().await.unwrap();
    server.set_claims(vec![claim(1, "openai"), claim(2, "slack"), claim(3, "slack")]);
    let fault = gateway.feed.poll().await.unwrap_err();
    assert!(matches!(fault, FeedFault::TooMany { most: 2 }), "{fault}");
    assert_eq!(lookup_on(&gateway, 3, "slack"), "Absent");
}

#[test]
fn url_that_is_no_base_url_is_refused_without_showing_its_password() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    for url in ["http://u:canary@127.0.0.1/", "http://127.0.0.1/?a=canary", "ftp://127.0.0.1/", "data:canary"]
    {
        let mut config = config(&server);
        config.url = url.parse().unwrap();
        let index = Arc::new(ClaimsIndex::new(vec![], None));
        let signer = Arc::new(identity("gateway", 0));
        let services = Services::fixed(Vec::new(), server.key_source());
        let metrics = Arc::new(Metrics::new());
        let fault = Feed::new(config, services, index, signer, clock.clone(), metrics).unwrap_err();
        assert!(fault.to_string().starts_with("the control plane's URL must be"), "{fault}");
        assert!(url.starts_with("data:") || !fault.to_string().contains("canary"), "{fault}");
    }
}

#[tokio::test]
async fn running_feed_finds_a_control_plane_that_comes_up_later_and_stops_when_told() {
    let clock = Clock::fixed(START);
    let server = Server::start(&clock);
    let (nobody, mut config) = (Nobody::there(), config(&server));
    config.url = nobody.url();
    let Gateway { index, feed, .. } = gateway(&clock, &server, config, &["openai"]);
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(feed.run(stopping));
    let late = Server::listen(&clock, nobody);
    late.set_claims(vec![claim(1, "openai")]);
    let received = async {
        while index.state(START).entries == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), received).await.unwrap();
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
    assert!(index.state(START).ready);
}
