//! Tells the control plane, in batches, until it has taken them or refuses them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{mpsc, watch};

use super::Event;
use crate::claims::{CallFault, ControlPlane};
use crate::names::ConnectionId;
use crate::telemetry::{Metrics, UsageFate};

/// Events of one call at the most, and the bytes of its body: the control plane takes a MiB.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 512 * 1024;
/// How long the first event of a batch waits for others.
const GATHER: Duration = Duration::from_secs(2);
/// The first pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Services that are known to be refused, at the most.
const REMEMBERED: usize = 1_000;
/// For what is left at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// Empties the queue of a [`super::Usage`].
///
/// It holds the events of one gathering, in as many batches as there are service API keys; all others wait in the
/// queue. A batch that cannot be told is kept and told again, with the same ids, so that none counts twice. One that is
/// refused is told once more service by service, so that a service that is refused takes no other's events with it.
pub struct Reporter {
    control_plane: ControlPlane,
    events: mpsc::Receiver<Event>,
    gathered: Vec<Event>,
    waiting: VecDeque<Batch>,
    health: Health,
    metrics: Arc<Metrics>,
}

/// Events that one service API key can tell, as JSON, each with its service.
#[derive(Default)]
struct Batch {
    events: Vec<(ConnectionId, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    fn has_room(&self, bytes: usize) -> bool {
        self.events.is_empty() || self.bytes + bytes <= BATCH_BYTES
    }

    fn add(&mut self, service: ConnectionId, event: Vec<u8>) {
        self.bytes += event.len() + 1;
        self.events.push((service, event));
    }

    fn body(&self) -> Vec<u8> {
        let events: Vec<&[u8]> = self.events.iter().map(|(_, event)| event.as_slice()).collect();
        [&b"{\"events\":["[..], &events.join(&b","[..]), b"]}"].concat()
    }

    fn is_of_several(&self) -> bool {
        self.events.windows(2).any(|two| matches!(two, [(one, _), (other, _)] if one != other))
    }

    /// A batch for each service.
    fn by_service(self) -> Vec<Self> {
        let mut batches: BTreeMap<ConnectionId, Self> = BTreeMap::new();
        for (service, event) in self.events {
            batches.entry(service.clone()).or_default().add(service, event);
        }
        batches.into_values().collect()
    }
}

impl Reporter {
    pub(super) fn new(
        control_plane: ControlPlane,
        events: mpsc::Receiver<Event>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            control_plane,
            events,
            gathered: Vec::new(),
            waiting: VecDeque::new(),
            health: Health::default(),
            metrics,
        }
    }

