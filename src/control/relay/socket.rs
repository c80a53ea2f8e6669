//! One gateway's socket, from its upgrade to its end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::sync::{mpsc, watch};

use super::{Answer, Asker, Cut, Held, Relay, lock};
use crate::names::SessionId;
use crate::protocol::pairing::{DEAD_AFTER_SECS, Frame, MOST_IN_FLIGHT, PING_EVERY_SECS, Reply};

const DEAD_AFTER: Duration = Duration::from_secs(DEAD_AFTER_SECS);
/// Heartbeats that come faster are answered, and prolong nothing.
const PROLONG_EVERY: Duration = Duration::from_secs(PING_EVERY_SECS / 3);
/// For one message to be taken by the system.
const SEND: Duration = Duration::from_secs(10);
/// Close codes that an application chooses (RFC 6455 §7.4.2).
const REVOKED: u16 = 4001;
const REPLACED: u16 = 4002;

impl Relay {
    /// Serves a socket that was admitted, until either side closes it. It takes the place of the session's other one.
    pub async fn serve(self: Arc<Self>, session: SessionId, mut socket: WebSocket) {
        let Some(mark) = mark() else { return };
        let (outgoing, frames) = mpsc::channel(MOST_IN_FLIGHT);
        let held = Arc::new(Held {
            session: session.clone(),
            mark,
            outgoing,
            cut: watch::Sender::new(None),
            under_way: Mutex::new(HashMap::new()),
            attached: AtomicBool::new(false),
        });
        let older = lock(&self.sockets).insert(session.clone(), Arc::clone(&held));
        if let Some(older) = older {
            older.cut(Cut::Replaced);
        }
        if *self.stopping.borrow() {
            held.cut(Cut::Stopping);
        }
        let now = self.clock.now();
        let attached = self.store.attach_socket(&session, &held.mark, now.plus(DEAD_AFTER), now).await;
        let why = match attached {
            Ok(true) => {
                held.attached.store(true, Ordering::SeqCst);
                // What was told before is looked up, since nobody listened to it.
                self.look_at(&held).await;
                tracing::info!(%session, "a paired gateway is connected");
                self.exchange(&held, frames, &mut socket).await
            }
            Ok(false) => Some(Cut::Revoked),
            Err(fault) => {
                tracing::warn!(%fault, "a paired gateway cannot be let in");
                Some(Cut::Stopping)
            }
        };
        self.leave(&held).await;
        let _ = tokio::time::timeout(SEND, close(&mut socket, why)).await;
        tracing::info!(%session, why = ?why, "a paired gateway is no longer connected");
    }

    /// Carries messages both ways; gives why the socket is to be closed, where it is from this side.
    async fn exchange(
        &self,
        held: &Held,
        mut frames: mpsc::Receiver<Frame>,
        socket: &mut WebSocket,
    ) -> Option<Cut> {
        let mut cut = held.cut.subscribe();
        let mut prolonged = self.clock.instant();
        let mut silence = pin!(tokio::time::sleep(DEAD_AFTER));
        loop {
            let frame = tokio::select! {
                why = reason(&mut cut) => return why,
                () = silence.as_mut() => return None,
                Some(frame) = frames.recv() => Some(frame),
                received = socket.recv() => {
                    silence.set(tokio::time::sleep(DEAD_AFTER));
                    match received {
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                        Some(Ok(message)) => self.received(held, &message, &mut prolonged).await,
                    }
                }
            };
            if let Some(frame) = frame {
                let sent = socket.send(Message::Text(frame.to_json().into()));
                if !matches!(tokio::time::timeout(SEND, sent).await, Ok(Ok(()))) {
                    return None;
                }
            }
        }
    }

    /// Takes one message; gives what is to be said to it.
    async fn received(&self, held: &Held, message: &Message, prolonged: &mut Instant) -> Option<Frame> {
        match frame(message)? {
            Frame::Ping { .. } => {
                let now = self.clock.instant();
                if now.saturating_duration_since(*prolonged) >= PROLONG_EVERY {
                    *prolonged = now;
                    self.prolong(held).await;
                }
                Some(Frame::Pong { ts: self.clock.now().millis() })
            }
            Frame::Response(reply) => {
                self.answered(held, reply).await;
                None
            }
            Frame::Pong { .. } | Frame::Command(_) => None,
        }
    }

    /// A lease that cannot be prolonged for a fault of the database is left to run out; the socket stays.
    async fn prolong(&self, held: &Held) {
        let now = self.clock.now();
        match self.store.prolong_lease(&held.session, &held.mark, now.plus(DEAD_AFTER), now).await {
            Ok(true) => {}
            Ok(false) => held.cut(Cut::Revoked),
            Err(fault) => tracing::warn!(%fault, "a pairing's lease cannot be prolonged"),
        }
    }

    /// Hands a reply to whoever asked. One to a command that this socket was not asked goes nowhere.
    async fn answered(&self, held: &Held, reply: Reply) {
        let Ok(id) = reply.request_id.parse() else { return };
        let asker = lock(&held.under_way).remove(&id).map(|under_way| under_way.asker);
        match asker {
            // Whoever asked may have gone.
            Some(Asker::Here(answer)) => drop(answer.send(reply)),
            Some(Asker::OtherReplica) => self.answer_elsewhere(&id, &Answer::Reply(reply)).await,
            None => {}
        }
    }

    fn forget(&self, held: &Held) {
        let mut sockets = lock(&self.sockets);
        if sockets.get(&held.session).is_some_and(|current| current.mark == held.mark) {
            sockets.remove(&held.session);
        }
    }

    /// Takes the socket out of service: who still waits for an answer is told that none comes.
    async fn leave(&self, held: &Held) {
        self.forget(held);
        let under_way = std::mem::take(&mut *lock(&held.under_way));
        for (id, command) in under_way {
            if matches!(command.asker, Asker::OtherReplica) {
                self.answer_elsewhere(&id, &Answer::NotConnected).await;
            }
        }
        if let Err(fault) = self.store.detach_socket(&held.session, &held.mark, self.clock.now()).await {
            tracing::warn!(%fault, "a pairing's end cannot be noted; its lease runs out");
        }
    }
}

async fn reason(cut: &mut watch::Receiver<Option<Cut>>) -> Option<Cut> {
    cut.wait_for(Option::is_some).await.ok().and_then(|why| *why)
}

/// 16 random bytes as hexadecimal digits.
fn mark() -> Option<String> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(random)))
}

fn frame(message: &Message) -> Option<Frame> {
    match message {
        Message::Text(text) => Frame::from_json(text.as_str()),
        _ => None,
    }
}

async fn close(socket: &mut WebSocket, why: Option<Cut>) -> Result<(), axum::Error> {
    let (code, reason) = match why {
        Some(Cut::Revoked) => (REVOKED, "the pairing was revoked"),
        Some(Cut::Replaced) => (REPLACED, "another connection of this gateway took its place"),
        Some(Cut::Stopping) => (close_code::AWAY, "the control plane is stopping"),
        None => (close_code::NORMAL, ""),
    };
    socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
}
