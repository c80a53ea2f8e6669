//! The relay: gateways' sockets, and the commands that owners send over them, whichever replica holds the socket.
//!
//! A command for a socket of this process goes straight to it. For another replica's socket it is a row in the database
//! and a signal, and its answer comes back the same way. Signals are a wake-up only: whoever misses one finds the row.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::lock::lock;
use super::store::{Signal, Store, StoreFault};
use crate::clock::{Clock, UnixTime};
use crate::names::{RequestId, SessionId};
use crate::protocol::pairing::{Allowed, Command, Frame, MOST_IN_FLIGHT, Reply};

mod socket;

/// How often a replica that waits for another's answer looks for it without having been told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often a replica looks for commands for its sockets without having been told, and for what is over.
const SWEEP: Duration = Duration::from_secs(2);
/// So many sweeps are made before one that prunes.
const PRUNE_EVERY: u32 = 30;
/// How long a stop waits for the sockets to be closed.
const CLOSING: Duration = Duration::from_secs(2);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayFault {
    /// No socket of this gateway is open, or it was closed before the answer came.
    #[error(
        "the gateway is not connected; see whether it runs, and `sigilum gateway pair --status` on its machine"
    )]
    NotConnected,
    /// No answer came in time. The gateway may have executed the command all the same.
    #[error("the gateway did not answer within {} ms; it may have executed the command all the same", .0.as_millis())]
    TimedOut(Duration),
    /// As many commands of this session are under way as there may be.
    #[error("{MOST_IN_FLIGHT} commands of this session are under way already; wait for one of them")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The sockets of this process, and the commands that wait in it.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    clock: Clock,
    sockets: Mutex<HashMap<SessionId, Arc<Held>>>,
    /// Commands for other replicas' sockets: each wakes its waiter. Bounded by the rows there may be.
    waiting: Mutex<HashMap<RequestId, Arc<tokio::sync::Notify>>>,
    stopping: watch::Sender<bool>,
}

/// One open socket.
#[derive(Debug)]
struct Held {
    session: SessionId,
    /// Tells this socket from the session's others.
    mark: String,
    outgoing: mpsc::Sender<Frame>,
    /// Set once, to why it is to be closed.
    cut: watch::Sender<Option<Cut>>,
    under_way: Mutex<HashMap<RequestId, UnderWay>>,
    /// Whether the database knows of it. Before that, what is told of the session is about others.
    attached: AtomicBool,
}

/// Why a socket is closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Revoked,
    Replaced,
    Stopping,
}

/// A command that was sent over a socket.
#[derive(Debug)]
struct UnderWay {
    deadline: UnixTime,
    asker: Asker,
}

/// Who waits for the answer.
#[derive(Debug)]
enum Asker {
    Here(oneshot::Sender<Reply>),
    OtherReplica,
}

/// What stands in an answer's row.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Reply(Reply),
    NotConnected,
    Busy,
}