    /// Reports until `stop` holds `true` or its sender is gone, which should be when no request runs any more; then tells
    /// what is left, within 2 s, and drops what cannot be told by then.
    pub async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut stopping = stop.clone();
        let time_over = async {
            let _ = stopping.wait_for(|stop| *stop).await;
            tokio::time::sleep(FLUSH).await;
        };
        tokio::select! {
            () = self.work(stop) => {}
            () = time_over => {}
        }
        self.events.close();
        let mut left =
            self.gathered.len() + self.waiting.iter().map(|batch| batch.events.len()).sum::<usize>();
        while self.events.try_recv().is_ok() {
            left += 1;
        }
        if left > 0 {
            tracing::warn!(events = left, "usage was not told to the control plane before the end");
            self.metrics.usage_events(UsageFate::Dropped, left);
        }
    }

    /// Reports until it is to stop, and then what is left. A call that is under way at the stop is not begun anew.
    async fn work(&mut self, mut stop: watch::Receiver<bool>) {
        let stopped = |stop: &watch::Receiver<bool>| *stop.borrow() || stop.has_changed().is_err();
        while !stopped(&stop) {
            tokio::select! {
                more = self.gather() => if !more { break },
                _ = stop.wait_for(|stop| *stop) => break,
            }
            self.sort().await;
            while !self.waiting.is_empty() && !stopped(&stop) {
                if self.tell().await == Told::Later {
                    tokio::select! {
                        () = tokio::time::sleep(jittered(self.health.pause())) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                }
            }
        }
        self.flush().await;
    }

    /// Waits for events, and for a while for more; `false` where none will come. Stopped in its middle it loses none.
    async fn gather(&mut self) -> bool {
        if self.gathered.is_empty() && self.events.recv_many(&mut self.gathered, BATCH).await == 0 {
            return false;
        }
        let more = async {
            while self.gathered.len() < BATCH {
                let room = BATCH - self.gathered.len();
                if self.events.recv_many(&mut self.gathered, room).await == 0 {
                    return;
                }
            }
        };
        // An error says that the time is over.
        let _ = tokio::time::timeout(GATHER, more).await;
        true
    }

    /// Makes batches of what was gathered, each in the order of its coming. Stopped in its middle it loses none.
    async fn sort(&mut self) {
        let keys = self.keys().await;
        let mut batches: Vec<(HeaderValue, Batch)> = Vec::new();
        let (mut without_key, mut without_id) = (0, 0);
        for event in self.gathered.drain(..) {
            let Some(Some(key)) = keys.get(&event.claim.service) else {
                without_key += 1;
                continue;
            };
            let Some(id) = event_id() else {
                without_id += 1;
                continue;
            };
            let (service, event) = (event.claim.service.clone(), event.json(&id));
            // Of the batches of a key the last one alone may have room.
            match batches.iter_mut().rfind(|(other, _)| other == key) {
                Some((_, batch)) if batch.has_room(event.len()) => batch.add(service, event),
                _ => {
                    let mut batch = Batch::default();
                    batch.add(service, event);
                    batches.push((key.clone(), batch));
                }
            }
        }
        self.metrics.usage_events(UsageFate::Refused, without_key);
        self.metrics.usage_events(UsageFate::Dropped, without_id);
        self.waiting.extend(batches.into_iter().map(|(_, batch)| batch));
    }

    /// The keys of the services of what was gathered; `None` where one cannot be read.
    async fn keys(&mut self) -> HashMap<ConnectionId, Option<HeaderValue>> {
        let mut keys = HashMap::new();
        for event in &self.gathered {
            let service = &event.claim.service;
            if keys.contains_key(service) {
                continue;
            }
            let key = self.control_plane.bearer(service).await;
            let key = key.map_err(|fault| self.health.refused(service, &fault.to_string()));
            keys.insert(service.clone(), key.ok());
        }
        keys
    }

    /// Tells the first batch that waits.
    async fn tell(&mut self) -> Told {
        let Some(batch) = self.waiting.front() else { return Told::Done };
        let told = tell(&self.control_plane, batch).await;
        if let Err(Untold::Trouble(cause)) = &told {
            self.health.trouble(cause);
            return Told::Later;
        }
        let Some(batch) = self.waiting.pop_front() else { return Told::Done };
        let fate = match told {
            Err(_) if batch.is_of_several() => {
                batch.by_service().into_iter().rev().for_each(|batch| self.waiting.push_front(batch));
                return Told::Done;
            }
            Err(Untold::Trouble(cause) | Untold::Refused(cause)) => {
                batch.events.iter().for_each(|(service, _)| self.health.refused(service, &cause));
                UsageFate::Refused
            }
            Ok(()) => {
                batch.events.iter().for_each(|(service, _)| self.health.taken(service));
                UsageFate::Sent
            }
        };
        self.metrics.usage_events(fate, batch.events.len());
        Told::Done
    }

    /// Tells what is left, each batch once.
    async fn flush(&mut self) {
        loop {
            if self.gathered.is_empty() {
                while self.gathered.len() < BATCH {
                    let Ok(event) = self.events.try_recv() else { break };
                    self.gathered.push(event);
                }
            }
            self.sort().await;
            if self.waiting.is_empty() {
                return;
            }
            while !self.waiting.is_empty() {
                if self.tell().await == Told::Later {
                    return;
                }
            }
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

#[derive(PartialEq, Eq)]
enum Told {
    /// Nothing more is to be done with the batch.
    Done,
    /// It is to be told again.
    Later,
}

/// Why the control plane has not taken a batch.
enum Untold {
    /// It may take it later.
    Trouble(String),
    /// It will not.
    Refused(String),
}

async fn tell(control_plane: &ControlPlane, batch: &Batch) -> Result<(), Untold> {
    let fault = |fault: CallFault| match fault {
        CallFault::Unreachable { .. } | CallFault::Random => Untold::Trouble(fault.to_string()),
        _ => Untold::Refused(fault.to_string()),
    };
    // There is no batch of nothing.
    let Some((service, _)) = batch.events.first() else { return Ok(()) };
    let bearer = control_plane.bearer(service).await.map_err(fault)?;
    let answer = control_plane.post("/v1/usage/events", batch.body(), &[], &bearer).await;
    let answer = answer.map_err(fault)?;
    let status = answer.status;
    if status.is_success() {
        Ok(())
    } else if answer.is_passing() {
        Err(Untold::Trouble(format!("it answers {status}")))
    } else {
        Err(Untold::Refused(format!("it answers {status}")))
    }
}

/// How it went lately; logs when that changes. What is refused is so service by service: others are taken meanwhile.
#[derive(Default)]
struct Health {
    /// In a row.
    failures: u32,
    /// Nothing was taken since it could not be told.
    troubled: bool,
    refused: HashSet<ConnectionId>,
}

impl Health {
    fn taken(&mut self, service: &ConnectionId) {
        self.failures = 0;
        if self.refused.remove(service) {
            tracing::info!(%service, "the control plane takes a service's usage again");
        }
        if std::mem::take(&mut self.troubled) {
            tracing::info!("the control plane takes usage again");
        }
    }

    fn trouble(&mut self, cause: &str) {
        self.failures = self.failures.saturating_add(1);
        if !std::mem::replace(&mut self.troubled, true) {
            tracing::warn!(%cause, "usage cannot be told to the control plane yet; it is kept for a while");
        }
    }

    fn refused(&mut self, service: &ConnectionId, cause: &str) {
        self.failures = 0;
        if self.refused.contains(service) {
            return;
        }
        if self.refused.len() >= REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(service.clone());
        tracing::warn!(%service, %cause, "usage cannot be told to the control plane; it is dropped");
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1);
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE)
    }
}

/// A pause from half of `pause` to all of it, so that many gateways do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0_u8; 4];
    if getrandom::fill(&mut random).is_err() {
        return pause;
    }
    pause.mul_f64(0.5 + 0.5 * f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX))
}

