//! What is decided at one replica holds at the gateways of all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::scene::{Fleet, Outcome, TARGET, load};
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::raw::RawClient;
use crate::support::upstream::{Recorded, Reply, StreamHand, Upstream};

/// Requests of a gateway's load, in the order of their sending.
type Load = Mutex<Vec<(Instant, Outcome)>>;

/// An upstream that answers, streams events to `/events`, and echoes in a tunnel at `/socket`.
fn upstream() -> (Upstream, StreamHand) {
    let (hand, events) = Reply::streamed("text/event-stream");
    let events = Mutex::new(events);
    let script = move |request: &Recorded| match request.target.as_str() {
        "/events" => events.lock().unwrap().clone(),
        "/socket" => Reply::Upgrade,
        _ => Reply::ok("here"),
    };
    (Upstream::start(script), hand)
}

/// An event stream of this agent through the first gateway, from which one event was read.
fn events(fleet: &Fleet, agent: &Agent, hand: &StreamHand) -> RawClient {
    let gateway = &fleet.gateways[0];
    let mut client = gateway.connect();
    client.send(agent.get(gateway.url(), "/proxy/openai/events").to_bytes());
    assert_eq!(client.head().unwrap().status, 200);
    hand.send("data: 1\n\n");
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    client
}

/// A WebSocket of this agent through the second gateway, through which bytes went both ways.
fn tunnel(fleet: &Fleet, agent: &Agent) -> RawClient {
    let gateway = &fleet.gateways[1];
    let draft = agent
        .request("GET", gateway.url(), "/proxy/openai/socket")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut client = gateway.connect();
    client.send(draft.sign().to_bytes());
    assert_eq!(client.head().unwrap().status, 101);
    client.send("ping");
    assert_eq!(client.exactly(4), b"ping");
    client
}

fn count(load: &Load, wanted: Outcome) -> usize {
    load.lock().unwrap().iter().filter(|(_, outcome)| *outcome == wanted).count()
}

/// Nothing is allowed behind the first refusal; prints how long after the answer to the revocation the last allowed
/// request was sent.
fn assert_refused_for_good(gateway: usize, load: &Load, revoked: Instant) {
    let load = load.lock().unwrap();
    let first = load.iter().position(|(_, outcome)| *outcome == Outcome::Refused).expect("a refusal");
    let after = load[first..].iter().filter(|(_, outcome)| *outcome == Outcome::Allowed).count();
    assert_eq!(after, 0, "gateway {gateway} allowed requests after it had refused one");
    let (last, _) = load[..first].iter().rfind(|(_, outcome)| *outcome == Outcome::Allowed).unwrap();
    let millis = |of: Instant| match of.checked_duration_since(revoked) {
        Some(after) => format!("{:.1} ms after", after.as_secs_f64() * 1e3),
        None => format!("{:.1} ms before", (revoked - of).as_secs_f64() * 1e3),
    };
    let span = load[load.len() - 1].0 - load[0].0;
    println!(
        "gateway {gateway}: {:.0} requests a second; the last allowed one was sent {}, the first refused one {} the answer \
         to the revocation",
        (load.len() - 1) as f64 / span.as_secs_f64(),
        millis(*last),
        millis(load[first].0),
    );
}

#[test]
fn approval_at_one_replica_opens_both_gateways_and_revocation_at_the_other_closes_both() {
    let (upstream, hand) = upstream();
    let fleet = Fleet::before(&upstream);
    let (agent, claim) = fleet.approved();
    let (mut events, mut tunnel) = (events(&fleet, &agent, &hand), tunnel(&fleet, &agent));
    let (loads, stop): ([Load; 2], _) = (Default::default(), AtomicBool::new(false));
    let revoked = std::thread::scope(|scope| {
        for (gateway, made) in fleet.gateways.iter().zip(&loads) {
            let (agent, stop) = (&agent, &stop);
            scope.spawn(move || {
                load(gateway, agent, stop, |sent, outcome| made.lock().unwrap().push((sent, outcome)));
            });
        }
        let both = |wanted, least| {
            let enough = || loads.iter().all(|load| count(load, wanted) >= least).then_some(());
            eventually(&format!("{least} requests {wanted:?} at each gateway"), enough);
        };
        // Lets the threads go where a wait is in vain.
        let stopping = StopAtEnd(&stop);
        both(Outcome::Allowed, 50);
        fleet.decide(1, &claim, "revoke");
        let revoked = Instant::now();
        both(Outcome::Refused, 50);
        drop(stopping);
        revoked
    });
    for (number, load) in loads.iter().enumerate() {
        assert_refused_for_good(number + 1, load, revoked);
    }
    assert_eq!(events.chunk(), None, "the stream of events goes on");
    tunnel.assert_closed();
    for gateway in 0..2 {
        assert_eq!(fleet.get(gateway, &agent).code(), "AUTH_CLAIM_REQUIRED");
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn gateway_whose_replica_is_killed_serves_on_and_catches_up_when_it_is_back() {
    let upstream = Upstream::answering(Reply::ok("here"));
    let mut fleet = Fleet::before(&upstream);
    let (first, first_claim) = fleet.approved();
    let (second, _) = fleet.approved();
    fleet.replicas[0].kill();
    for _ in 0..20 {
        assert_eq!(fleet.get(0, &first).status, 200);
    }
    // Meanwhile the other replica approves one and revokes another.
    let third = Agent::new(&fleet.alice.namespace);
    let third_claim = fleet.asked_for(1, &third);
    fleet.decide(1, &third_claim, "approve");
    fleet.decide(1, &first_claim, "revoke");
    fleet.wait_until(1, &third, 200);
    fleet.wait_until(1, &first, 403);
    let statuses = |fleet: &Fleet| [&first, &second, &third].map(|agent| fleet.get(0, agent).status);
    assert_eq!(
        statuses(&fleet),
        [200, 200, 403],
        "what a gateway knows when its replica goes is what it goes by"
    );

    fleet.replicas[0].start();
    eventually("the gateway to catch up", || (statuses(&fleet) == [403, 200, 200]).then_some(()));
    // And it hears of what comes.
    fleet.decide(1, &third_claim, "revoke");
    fleet.wait_until(0, &third, 403);
    assert_eq!(fleet.get(0, &second).status, 200);
    assert!(fleet.gateways.iter().all(|gateway| !gateway.output().contains("panicked")));
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.target == TARGET.trim_start_matches("/proxy/openai"))
    );
}