impl Relay {
    /// A relay without sockets.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            sockets: Mutex::default(),
            waiting: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Serves this process's sockets to the other replicas until `shutdown` holds `true`; then closes them.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut signals = self.store.signals();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sweeps: u32 = 0;
        loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Ok(signal) => self.hear(signal),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_all().await,
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                _ = sweep.tick() => {
                    self.look_for_commands().await;
                    if sweeps.is_multiple_of(PRUNE_EVERY) {
                        self.prune().await;
                    }
                    sweeps = sweeps.wrapping_add(1);
                }
                () = stopped(&mut shutdown) => break,
            }
        }
        self.stopping.send_replace(true);
        for held in self.all_held() {
            held.cut(Cut::Stopping);
        }
        let closed = async {
            while !lock(&self.sockets).is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(CLOSING, closed).await;
    }

    /// Sends a command to the session's gateway and waits for what comes of it, `within` at most. Whether the session is
    /// the caller's, and stands, was looked at by whoever calls.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn command(
        &self,
        session: &SessionId,
        command: Allowed,
        within: Duration,
    ) -> Result<Reply, RelayFault> {
        let held = lock(&self.sockets).get(session).cloned();
        match held {
            Some(held) => self.command_here(&held, command, within).await,
            None => self.command_elsewhere(session, command, within).await,
        }
    }

    async fn command_here(
        &self,
        held: &Held,
        command: Allowed,
        within: Duration,
    ) -> Result<Reply, RelayFault> {
        let (answer, answered) = oneshot::channel();
        let id = command.request_id().clone();
        let now = self.clock.now();
        held.send(command.into_command(), &id, now.plus(within), Asker::Here(answer), now)?;
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(RelayFault::NotConnected),
            Err(_) => {
                lock(&held.under_way).remove(&id);
                Err(RelayFault::TimedOut(within))
            }
        }
    }

    async fn command_elsewhere(
        &self,
        session: &SessionId,
        command: Allowed,
        within: Duration,
    ) -> Result<Reply, RelayFault> {
        let id = command.request_id().clone();
        let text = serde_json::to_string(&command.into_command()).unwrap_or_default();
        // Before the row is there, so that no answer comes unheard.
        let waiter = Waiter::enter(&self.waiting, &id);
        let now = self.clock.now();
        let queued =
            self.store.queue_command(session, &id, &text, now.plus(within), MOST_IN_FLIGHT, now).await?;
        if !queued {
            return Err(RelayFault::Busy);
        }
        let answered = tokio::time::timeout(within, async {
            loop {
                if let Some(answer) = self.store.take_answer(&id).await? {
                    return Ok::<_, StoreFault>(answer);
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, waiter.bell.notified()).await;
            }
        });
        match answered.await {
            Ok(answer) => match serde_json::from_str(&answer?) {
                Ok(Answer::Reply(reply)) => Ok(reply),
                Ok(Answer::Busy) => Err(RelayFault::Busy),
                Ok(Answer::NotConnected) | Err(_) => Err(RelayFault::NotConnected),
            },
            Err(_) => {
                self.store.drop_command(&id).await?;
                Err(RelayFault::TimedOut(within))
            }
        }
    }

    fn hear(self: &Arc<Self>, signal: Signal) {
        match signal {
            Signal::Command { session, request_id } => {
                let (Ok(session), Ok(request_id)) = (session.parse::<SessionId>(), request_id.parse()) else {
                    return;
                };
                let held = lock(&self.sockets).get(&session).cloned();
                if let Some(held) = held {
                    tokio::spawn(Arc::clone(self).deliver(held, request_id));
                }
            }
            Signal::Response { request_id } => {
                if let Ok(id) = request_id.parse::<RequestId>()
                    && let Some(bell) = lock(&self.waiting).get(&id)
                {
                    bell.notify_one();
                }
            }
            Signal::Access { .. } => {}
            Signal::Session { session, mark } => {
                let Ok(session) = session.parse::<SessionId>() else { return };
                let held = lock(&self.sockets).get(&session).cloned();
                if let Some(held) = held.filter(|held| held.mark != mark) {
                    let this = Arc::clone(self);
                    // Signals come late, so they are not taken at their word.
                    tokio::spawn(async move { this.look_at(&held).await });
                }
            }
        }
    }

    /// Sends a command that another replica laid down.
    async fn deliver(self: Arc<Self>, held: Arc<Held>, id: RequestId) {
        let now = self.clock.now();
        let taken = match self.store.take_command(&id, now).await {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(fault) => return tracing::warn!(%fault, "a pairing command cannot be taken on"),
        };
        let sent = serde_json::from_str::<Command>(&taken.command)
            .map_err(|_| RelayFault::NotConnected)
            .and_then(|command| held.send(command, &id, taken.deadline, Asker::OtherReplica, now));
        match sent {
            Ok(()) => {}
            Err(RelayFault::Busy) => self.answer_elsewhere(&id, &Answer::Busy).await,
            Err(_) => self.answer_elsewhere(&id, &Answer::NotConnected).await,
        }
    }

    async fn answer_elsewhere(&self, id: &RequestId, answer: &Answer) {
        let text = serde_json::to_string(answer).unwrap_or_default();
        if let Err(fault) = self.store.answer_command(id, &text).await {
            tracing::warn!(%fault, "the answer to a pairing command cannot be laid down");
        }
    }

    /// After signals were missed: every socket and every command is looked at anew.
    async fn look_at_all(self: &Arc<Self>) {
        for bell in lock(&self.waiting).values() {
            bell.notify_one();
        }
        for held in self.all_held() {
            self.look_at(&held).await;
        }
        self.look_for_commands().await;
    }

    /// Cuts a socket that is no longer its session's.
    async fn look_at(&self, held: &Held) {
        if !held.attached.load(Ordering::SeqCst) {
            return;
        }
        match self.store.socket_of(&held.session).await {
            Ok(Some(mark)) if mark == held.mark => {}
            Ok(Some(_)) => held.cut(Cut::Replaced),
            Ok(None) => held.cut(Cut::Revoked),
            Err(fault) => tracing::warn!(%fault, "a pairing cannot be looked up"),
        }
    }

    async fn look_for_commands(self: &Arc<Self>) {
        if lock(&self.sockets).is_empty() {
            return;
        }
        let waiting = match self.store.waiting_commands(self.clock.now()).await {
            Ok(waiting) => waiting,
            Err(fault) => return tracing::warn!(%fault, "pairing commands cannot be looked for"),
        };
        for command in waiting {
            let held = lock(&self.sockets).get(&command.session).cloned();
            if let Some(held) = held {
                tokio::spawn(Arc::clone(self).deliver(held, command.request_id));
            }
        }
    }

    async fn prune(&self) {
        let now = self.clock.now();
        let pruned = async {
            self.store.prune_commands(now).await?;
            self.store.prune_pairings(now).await
        };
        if let Err(fault) = pruned.await {
            tracing::warn!(%fault, "pairings that are over cannot be removed");
        }
    }

    fn all_held(&self) -> Vec<Arc<Held>> {
        lock(&self.sockets).values().cloned().collect()
    }
}