/// `ue_` and 32 hexadecimal digits; `None` if there is no randomness.
fn event_id() -> Option<String> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).ok()?;
    Some(format!("ue_{:032x}", u128::from_be_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut health = Health::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            health.trouble("no answer");
            pauses.push(health.pause().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        health.taken(&"openai".parse().unwrap());
        health.trouble("no answer");
        assert_eq!(health.pause(), FIRST_PAUSE);
    }

    #[test]
    fn batch_holds_no_more_bytes_than_it_may_and_falls_apart_by_service() {
        let (openai, slack): (ConnectionId, ConnectionId) =
            ("openai".parse().unwrap(), "slack".parse().unwrap());
        let mut batch = Batch::default();
        assert!(batch.has_room(BATCH_BYTES + 1), "one event always has");
        batch.add(openai.clone(), b"{}".to_vec());
        assert!(!batch.is_of_several() && !batch.has_room(BATCH_BYTES));
        batch.add(slack, b"[]".to_vec());
        batch.add(openai, b"1".to_vec());
        assert_eq!(batch.body(), br#"{"events":[{},[],1]}"#);
        assert!(batch.is_of_several() && batch.body().len() <= batch.bytes + 16);
        let bodies: Vec<Vec<u8>> = batch.by_service().iter().map(Batch::body).collect();
        assert_eq!(bodies, [&br#"{"events":[{},1]}"#[..], br#"{"events":[[]]}"#]);
    }

    #[test]
    fn jitter_never_lengthens_a_pause_nor_halves_it() {
        for _ in 0..1_000 {
            let pause = jittered(LONGEST_PAUSE);
            assert!((LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(&pause), "{pause:?}");
        }
    }
}
