//! kill -9 of the control plane at any moment: what was answered stands, once, and every webhook tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::vault_kit::below;
use crate::support::PATIENCE;
use crate::support::agent::Agent;
use crate::support::control::{Control, EventStream, Owner, Service, owner_request, service_request};
use crate::support::postgres::Postgres;
use crate::support::raw::Response;
use crate::support::replica::{Estate, Replica, ask};
use crate::support::upstream::{Recorded, Reply, Upstream};

const CLIENTS: usize = 8;
/// The receiver of webhooks refuses some, seldom five in a row, after which it would be left alone for a while.
const REFUSES_ONE_IN: u64 = 20;
/// Of replicas that are killed, what they were delivering waits until its lease runs out, after 30 s.
const LEASE: Duration = Duration::from_secs(30);

/// A delivery as the receiver took it.
#[derive(Clone)]
struct Delivery {
    id: String,
    claim: String,
    event: String,
}

/// What clients did, and what came of it.
struct Campaign {
    addresses: Vec<SocketAddr>,
    alice: Owner,
    acme: Owner,
    service: Service,
    /// Reads the feed.
    gateway: Agent,
    claims: usize,
    acknowledged: AtomicUsize,
    /// Claims that were approved, and whether the answer to that was read.
    approved: Mutex<Vec<(String, bool)>>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    _receiver: Upstream,
}

