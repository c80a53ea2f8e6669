//! Pairing sessions, their sockets and their commands, as the database keeps them.

use std::time::Duration;

use sigilum::clock::UnixTime;
use sigilum::control::domain::pairing::{
    MOST_PAIRINGS, MOST_TRIES, PairedGateway, PairingFault, PairingRecord,
};
use sigilum::control::store::Store;
use sigilum::names::{RequestId, SessionId};
use sigilum::protocol::pairing::code_digest;

use super::store_scene::*;
use crate::support::random;

const CODE: &str = "K7M2XQ9D";
const WRONG: &str = "K7M2XQ9E";

fn bytes() -> [u8; 16] {
    let random = random();
    std::array::from_fn(|at| random[at])
}

/// A session of `alice`, or none where too many stand.
async fn try_start(store: &Store, now: UnixTime) -> Option<SessionId> {
    let id = SessionId::from_random(bytes());
    let started = store.start_pairing(&alice(), &id, &code_digest(&id, CODE), MINUTE, now).await.unwrap();
    started.ok().map(|record| record.id)
}

async fn start(store: &Store) -> SessionId {
    try_start(store, START).await.expect("a session")
}

fn gateway() -> PairedGateway {
    PairedGateway {
        gateway_id: "did:sigilum:gateway".to_owned(),
        namespace: acme(),
        public_key: key(),
        sealing_key: None,
    }
}

async fn admit(
    store: &Store,
    id: &SessionId,
    code: Option<&str>,
    gateway: &PairedGateway,
) -> Result<(), PairingFault> {
    store.admit_gateway(&alice(), id, code, gateway, START).await.unwrap()
}

async fn record(store: &Store, id: &SessionId, now: UnixTime) -> PairingRecord {
    store.pairing(&alice(), id, now).await.unwrap().expect("the session is there")
}

/// A session whose socket is open until [`MINUTE`], under the mark `a`.
async fn connected(store: &Store) -> SessionId {
    let id = start(store).await;
    admit(store, &id, Some(CODE), &gateway()).await.unwrap();
    assert!(store.attach_socket(&id, "a", START.plus(MINUTE), START).await.unwrap());
    id
}

fn request() -> RequestId {
    RequestId::from_random(bytes())
}

async fn queue(store: &Store, session: &SessionId, id: &RequestId, most: usize) -> bool {
    store.queue_command(session, id, "the command", START.plus(MINUTE), most, START).await.unwrap()
}

