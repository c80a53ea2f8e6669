//! Deliveries of webhooks, from an owner's decision to a receiver's socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use sigilum::clock::{Clock, UnixTime};
use sigilum::control::domain::webhook::{KEPT_FOR, WebhookRecord};

use crate::support::agent::Agent;
use crate::support::control::{Control, Owner, Service};
use crate::support::eventually;
use crate::support::postgres::Postgres;
use crate::support::upstream::{Recorded, Reply, Upstream};

const SECRET: &str = "whsec-canary-0123456789";
const AUTH_VALUE: &str = "Bearer auth-canary-0123456789";
const EVERYTHING: [&str; 5] =
    ["request.submitted", "request.approved", "request.rejected", "request.revoked", "request.expired"];

/// A control plane with the owner `acme` of the service `openai`, and the owner `alice` of agents.
struct Stage {
    control: Control,
    acme: Owner,
    alice: Owner,
    service: Service,
}

impl Stage {
    fn new(control: Control) -> Self {
        let (acme, alice) = (control.owner("acme"), control.owner("alice"));
        let service = control.service(&acme, "openai");
        Self { control, acme, alice, service }
    }

    fn webhook_with(&self, body: Value) -> String {
        let path = format!("/v1/services/{}/webhooks", self.service.id);
        let made = self.control.as_owner(&self.acme, "POST", &path, Some(&body));
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    fn webhook(&self, url: &str) -> String {
        self.webhook_with(json!({ "url": url, "secret": SECRET, "events": EVERYTHING }))
    }

    fn shown(&self, webhook: &str) -> WebhookRecord {
        let plane = self.control.plane().clone();
        let (owner, service) = (self.acme.namespace.clone(), self.service.id.clone());
        let found = self.control.call(async move {
            plane.store.webhooks(&owner.parse().unwrap(), &service.parse().unwrap()).await.unwrap().unwrap()
        });
        found.into_iter().find(|found| found.id.as_str() == webhook).unwrap()
    }

    /// Waits until the webhook is shown as `probe` wants it.
    fn shown_when(&self, webhook: &str, what: &str, probe: impl Fn(&WebhookRecord) -> bool) -> WebhookRecord {
        eventually(what, || Some(self.shown(webhook)).filter(|shown| probe(shown)))
    }

    fn claims(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.control.submit(&Agent::new("alice"), &self.service)).collect()
    }
}