impl Campaign {
    /// Of so many claims, at these replicas.
    fn before(estate: &Estate, replicas: &mut [Replica], claims: usize) -> Self {
        let (alice, acme) = (estate.owner("alice"), estate.owner("acme"));
        for replica in &mut *replicas {
            replica.start();
        }
        let service = replicas[0].service(&acme, "openai");
        let deliveries = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&deliveries);
        let receiver = Upstream::start(move |request| {
            if below(REFUSES_ONE_IN) == 0 {
                return Reply::status(503, "");
            }
            taken.lock().unwrap().push(delivery(request));
            Reply::ok("")
        });
        let webhook = json!({
            "url": receiver.url(), "secret": "whsec-0123456789abcdef",
            "events": ["request.submitted", "request.approved", "request.rejected", "request.revoked",
                "request.expired"],
        });
        let path = format!("/v1/services/{}/webhooks", service.id);
        replicas[0].as_owner(&acme, 201, "POST", &path, Some(&webhook));
        Self {
            addresses: replicas.iter().map(Replica::address).collect(),
            alice,
            gateway: Agent::new(&acme.namespace),
            acme,
            service,
            claims,
            acknowledged: AtomicUsize::new(0),
            approved: Mutex::default(),
            deliveries,
            _receiver: receiver,
        }
    }

    /// Submits and approves until enough approvals are acknowledged, while `replicas` are killed so many times.
    fn run(&self, replicas: &mut [Replica], kills: usize) -> Kills {
        let killed = std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while self.acknowledged() < self.claims {
                        self.approve_one();
                    }
                });
            }
            self.kill_again_and_again(replicas, kills)
        });
        replicas.iter_mut().for_each(Replica::wait_until_ready);
        killed
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Spread over the run, so that each life of a replica sees work; at any moment of it.
    fn kill_again_and_again(&self, replicas: &mut [Replica], kills: usize) -> Kills {
        let mut killed = Kills::default();
        let share = self.claims / (kills + 1);
        for round in 1..=kills {
            let moment = round * share - usize::try_from(below(share as u64)).unwrap();
            grows_to("acknowledged approvals", moment, PATIENCE, || self.acknowledged());
            std::thread::sleep(Duration::from_micros(below(30_000)));
            let chosen = usize::try_from(below(replicas.len() as u64)).unwrap();
            let replica = &mut replicas[chosen];
            replica.kill();
            replica.spawn();
            killed.working += 1;
            if below(4) == 0 {
                // At any moment of its start.
                std::thread::sleep(Duration::from_micros(below(1_200_000)));
                replica.kill();
                replica.spawn();
                killed.starting += 1;
            }
        }
        killed
    }

    /// One claim: submitted, and approved by its owner, both as often as it takes to be answered.
    fn approve_one(&self) {
        let agent = Agent::new(&self.alice.namespace);
        let (submitted, _) = self.insist(|address| {
            let asked = Control::submission(&agent, &self.service.slug);
            service_request(address, &agent, &self.service.key, "POST", "/v1/claims", Some(&asked)).to_bytes()
        });
        assert!([200, 201].contains(&submitted.status), "{}", submitted.text());
        let claim = submitted.json()["claim_id"].as_str().unwrap().to_owned();
        let path = format!("/v1/claims/{claim}/approve");
        let (approved, unanswered) =
            self.insist(|address| owner_request(address, &self.alice, "POST", &path, None));
        let acknowledged = approved.status == 200;
        if !acknowledged {
            // An earlier attempt did it, and died before it could answer.
            assert!(unanswered && approved.code() == "CLAIM_TRANSITION_INVALID", "{}", approved.text());
        }
        self.approved.lock().unwrap().push((claim, acknowledged));
        self.acknowledged.fetch_add(usize::from(acknowledged), Ordering::SeqCst);
    }

    /// Sends a request, made anew for each attempt, until a replica decides about it; gives the answer, and whether an
    /// attempt before went without one.
    fn insist(&self, request: impl Fn(SocketAddr) -> Vec<u8>) -> (Response, bool) {
        let (end, mut unanswered) = (Instant::now() + PATIENCE, false);
        let begin = usize::try_from(below(self.addresses.len() as u64)).unwrap();
        for address in self.addresses.iter().cycle().skip(begin) {
            match ask(*address, "POST", &request(*address)) {
                Some(answer) if [200, 201, 409].contains(&answer.status) => return (answer, unanswered),
                Some(answer) => {
                    // Too many at once, or signed before the process began: another attempt is what is asked for.
                    let passing = ["RATE_LIMITED", "AUTH_REPLAY_DETECTED"].contains(&answer.code().as_str());
                    assert!(passing, "{}: {}", answer.status, answer.text());
                }
                None => unanswered = true,
            }
            assert!(Instant::now() < end, "no answer in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        unreachable!("there is a replica")
    }

    /// Holds what stands, and what was told, to what was answered.
    fn account(&self, kills: &Kills, most_quiet: Duration) {
        let approved = self.approved.lock().unwrap().clone();
        let claims: BTreeSet<&str> = approved.iter().map(|(claim, _)| claim.as_str()).collect();
        assert_eq!(claims.len(), approved.len(), "a claim's id was given twice");
        grows_to("different deliveries", 2 * claims.len(), most_quiet, || self.told().len());
        for address in &self.addresses {
            self.assert_feed_holds(*address, &claims);
        }
        self.assert_told_of(&claims);
        let unanswered = approved.iter().filter(|(_, acknowledged)| !acknowledged).count();
        let deliveries = self.deliveries.lock().unwrap().len();
        println!(
            "{} kills, {} of them during a start; {} approvals acknowledged and {unanswered} made whose answer was lost; \
             {deliveries} deliveries, {} of them a second time",
            kills.working + kills.starting,
            kills.starting,
            self.acknowledged(),
            deliveries - self.told().len(),
        );
    }

    /// The different deliveries so far.
    fn told(&self) -> BTreeSet<String> {
        self.deliveries.lock().unwrap().iter().map(|delivery| delivery.id.clone()).collect()
    }

    /// The pages hold these claims and no other, and the stream from the beginning approves each once.
    fn assert_feed_holds(&self, address: SocketAddr, claims: &BTreeSet<&str>) {
        let key = &self.service.key;
        let get = |target: &str| service_request(address, &self.gateway, key, "GET", target, None);
        let (mut standing, mut after) = (Vec::new(), String::new());
        loop {
            let target = format!("/v1/namespaces/claims?service=openai&limit=1000{after}");
            let page = ask(address, "GET", &get(&target).to_bytes()).expect("a page").json();
            let ids = page["claims"].as_array().unwrap_or_else(|| panic!("{page}"));
            standing.extend(ids.iter().map(|claim| claim["claim_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["pagination"]["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        standing.sort();
        assert!(
            standing.iter().eq(claims),
            "{} claims stand, {} were approved",
            standing.len(),
            claims.len()
        );

        let mut stream = EventStream::open(
            address,
            &get(&format!(
                "/v1/namespaces/claims/stream?service=openai&since={}",
                self.first_cursor(address)
            )),
        );
        let mut fed = Vec::new();
        while let Some(event) = stream.next().filter(|event| event.name != "heartbeat") {
            assert_eq!(event.name, "claim.approved");
            fed.push(event.data["claim_id"].as_str().unwrap().to_owned());
        }
        fed.sort();
        assert_eq!(fed, standing, "the feed tells of a claim twice, or not at all");
    }

    /// The cursor before every change: a database's name stands before the number.
    fn first_cursor(&self, address: SocketAddr) -> String {
        let target = "/v1/namespaces/claims?service=openai&limit=1";
        let get = service_request(address, &self.gateway, &self.service.key, "GET", target, None);
        let page = ask(address, "GET", &get.to_bytes()).expect("a page").json();
        let cursor = page["cursor"].as_str().unwrap();
        format!("{}-0", cursor.split_once('-').unwrap().0)
    }

    /// Of each claim both changes were told, under one delivery id each, the first before the second; of no other claim
    /// anything was told.
    fn assert_told_of(&self, claims: &BTreeSet<&str>) {
        let deliveries = self.deliveries.lock().unwrap().clone();
        let mut told: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
        for delivery in &deliveries {
            let of_claim = told.entry(&delivery.claim).or_default();
            let this = (delivery.event.as_str(), delivery.id.as_str());
            if !of_claim.contains(&this) {
                of_claim.push(this);
            }
        }
        assert!(told.keys().eq(claims), "{} claims were told of, not {}", told.len(), claims.len());
        for (claim, told) in &told {
            let events: Vec<&str> = told.iter().map(|(event, _)| *event).collect();
            assert_eq!(events, ["request.submitted", "request.approved"], "{claim}: {told:?}");
        }
        let path = format!("/v1/services/{}/webhooks", self.service.id);
        let shown = owner_request(self.addresses[0], &self.acme, "GET", &path, None);
        let shown = ask(self.addresses[0], "GET", &shown).expect("an answer").text();
        assert!(shown.contains("\"dropped\":0") && shown.contains("\"given_up\":0"), "{shown}");
    }
}

#[derive(Default)]
struct Kills {
    working: usize,
    starting: usize,
}

fn delivery(request: &Recorded) -> Delivery {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let delivery = Delivery {
        id: text(&body["delivery_id"]),
        claim: text(&body["claim"]["claim_id"]),
        event: text(&body["event"]),
    };
    assert_eq!(request.header("x-sigilum-delivery"), Some(delivery.id.as_str()));
    delivery
}

/// Waits until the count has come so far; between two steps of it no longer than `most_quiet`.
fn grows_to(what: &str, goal: usize, most_quiet: Duration, count: impl Fn() -> usize) {
    let (mut last, mut since) = (count(), Instant::now());
    while last < goal {
        std::thread::sleep(Duration::from_millis(5));
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < most_quiet, "{last} of {goal} {what}, and no more in {most_quiet:?}");
    }
}

#[test]
fn kills_of_the_one_process_lose_no_acknowledged_approval_and_no_webhook() {
    let estate = Estate::on_sqlite();
    let mut replicas = [estate.replica()];
    let campaign = Campaign::before(&estate, &mut replicas, 1_000);
    let kills = campaign.run(&mut replicas, 16);
    campaign.account(&kills, PATIENCE);
    assert!(!replicas[0].output().contains("panicked"));
}

#[test]
fn kills_of_either_replica_lose_no_acknowledged_approval_and_no_webhook() {
    let postgres = Postgres::start();
    let estate = Estate::on(&postgres);
    let mut replicas = [estate.replica(), estate.replica()];
    let campaign = Campaign::before(&estate, &mut replicas, 1_000);
    let kills = campaign.run(&mut replicas, 16);
    campaign.account(&kills, LEASE + PATIENCE);
    assert!(replicas.iter().all(|replica| !replica.output().contains("panicked")));
}