on_both_databases! {
    async fn sessions_started_at_once_keep_to_the_limit_of_a_hundred(scene: Scene) {
        let most = usize::try_from(MOST_PAIRINGS).unwrap();
        for _ in 5..most {
            start(&scene.store).await;
        }
        let second = scene.database.open().await;
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                tokio::spawn(async move { try_start(&store, START).await.is_some() })
            })
            .collect();
        let mut made = 0;
        for task in tasks {
            made += usize::from(task.await.unwrap());
        }
        assert_eq!(made, 5);
        let all = scene.store.pairings(&alice(), START).await.unwrap();
        assert_eq!(all.len(), most);
        // Room is made by a revocation, by the end of the codes, and by nothing that others have.
        assert!(!scene.store.revoke_pairing(&acme(), &all[0].id, START).await.unwrap());
        assert_eq!(try_start(&scene.store, START).await, None);
        assert!(scene.store.revoke_pairing(&alice(), &all[0].id, START).await.unwrap());
        assert!(try_start(&scene.store, START).await.is_some());
        assert_eq!(try_start(&scene.store, START).await, None);
        assert!(try_start(&scene.store, START.plus(MINUTE)).await.is_some());
    }

    async fn five_wrong_codes_at_once_are_all_counted_and_end_the_session(scene: Scene) {
        let id = start(&scene.store).await;
        let second = scene.database.open().await;
        let tasks: Vec<_> = (0..10)
            .map(|number| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                let id = id.clone();
                tokio::spawn(async move { admit(&store, &id, Some(WRONG), &gateway()).await.unwrap_err() })
            })
            .collect();
        let mut left = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                PairingFault::WrongCode { tries_left } => left.push(tries_left),
                other => assert_eq!(other, PairingFault::TooManyTries),
            }
        }
        left.sort_unstable();
        assert_eq!(left, [1, 2, 3, 4]);
        assert_eq!(record(&scene.store, &id, START).await.tries, MOST_TRIES);
        let right = admit(&scene.store, &id, Some(CODE), &gateway()).await;
        assert_eq!(right, Err(PairingFault::TooManyTries));
    }

    async fn gateway_that_came_with_the_code_comes_back_by_its_key_alone(scene: Scene) {
        let (id, first, second) = (start(&scene.store).await, gateway(), gateway());
        for _ in 1..MOST_TRIES {
            admit(&scene.store, &id, Some(WRONG), &first).await.unwrap_err();
        }
        admit(&scene.store, &id, Some(CODE), &first).await.unwrap();
        assert_eq!(record(&scene.store, &id, START).await.gateway.as_ref(), Some(&first));
        for code in [Some(CODE), Some(WRONG), None] {
            assert_eq!(admit(&scene.store, &id, code, &first).await, Ok(()));
            assert_eq!(admit(&scene.store, &id, code, &second).await, Err(PairingFault::OtherGateway));
        }
        // The code's end is nothing to it, and another namespace has no such session.
        let later = START.plus(DAY);
        let back = scene.store.admit_gateway(&alice(), &id, None, &first, later).await.unwrap();
        assert_eq!(back, Ok(()));
        let elsewhere = scene.store.admit_gateway(&acme(), &id, None, &first, later).await.unwrap();
        assert_eq!(elsewhere, Err(PairingFault::NotFound));
    }

    async fn newer_socket_takes_the_place_of_the_older_which_changes_nothing_any_more(scene: Scene) {
        let (store, id) = (&scene.store, connected(&scene.store).await);
        let later = START.plus(2 * MINUTE);
        assert!(store.attach_socket(&id, "b", START.plus(MINUTE), START).await.unwrap());
        assert_eq!(store.socket_of(&id).await.unwrap().as_deref(), Some("b"));
        assert!(!store.prolong_lease(&id, "a", later, START).await.unwrap());
        store.detach_socket(&id, "a", START).await.unwrap();
        let standing = record(store, &id, START).await;
        assert_eq!((standing.connected, standing.expires_at), (true, START.plus(MINUTE)));
        assert!(store.prolong_lease(&id, "b", later, START.plus(MINUTE)).await.unwrap());
        let standing = record(store, &id, START.plus(MINUTE)).await;
        assert_eq!((standing.connected, standing.expires_at), (true, later));
        assert_eq!(standing.last_connected_at, Some(START.plus(MINUTE)));
        store.detach_socket(&id, "b", later).await.unwrap();
        assert!(!record(store, &id, START.plus(MINUTE)).await.connected);
        assert_eq!(store.socket_of(&id).await.unwrap().as_deref(), Some(""));
    }

    async fn lease_that_is_over_is_no_connection(scene: Scene) {
        let id = connected(&scene.store).await;
        let end = START.plus(MINUTE);
        let before = UnixTime::from_millis(end.millis() - 1);
        assert!(record(&scene.store, &id, before).await.connected);
        assert!(!record(&scene.store, &id, end).await.connected);
        // Its socket may still be there, and prolong it.
        assert!(scene.store.prolong_lease(&id, "a", end.plus(MINUTE), end).await.unwrap());
        assert!(record(&scene.store, &id, end).await.connected);
    }

    async fn revoked_session_takes_no_socket_and_keeps_none(scene: Scene) {
        let (store, id) = (&scene.store, connected(&scene.store).await);
        assert!(store.revoke_pairing(&alice(), &id, START).await.unwrap());
        assert!(!store.revoke_pairing(&alice(), &id, START).await.unwrap());
        assert_eq!(store.socket_of(&id).await.unwrap(), None);
        assert!(!store.prolong_lease(&id, "a", START.plus(HOUR), START).await.unwrap());
        assert!(!store.attach_socket(&id, "b", START.plus(HOUR), START).await.unwrap());
        let over = record(store, &id, START).await;
        assert_eq!((over.connected, over.revoked_at), (false, Some(START)));
        assert_eq!(admit(store, &id, Some(CODE), &gateway()).await, Err(PairingFault::Revoked));
    }

    async fn sessions_that_are_over_are_forgotten_after_a_day_and_others_are_not(scene: Scene) {
        let store = &scene.store;
        let (unused, paired, revoked) = (start(store).await, connected(store).await, connected(store).await);
        assert!(store.revoke_pairing(&alice(), &revoked, START.plus(MINUTE)).await.unwrap());
        let there = async |now: UnixTime| {
            store.prune_pairings(now).await.unwrap();
            let all = store.pairings(&alice(), now).await.unwrap();
            [&unused, &paired, &revoked].map(|id| all.iter().any(|session| session.id == *id))
        };
        // The code ended, and the pairing was revoked, a minute after the start.
        let day = START.plus(DAY).plus(MINUTE);
        assert_eq!(there(day).await, [true, true, true]);
        assert_eq!(there(day.plus(Duration::from_millis(1))).await, [false, true, false]);
    }

    async fn command_is_taken_once_and_its_answer_too(scene: Scene) {
        let (store, session, id) = (&scene.store, connected(&scene.store).await, request());
        assert!(queue(store, &session, &id, 64).await);
        let waiting = store.waiting_commands(START).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!((&waiting[0].session, &waiting[0].request_id), (&session, &id));
        let taken = store.take_command(&id, START).await.unwrap().unwrap();
        assert_eq!((taken.command.as_str(), taken.deadline), ("the command", START.plus(MINUTE)));
        assert_eq!(store.take_command(&id, START).await.unwrap(), None);
        assert_eq!(store.waiting_commands(START).await.unwrap(), []);
        assert_eq!(store.take_answer(&id).await.unwrap(), None);
        store.answer_command(&id, "the answer").await.unwrap();
        store.answer_command(&id, "another").await.unwrap();
        assert_eq!(store.take_answer(&id).await.unwrap().as_deref(), Some("the answer"));
        assert_eq!(store.take_answer(&id).await.unwrap(), None);
        // Nobody waits for it any more.
        store.answer_command(&id, "too late").await.unwrap();
        assert_eq!(store.take_answer(&id).await.unwrap(), None);
    }

    async fn command_that_was_taken_back_or_is_over_is_nobody_s(scene: Scene) {
        let (store, session) = (&scene.store, connected(&scene.store).await);
        let (dropped, over) = (request(), request());
        for id in [&dropped, &over] {
            assert!(queue(store, &session, id, 64).await);
        }
        store.drop_command(&dropped).await.unwrap();
        assert_eq!(store.take_command(&dropped, START).await.unwrap(), None);
        let end = START.plus(MINUTE);
        assert_eq!(store.take_command(&over, end).await.unwrap(), None);
        assert_eq!(store.waiting_commands(end).await.unwrap(), []);
        // The row of a replica that died while it waited.
        store.prune_commands(end).await.unwrap();
        assert_eq!(store.waiting_commands(START).await.unwrap().len(), 1);
        store.prune_commands(end.plus(Duration::from_millis(1))).await.unwrap();
        assert_eq!(store.waiting_commands(START).await.unwrap(), []);
    }

    async fn commands_of_all_replicas_at_once_keep_to_the_limit_of_a_session(scene: Scene) {
        let (session, other) = (connected(&scene.store).await, connected(&scene.store).await);
        let second = scene.database.open().await;
        let tasks: Vec<_> = (0..40)
            .map(|number| {
                let store = if number % 2 == 0 { scene.store.clone() } else { second.clone() };
                let session = session.clone();
                tokio::spawn(async move { queue(&store, &session, &request(), 10).await })
            })
            .collect();
        let mut queued = 0;
        for task in tasks {
            queued += usize::from(task.await.unwrap());
        }
        assert_eq!(queued, 10);
        // Another session has its own room; one that is over gives its own back.
        assert!(queue(&scene.store, &other, &request(), 10).await);
        let waiting = scene.store.waiting_commands(START).await.unwrap();
        let first = waiting.iter().find(|command| command.session == session).unwrap();
        scene.store.drop_command(&first.request_id).await.unwrap();
        assert!(queue(&scene.store, &session, &request(), 10).await);
        assert!(!queue(&scene.store, &session, &request(), 10).await);
        let (end, id) = (START.plus(MINUTE), request());
        let later = scene.store.queue_command(&session, &id, "", end.plus(MINUTE), 10, end).await.unwrap();
        assert!(later);
    }

    async fn command_for_a_session_that_is_not_there_is_not_laid_down(scene: Scene) {
        let nobody = SessionId::from_random(bytes());
        assert!(!queue(&scene.store, &nobody, &request(), 64).await);
        assert_eq!(scene.store.waiting_commands(START).await.unwrap(), []);
    }
}
