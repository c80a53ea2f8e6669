//! A gateway that is paired by way of one replica, and its owner, who asks another.

use serde_json::{Value, json};

use super::scene::Fleet;
use crate::gateway::admin_scene::ask;
use crate::support::control::Owner;
use crate::support::eventually;
use crate::support::raw::Response;
use crate::support::replica::Replica;
use crate::support::upstream::{Recorded, Reply, Upstream};

impl Fleet {
    /// Pairs the first gateway by way of the first replica; gives the session.
    fn paired(&self) -> String {
        let started =
            self.replicas[0].as_owner(&self.acme, 201, "POST", "/v1/gateway/pairing/start", Some(&json!({})));
        let session = json!({
            "session_id": started["session_id"], "pair_code": started["pair_code"], "namespace": "acme",
            "api_url": self.replicas[0].url(),
        });
        let admin = self.gateways[0].admin_address();
        let begun = ask(admin, "POST", "/api/admin/pairing", Some(&session));
        assert_eq!(begun.status, 202, "{}", begun.text());
        self.wait_for_state("connected");
        started["session_id"].as_str().unwrap().to_owned()
    }

    fn wait_for_state(&self, state: &str) {
        eventually(&format!("a pairing that is {state}"), || {
            let view = self.gateways[0].admin_get("/api/admin/pairing").json();
            (view["state"] == state).then_some(())
        });
    }

    /// A command that the owner sends by way of the other replica, and the gateway must do.
    fn done(&self, session: &str, method: &str, path: &str, body: &Value) -> Value {
        let answer = command(&self.replicas[1], &self.acme, session, method, path, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert!([200, 201].contains(&answer["status"].as_u64().unwrap()), "{answer}");
        serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
    }

    /// Panics unless nobody was there to answer; no command is left in the database.
    fn assert_nobody(&self, answer: &Response) {
        let told = (answer.status, answer.code());
        let nobody = [(503, "GATEWAY_NOT_CONNECTED".to_owned()), (504, "GATEWAY_TIMEOUT".to_owned())];
        assert!(nobody.contains(&told), "{told:?}");
        assert_eq!(self.postgres.number("SELECT COUNT(*) FROM pairing_commands"), 0);
    }
}

fn command(
    replica: &Replica,
    owner: &Owner,
    session: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Response {
    let sent = json!({ "session_id": session, "method": method, "path": path, "body": body,
                       "timeout_ms": 2_000 });
    replica.answer_to(owner, "POST", "/v1/gateway/pairing/command", Some(&sent))
}

#[test]
fn command_by_way_of_the_other_replica_arrives_until_its_own_is_killed_and_when_it_is_back() {
    let upstream = Upstream::start(|request: &Recorded| match request.target.as_str() {
        "/held" => Reply::Hang,
        _ => Reply::ok("here"),
    });
    let mut fleet = Fleet::before(&upstream);
    let session = fleet.paired();
    let made = json!({ "id": "local", "base_url": upstream.url(), "auth_mode": "none" });
    fleet.done(&session, "POST", "/api/admin/connections", &made);
    let test = "/api/admin/connections/local/test";
    assert_eq!(fleet.done(&session, "POST", test, &json!({ "test_path": "/" }))["status"], "pass");

    // One command is under way while the replica that holds the socket is killed.
    let Fleet { replicas: [holder, other], acme, .. } = &mut fleet;
    let (other, acme) = (&*other, &*acme);
    let lost = std::thread::scope(|scope| {
        let held = json!({ "test_path": "/held" });
        let session = &session;
        let asked = scope.spawn(move || command(other, acme, session, "POST", test, &held));
        eventually("the command at the upstream", || {
            upstream.requests().iter().any(|request| request.target == "/held").then_some(())
        });
        holder.kill();
        asked.join().unwrap()
    });
    fleet.assert_nobody(&lost);
    // For as long as the lease of the socket runs the gateway is still taken for connected.
    let next = command(&fleet.replicas[1], &fleet.acme, &session, "GET", "/health", &Value::Null);
    fleet.assert_nobody(&next);
    fleet.wait_for_state("waiting");

    fleet.replicas[0].start();
    fleet.wait_for_state("connected");
    let tested = eventually("a command that is executed", || {
        let body = json!({ "test_path": "/back" });
        let answer = command(&fleet.replicas[1], &fleet.acme, &session, "POST", test, &body);
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(tested["status"], 200, "{tested}");
    assert!(upstream.requests().iter().any(|request| request.target == "/back"));
}
