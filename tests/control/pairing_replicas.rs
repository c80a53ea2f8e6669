//! Several replicas on one PostgreSQL: the owner's request comes to one, the gateway's socket is at another.

use std::sync::Barrier;

use serde_json::{Value, json};

use super::pairing_scene::{
    Session, Socket, command, knock, paired, revoke, start, status, target, wait_for, wrong,
};
use crate::support::agent::Agent;
use crate::support::control::{Control, Owner};
use crate::support::eventually;
use crate::support::postgres::Postgres;

struct Two {
    near: Control,
    far: Control,
    owner: Owner,
    agent: Agent,
    postgres: Postgres,
}

fn two() -> Two {
    let postgres = Postgres::start();
    let near = Control::over(postgres.database(), |_| {});
    let far = Control::over(postgres.database(), |_| {});
    let owner = near.owner("acme");
    Two { near, far, owner, agent: Agent::new("acme"), postgres }
}

impl Two {
    /// A gateway whose socket is at the far one.
    fn paired(&self) -> (Session, Socket) {
        paired(&self.far, &self.owner, &self.agent)
    }

    fn ask(&self, session: &Session) -> crate::support::raw::Response {
        command(&self.near, &self.owner, session, "GET", "/health", Value::Null)
    }

    /// How many commands lie in the database.
    fn rows(&self) -> i64 {
        self.postgres.number("SELECT COUNT(*) FROM pairing_commands")
    }
}

#[test]
fn command_reaches_the_replica_that_holds_the_socket_and_leaves_no_row() {
    let two = two();
    let (session, mut socket) = two.paired();
    let large = "a".repeat(900_000);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| two.ask(&session));
        let received = socket.command();
        assert_eq!(received["path"], "/health");
        socket.reply(&received, 207, &large);
        let answer = asked.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["status"], 207);
        assert_eq!(answer.json()["body"], large);
    });
    assert_eq!(two.rows(), 0);
}

#[test]
fn silent_gateway_at_another_replica_is_a_timeout_that_leaves_no_row() {
    let two = two();
    let (session, _socket) = two.paired();
    let sent = json!({ "session_id": session.id, "method": "GET", "path": "/health", "timeout_ms": 1000 });
    let answer = two.near.as_owner(&two.owner, "POST", "/v1/gateway/pairing/command", Some(&sent));
    assert_eq!((answer.status, answer.code()), (504, "GATEWAY_TIMEOUT".to_owned()));
    assert_eq!(two.rows(), 0);
}

#[test]
fn socket_lost_at_another_replica_is_told_at_once() {
    let two = two();
    let (session, mut socket) = two.paired();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| two.ask(&session));
        socket.command();
        drop(socket);
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.code()), (503, "GATEWAY_NOT_CONNECTED".to_owned()));
    });
}

#[test]
fn revocation_at_one_replica_cuts_the_socket_at_the_other() {
    let two = two();
    let (session, mut socket) = two.paired();
    assert_eq!(revoke(&two.near, &two.owner, &session), 204);
    assert_eq!(socket.hear(), Err(4001));
}

#[test]
fn new_connection_at_one_replica_cuts_the_old_one_at_the_other() {
    let two = two();
    let (session, mut old) = two.paired();
    let mut new = Socket::open(&two.near, &two.agent, &session, None);
    assert_eq!(old.hear(), Err(4002));
    std::thread::scope(|scope| {
        let far = scope.spawn(|| {
            eventually("an answer by way of the new socket", || {
                let answer = command(&two.far, &two.owner, &session, "GET", "/health", Value::Null);
                (answer.status == 200).then_some(())
            });
        });
        let received = new.command();
        new.reply(&received, 200, "{}");
        far.join().unwrap();
    });
}

#[test]
fn stopped_replica_closes_its_sockets_and_they_open_elsewhere() {
    let mut two = two();
    let (session, mut socket) = two.paired();
    two.far.stop();
    assert_eq!(socket.hear(), Err(1001));
    wait_for(&two.near, &two.owner, &session, false);
    let _socket = Socket::open(&two.near, &two.agent, &session, None);
    wait_for(&two.near, &two.owner, &session, true);
}

#[test]
fn tries_at_all_replicas_at_once_are_counted_together() {
    let two = two();
    let session = start(&two.near, &two.owner);
    let target = target(&session, Some(&wrong(&session.code)));
    let together = Barrier::new(10);
    let codes: Vec<String> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..10)
            .map(|nth| {
                let (replica, together, target) =
                    (if nth % 2 == 0 { &two.near } else { &two.far }, &together, &target);
                let agent = &two.agent;
                scope.spawn(move || {
                    let bytes = knock(replica, agent, target).to_bytes();
                    together.wait();
                    replica.send("GET", bytes).code()
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let wrong = codes.iter().filter(|code| *code == "PAIRING_CODE_INVALID").count();
    assert_eq!((wrong, codes.len()), (4, 10), "{codes:?}");
    assert!(codes.iter().all(|code| code == "PAIRING_CODE_INVALID" || code == "PAIRING_TOO_MANY_TRIES"));
    assert_eq!(status(&two.far, &two.owner, &session)["state"], "locked");
}
