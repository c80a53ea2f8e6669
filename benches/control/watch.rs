//! Signed requests at a fixed rate, and which of them were allowed.
//!
//! At each gateway one thread asks as the agent that is decided about, and another as agents that are approved all
//! along: these must be allowed, whatever is decided about the first.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sigilum::clock::Clock;
use sigilum::protocol::{Identity, Unsigned, sign};

use super::client::Client;
use super::fill::SERVICE;
use super::samples;

/// As it is signed, wherever a request is sent.
const AUTHORITY: &str = "gateway.test";
/// Until a decision is seen.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many refusals in a row, of requests begun after the answer, show a revocation.
const REFUSALS: usize = 10;

/// One request of the agent that is decided about.
#[derive(Clone, Copy)]
struct Seen {
    begun: Instant,
    allowed: bool,
}

/// The load on all gateways; it ends when dropped.
pub struct Load {
    watches: Vec<Arc<Watch>>,
}

/// One gateway under load.
pub struct Watch {
    gateway: SocketAddr,
    agent: AtomicU32,
    seen: Mutex<Vec<Seen>>,
    /// All requests.
    sent: AtomicU64,
    fault: Mutex<Option<String>>,
    ends: AtomicBool,
}

impl Load {
    /// Begins: every `gap` a request at each gateway as the agent that is [aimed at](Load::aim), and another one as one
    /// of `others` approved agents, if there are any.
    pub fn start(gateways: &[SocketAddr], others: u32, gap: Duration) -> Self {
        let watches = gateways.iter().map(|gateway| {
            let watch = Arc::new(Watch {
                gateway: *gateway,
                agent: AtomicU32::new(0),
                seen: Mutex::default(),
                sent: AtomicU64::new(0),
                fault: Mutex::default(),
                ends: AtomicBool::new(false),
            });
            let watched = Arc::clone(&watch);
            std::thread::spawn(move || watched.decided_about(gap));
            if others > 0 {
                let watched = Arc::clone(&watch);
                std::thread::spawn(move || watched.others(others, gap));
            }
            watch
        });
        Self { watches: watches.collect() }
    }

    pub fn gateways(&self) -> &[Arc<Watch>] {
        &self.watches
    }

    /// From now on it is about this agent.
    pub fn aim(&self, agent: u32) {
        for watch in &self.watches {
            let mut seen = watch.seen.lock().unwrap();
            watch.agent.store(agent, Ordering::SeqCst);
            seen.clear();
        }
    }

    /// Requests so far, at all gateways.
    pub fn sent(&self) -> u64 {
        self.watches.iter().map(|watch| watch.sent.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.watches.iter().for_each(|watch| watch.ends.store(true, Ordering::SeqCst));
    }
}

impl Watch {
    /// When the first allowed request began. It waits for it, and for an allowed one that began after `answered`.
    pub fn first_allowed(&self, answered: Instant) -> Result<Instant, String> {
        self.until("the approved agent is allowed", |seen| {
            let last = seen.last().is_some_and(|last| last.allowed && last.begun > answered);
            seen.iter().find(|one| one.allowed).filter(|_| last).map(|first| first.begun)
        })
    }

    /// When the last allowed request began. It waits for refusals.
    pub fn last_allowed(&self, answered: Instant) -> Result<Instant, String> {
        self.until("the revoked agent is refused", |seen| {
            let after = seen.iter().rev().take_while(|one| !one.allowed && one.begun > answered);
            let last = seen.iter().rev().find(|one| one.allowed);
            last.filter(|_| after.count() >= REFUSALS).map(|last| last.begun)
        })
    }

    fn until<T>(&self, what: &str, found: impl Fn(&[Seen]) -> Option<T>) -> Result<T, String> {
        let began = Instant::now();
        loop {
            if let Some(fault) = self.fault.lock().unwrap().take() {
                return Err(fault);
            }
            if let Some(found) = found(&self.seen.lock().unwrap()) {
                return Ok(found);
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{}: 30 s passed before {what}", self.gateway));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn decided_about(&self, gap: Duration) {
        let mut client = Client::new(self.gateway);
        let (mut agent, mut identity) = (0, samples::identity(0));
        self.every(gap, || {
            let wanted = self.agent.load(Ordering::SeqCst);
            if wanted != agent {
                (agent, identity) = (wanted, samples::identity(wanted));
            }
            let request = signed(&identity);
            let begun = Instant::now();
            let allowed = match client.ask(&request) {
                Ok(200) => true,
                Ok(403) => false,
                Ok(_) => return Err(format!("an answer that is neither 200 nor 403:\n{}", client.text())),
                // It may have been let in and cut then: the revocation has to answer for it.
                Err(_) => true,
            };
            let mut seen = self.seen.lock().unwrap();
            if self.agent.load(Ordering::SeqCst) == agent {
                seen.push(Seen { begun, allowed });
            }
            Ok(())
        });
    }

    fn others(&self, others: u32, gap: Duration) {
        let identities: Vec<Identity> = (0..others).map(samples::identity).collect();
        let mut client = Client::new(self.gateway);
        let mut next = 0;
        self.every(gap, || {
            next = (next + 1) % identities.len();
            match client.ask(&signed(&identities[next])) {
                Ok(200) => Ok(()),
                Ok(_) => Err(format!("an approved agent was refused:\n{}", client.text())),
                Err(error) => Err(format!("an approved agent's connection broke: {error}")),
            }
        });
    }

    /// Does `ask` at this pace; one that is late is followed at once by the next.
    fn every(&self, gap: Duration, mut ask: impl FnMut() -> Result<(), String>) {
        let mut due = Instant::now();
        while !self.ends.load(Ordering::SeqCst) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += gap;
            self.sent.fetch_add(1, Ordering::Relaxed);
            if let Err(sentence) = ask() {
                *self.fault.lock().unwrap() = Some(format!("{}: {sentence}", self.gateway));
                return;
            }
        }
    }
}

/// A signed GET, with a nonce of its own.
fn signed(identity: &Identity) -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let target = format!("/proxy/{SERVICE}/v1/items?limit=20");
    let now = Clock::system().now();
    let nonce =
        format!("{:x}-{:012x}-9e21-0a8c64d7b913", now.millis(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let unsigned = Unsigned {
        method: "GET",
        uri: &format!("http://{AUTHORITY}{target}"),
        content_digest: None,
        subject: None,
        agent_id: None,
        nonce: &nonce,
        now,
    };
    let mut head =
        format!("GET {target} HTTP/1.1\r\nhost: {AUTHORITY}\r\naccept: */*\r\nuser-agent: bench/1.0\r\n");
    for (name, value) in sign(identity, &unsigned).unwrap() {
        let _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap());
    }
    head.push_str("\r\n");
    head.into_bytes()
}