impl Held {
    /// Puts a command on its way over this socket.
    fn send(
        &self,
        command: Command,
        id: &RequestId,
        deadline: UnixTime,
        asker: Asker,
        now: UnixTime,
    ) -> Result<(), RelayFault> {
        let mut under_way = lock(&self.under_way);
        under_way.retain(|_, other| other.deadline > now);
        if under_way.len() >= MOST_IN_FLIGHT || under_way.contains_key(id) {
            return Err(RelayFault::Busy);
        }
        self.outgoing.try_send(Frame::Command(command)).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(_) => RelayFault::Busy,
            mpsc::error::TrySendError::Closed(_) => RelayFault::NotConnected,
        })?;
        under_way.insert(id.clone(), UnderWay { deadline, asker });
        Ok(())
    }

    /// The first reason counts.
    fn cut(&self, why: Cut) {
        self.cut.send_if_modified(|cut| {
            let first = cut.is_none();
            cut.get_or_insert(why);
            first
        });
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // A sender that is gone is a stop too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// A command's place among those that wait here, left when it is dropped.
struct Waiter<'a> {
    waiting: &'a Mutex<HashMap<RequestId, Arc<tokio::sync::Notify>>>,
    id: RequestId,
    bell: Arc<tokio::sync::Notify>,
}

impl<'a> Waiter<'a> {
    fn enter(waiting: &'a Mutex<HashMap<RequestId, Arc<tokio::sync::Notify>>>, id: &RequestId) -> Self {
        let bell = Arc::new(tokio::sync::Notify::new());
        lock(waiting).insert(id.clone(), Arc::clone(&bell));
        Self { waiting, id: id.clone(), bell }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.id);
    }
}