/// `sha256=` and the HMAC of these bytes under the secret, worked out here.
fn signature(bytes: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(bytes);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn body(request: &Recorded) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn event(request: &Recorded) -> String {
    request.header("x-sigilum-event").unwrap().to_owned()
}

fn delivery(request: &Recorded) -> String {
    request.header("x-sigilum-delivery").unwrap().to_owned()
}

#[test]
fn delivery_carries_the_claim_and_signatures_that_the_secret_proves() {
    let receiver = Upstream::answering(Reply::ok(""));
    let stage = Stage::new(Control::start());
    let webhook = stage.webhook_with(json!({
        "url": format!("{}/hooks/sigilum?from=control", receiver.url()), "secret": SECRET,
        "events": ["request.approved"], "auth_header": "Authorization", "auth_value": AUTH_VALUE,
    }));
    let agent = Agent::new("alice");
    let claim = stage.control.approved(&stage.alice, &agent, &stage.service);
    let request = receiver.wait_for(1).remove(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hooks/sigilum?from=control"));
    assert_eq!(request.all("content-type"), ["application/json"]);
    assert_eq!(request.all("authorization"), [AUTH_VALUE]);
    assert_eq!(event(&request), "request.approved");
    assert_eq!(request.all("x-sigilum-webhook-id"), [webhook.as_str()]);
    assert_eq!(request.all("x-sigilum-signature"), [signature(&request.body)]);
    let timestamp = request.header("x-sigilum-timestamp").unwrap();
    let stamped = [timestamp.as_bytes(), b".", &request.body].concat();
    assert_eq!(request.all("x-sigilum-signature-v1"), [signature(&stamped)]);
    let age = Clock::system().now().since(UnixTime::from_secs(timestamp.parse().unwrap()));
    assert!(age < Duration::from_secs(300), "{age:?}");
    let body = body(&request);
    assert_eq!(body["delivery_id"], delivery(&request));
    assert_eq!(body["event"], "request.approved");
    assert_eq!(body["webhook_id"], webhook);
    let told = &body["claim"];
    assert_eq!(told["claim_id"], claim);
    assert_eq!(told["namespace"], "alice");
    assert_eq!(told["public_key"], agent.public_key());
    assert_eq!(told["service"], "openai");
    assert_eq!(told["status"], "approved");
    assert_eq!(told["agent_ip"], "203.0.113.7");
    assert!(told["approved_at"].is_string() && told["expires_at"].is_null(), "{told}");
}

#[test]
fn every_event_that_was_asked_for_comes_and_no_other() {
    let receiver = Upstream::answering(Reply::status(204, ""));
    let stage = Stage::new(Control::start());
    let some = ["request.rejected", "request.revoked"];
    stage.webhook_with(json!({ "url": receiver.url(), "secret": SECRET, "events": some }));
    let claims = stage.claims(2);
    stage.control.decide(&stage.alice, &claims[0], "approve");
    stage.control.decide(&stage.alice, &claims[0], "revoke");
    stage.control.decide(&stage.alice, &claims[1], "reject");
    let mut events: Vec<String> = receiver.wait_for(2).iter().map(event).collect();
    events.sort();
    assert_eq!(events, some);
}

#[test]
fn deliveries_of_a_claim_come_in_order_though_the_first_one_fails_at_first() {
    let failures = Mutex::new(3);
    let receiver = Upstream::start(move |_| {
        let mut left = failures.lock().unwrap();
        *left = i32::max(*left - 1, -1);
        if *left >= 0 { Reply::status(503, "not now") } else { Reply::ok("") }
    });
    let stage = Stage::new(Control::start());
    let webhook = stage.webhook(&receiver.url());
    let claim = stage.claims(1).remove(0);
    stage.control.decide(&stage.alice, &claim, "approve");
    stage.control.decide(&stage.alice, &claim, "revoke");
    let requests = receiver.wait_for(6);
    let events: Vec<String> = requests.iter().map(event).collect();
    let [submitted, approved, revoked] = ["request.submitted", "request.approved", "request.revoked"];
    assert_eq!(events, [submitted, submitted, submitted, submitted, approved, revoked]);
    // The same delivery at every attempt, and the same body.
    assert!(requests[..4].iter().all(|request| delivery(request) == delivery(&requests[0])));
    assert!(requests[..4].iter().all(|request| request.body == requests[0].body));
    stage.shown_when(&webhook, "the failures to be forgotten", |shown| shown.failures == 0);
}

#[test]
fn redirect_is_a_failure_and_nobody_goes_there() {
    let elsewhere = Upstream::answering(Reply::ok(""));
    let receiver = Upstream::answering(Reply::redirect(&elsewhere.url()));
    let stage = Stage::new(Control::start());
    let webhook = stage.webhook(&receiver.url());
    stage.claims(1);
    stage.shown_when(&webhook, "a failure", |shown| shown.failures > 0);
    receiver.wait_for(1);
    elsewhere.assert_zero_bytes();
}

#[test]
fn receiver_that_fails_five_times_is_left_alone_then_tried_once_and_then_gets_all() {
    let well = std::sync::Arc::new(Mutex::new(false));
    let told = well.clone();
    let receiver =
        Upstream::start(move |_| if *told.lock().unwrap() { Reply::ok("") } else { Reply::status(500, "") });
    let clock = Clock::fixed(UnixTime::from_secs(Clock::system().now().secs()));
    let stage = Stage::new(Control::by(clock.clone()));
    let webhook = stage.webhook(&receiver.url());
    // One after the other, so that no attempt is under way when the pause begins.
    for failures in 1..=5 {
        stage.claims(1);
        stage.shown_when(&webhook, "one more failure", |shown| shown.failures == failures);
    }
    let until = stage.shown(&webhook).paused_until.unwrap();
    assert_eq!(until.since(clock.now()), Duration::from_secs(30));
    let claims = stage.claims(3);
    assert_eq!(receiver.requests().len(), 5);
    // The probe fails, and the pause doubles: of eight that are due one alone was tried.
    clock.set(until);
    let shown = stage.shown_when(&webhook, "the probe", |shown| shown.failures == 6);
    assert_eq!(shown.paused_until.unwrap().since(until), Duration::from_secs(60));
    assert_eq!(receiver.wait_for(6).len(), 6);
    *well.lock().unwrap() = true;
    clock.set(shown.paused_until.unwrap());
    let requests = receiver.wait_for(6 + 8);
    let taken: BTreeMap<String, usize> = requests[6..].iter().fold(BTreeMap::new(), |mut taken, request| {
        *taken.entry(body(request)["claim"]["claim_id"].as_str().unwrap().to_owned()).or_default() += 1;
        taken
    });
    assert!(taken.len() == 8 && claims.iter().all(|claim| taken[claim] == 1), "{taken:?}");
    let shown = stage.shown_when(&webhook, "the failures to be forgotten", |shown| shown.failures == 0);
    assert_eq!((shown.paused_until, shown.given_up), (None, 0));
}

#[test]
fn delivery_that_fails_a_day_after_its_change_is_given_up() {
    let receiver = Upstream::answering(Reply::status(410, ""));
    let clock = Clock::fixed(UnixTime::from_secs(Clock::system().now().secs()));
    let stage = Stage::new(Control::by(clock.clone()));
    let webhook = stage.webhook(&receiver.url());
    stage.claims(1);
    let shown = stage.shown_when(&webhook, "a failure", |shown| shown.failures == 1);
    assert_eq!(shown.given_up, 0);
    clock.set(clock.now().plus(KEPT_FOR));
    // The claim expires after a day too, and what tells of it is young.
    stage.shown_when(&webhook, "the delivery to be given up", |shown| shown.given_up == 1);
    let metrics = stage.control.plane().metrics.render();
    assert!(
        metrics.contains("sigilum_control_webhook_deliveries_total{outcome=\"given_up\"} 1\n"),
        "{metrics}"
    );
}

#[test]
fn receiver_that_never_answers_does_not_hold_up_the_others() {
    let (_hand, silent) = Reply::streamed("text/plain");
    let silent = Upstream::answering(silent);
    let receiver = Upstream::answering(Reply::ok(""));
    let stage = Stage::new(Control::start());
    stage.webhook(&silent.url());
    stage.webhook(&receiver.url());
    stage.claims(12);
    receiver.wait_for(12);
    // Four at once, and no more.
    assert_eq!(silent.wait_for(4).len(), 4);
}

#[test]
fn what_was_committed_before_a_stop_is_delivered_by_the_next_process() {
    let receiver = Upstream::answering(Reply::ok(""));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sigilum.db");
    let claim = {
        let mut stage = Stage::new(Control::at(&file));
        stage.webhook(&receiver.url());
        let agent = Agent::new("alice");
        // The control plane's tasks stop; what is committed from here on is delivered by nobody.
        stage.control.stop();
        let plane = stage.control.plane().clone();
        let service = stage.service.id.clone();
        let key = agent.public_key();
        stage.control.call(async move {
            let submission = sigilum::control::domain::claim::Submission {
                namespace: "alice".parse().unwrap(),
                public_key: key.parse().unwrap(),
                service_id: service.parse().unwrap(),
                subject: "alice".to_owned(),
                agent_id: None,
                agent_name: None,
                agent_ip: "203.0.113.7".parse().unwrap(),
                scopes: Vec::new(),
                ttl_seconds: None,
                nonce: "nonce-of-a-submission".to_owned(),
            };
            match plane.store.submit_claim(submission, plane.clock.now()).await.unwrap().unwrap() {
                sigilum::control::domain::claim::Submitted::Made(claim) => claim.id.to_string(),
                other => panic!("{other:?}"),
            }
        })
    };
    receiver.assert_zero_bytes();
    let _next = Control::at(&file);
    let request = receiver.wait_for(1).remove(0);
    assert_eq!(body(&request)["claim"]["claim_id"], claim);
}

#[test]
fn next_process_takes_over_at_once_what_was_being_attempted() {
    let attempts = Mutex::new(0);
    let receiver = Upstream::start(move |_| {
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        if *attempts <= 4 { Reply::Hang } else { Reply::ok("") }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sigilum.db");
    {
        let stage = Stage::new(Control::at(&file));
        stage.webhook(&receiver.url());
        stage.claims(6);
        receiver.wait_for(4);
        // Without a stop, as a process that is killed: the four that are under way stay leased, and fill the webhook's room.
    }
    let _next = Control::at(&file);
    let requests = receiver.wait_for(4 + 6);
    let ids: BTreeSet<String> = requests.iter().map(delivery).collect();
    assert_eq!((requests.len(), ids.len()), (10, 6));
}

#[test]
fn two_replicas_share_the_work_and_send_nothing_twice() {
    let receiver = Upstream::answering(Reply::ok(""));
    let postgres = Postgres::start();
    let stage = Stage::new(Control::over(postgres.database(), |_| {}));
    let _replica = Control::over(postgres.database(), |_| {});
    stage.webhook(&receiver.url());
    stage.webhook(&receiver.url());
    for claim in stage.claims(20) {
        stage.control.decide(&stage.alice, &claim, "approve");
    }
    let requests = receiver.wait_for(80);
    // Each claim's two at each webhook, in their order.
    let mut told: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for request in &requests {
        let webhook = request.header("x-sigilum-webhook-id").unwrap().to_owned();
        let claim = body(request)["claim"]["claim_id"].as_str().unwrap().to_owned();
        told.entry((webhook, claim)).or_default().push(event(request));
    }
    assert_eq!(told.len(), 40);
    assert!(told.values().all(|events| events == &["request.submitted", "request.approved"]), "{told:?}");
    let ids: BTreeSet<String> = requests.iter().map(delivery).collect();
    assert_eq!(ids.len(), 80);
}

#[test]
fn webhook_to_a_private_address_is_blocked_at_delivery_where_these_are_no_longer_allowed() {
    let receiver = Upstream::answering(Reply::ok(""));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sigilum.db");
    let (webhook, service) = {
        let mut stage = Stage::new(Control::at(&file));
        let webhook = stage.webhook(&receiver.url());
        stage.control.stop();
        (webhook, stage.service.clone())
    };
    let database = sigilum::control::store::DatabaseUrl::Sqlite(file);
    let control = Control::over(database, |config| config.webhooks_to_private = false);
    let (acme, alice) = (control.owner("acme"), control.owner("alice"));
    // What is signed before it serves is refused, so this waits until it does.
    assert_eq!(control.as_owner(&acme, "GET", "/v1/services", None).status, 200);
    let stage = Stage { control, acme, alice, service };
    stage.claims(1);
    stage.shown_when(&webhook, "a failure", |shown| shown.failures > 0);
    receiver.assert_zero_bytes();
    let metrics = stage.control.plane().metrics.render();
    assert!(metrics.contains("{outcome=\"blocked\"} "), "{metrics}");
    assert!(!metrics.contains("{outcome=\"blocked\"} 0\n"), "{metrics}");
}

#[test]
fn secrets_stand_in_no_file_of_the_database_and_in_no_answer() {
    let receiver = Upstream::answering(Reply::ok(""));
    let mut stage = Stage::new(Control::start());
    stage.webhook_with(json!({
        "url": receiver.url(), "secret": SECRET, "events": EVERYTHING,
        "auth_header": "X-Api-Key", "auth_value": AUTH_VALUE,
    }));
    let path = format!("/v1/services/{}/webhooks", stage.service.id);
    let shown = stage.control.as_owner(&stage.acme, "GET", &path, None).text();
    stage.claims(2);
    receiver.wait_for(2);
    assert!(!shown.contains("canary"), "{shown}");
    for when in ["running", "stopped"] {
        for entry in std::fs::read_dir(stage.control.directory()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(6).any(|window| window == b"canary");
            assert!(!found, "a secret stands in {} ({when})", path.display());
        }
        stage.control.stop();
    }
}
