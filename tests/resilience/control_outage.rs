//! The control plane is away for an hour, and comes back: what the gateway's agents may do meanwhile and afterwards.
//! Both are processes of their own, by a clock that the test moves.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::agent::Agent;
use crate::support::control::Control;
use crate::support::gateway::{Gateway, Setup};
use crate::support::held_port::HeldPort;
use crate::support::moved_clock::MovedClock;
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Recorded, Reply, StreamHand, Upstream};
use crate::support::{PATIENCE, eventually};

pub(super) const CONNECTION: &str = "openai";
const MINUTE: Duration = Duration::from_secs(60);

/// `sigilum api start` on a port that it comes back to. It is killed when this is dropped.
struct Api {
    process: Child,
    log: PathBuf,
}

impl Api {
    fn start(data: &Path, port: &HeldPort, clock: &MovedClock) -> Self {
        let log = data.join("api.log");
        let process = Command::new(env!("CARGO_BIN_EXE_sigilum"))
            .args(["api", "start"])
            .current_dir(data)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", data)
            .env("SIGILUM_API_DATA_DIR", data)
            .env("SIGILUM_API_LISTEN", port.address().to_string())
            .envs(clock.environment())
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(&log).unwrap())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        clock.remember(process.id());
        let mut api = Self { process, log };
        eventually("the control plane to listen", || {
            assert!(api.process.try_wait().unwrap().is_none(), "the control plane ended");
            TcpStream::connect(port.address()).ok()
        });
        api
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- what the control plane wrote ---\n{}",
                std::fs::read_to_string(&self.log).unwrap()
            );
        }
    }
}

/// What stands before the control plane, and answers 502 to everybody while that is away.
struct Front {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    fn raise(port: &HeldPort) -> Self {
        let listener = TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((wire, _)) => refuse(wire),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Answers one request with 502. Who hangs up meanwhile is none of its concern.
fn refuse(mut wire: TcpStream) {
    let answer = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let mut head = Vec::new();
    wire.set_nonblocking(false).unwrap();
    wire.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && wire.read(&mut byte).is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let _ = wire.write_all(answer.as_bytes());
}

/// A gateway and its control plane, which has approved two agents.
struct Town {
    gateway: Gateway,
    _upstream: Upstream,
    api: Option<Api>,
    data: TempDir,
    port: HeldPort,
    clock: MovedClock,
    alice: Agent,
    robert: Agent,
    claim_of_alice: String,
    to_alice: StreamHand,
    to_robert: StreamHand,
}

impl Town {
    fn start() -> Self {
        let (data, port, clock) = (TempDir::new().unwrap(), HeldPort::new(), MovedClock::new());
        let (alice, robert) = (Agent::new("alice"), Agent::new("robert"));
        let mut control = Control::at(&data.path().join("sigilum.db"));
        let service = control.service(&control.owner("acme"), CONNECTION);
        let claim_of_alice = control.approved(&control.owner("alice"), &alice, &service);
        control.approved(&control.owner("robert"), &robert, &service);
        control.stop();
        drop(control);
        let api = Api::start(data.path(), &port, &clock);

        let (upstream, to_alice, to_robert) = streaming_upstream();
        let setup = Setup::new()
            .bearer(CONNECTION, &upstream.url(), "s")
            .set("control_plane.url", port.origin())
            .set("control_plane.service_api_key", "env:SERVICE_KEY")
            .env("SERVICE_KEY", &service.key);
        let environment = clock.environment().into_iter();
        let gateway = environment.fold(setup, |setup, (name, value)| setup.env(name, &value)).start();
        clock.remember(gateway.pid());
        let api = Some(api);
        let town = Self {
            gateway,
            _upstream: upstream,
            api,
            data,
            port,
            clock,
            alice,
            robert,
            claim_of_alice,
            to_alice,
            to_robert,
        };
        eventually("the first claims", || (town.status(&town.alice) == 200).then_some(()));
        town
    }

    /// A signed GET at the moved time.
    fn get(&self, agent: &Agent, target: &str) -> RawClient {
        let request = agent.request("GET", self.gateway.url(), target).created_in(self.clock.ahead_secs());
        let mut client = self.gateway.connect();
        client.send(request.sign().to_bytes());
        client
    }

    fn ask(&self, agent: &Agent) -> Response {
        self.get(agent, "/proxy/openai/v1/chat").response()
    }

    fn status(&self, agent: &Agent) -> u16 {
        self.ask(agent).status
    }

    /// Opens a stream of this agent's, through which a first part came.
    fn stream(&self, agent: &Agent, hand: &StreamHand) -> RawClient {
        let mut client = self.get(agent, &format!("/proxy/openai/{}", agent.namespace()));
        assert_eq!(client.head().unwrap().status, 200);
        hand.send("data: 1\n\n");
        assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
        client
    }

    /// `claims` of `GET /api/admin/gateway`.
    fn claims(&self) -> Value {
        self.gateway.admin_get("/api/admin/gateway").json()["claims"].clone()
    }

    fn connected(&self) -> bool {
        self.claims()["connected"] == true
    }

    /// The control plane ends as by `kill -9`, and the gateway has noticed.
    fn kill_control_plane(&mut self) {
        self.api = None;
        eventually("the gateway to notice", || (!self.connected()).then_some(()));
    }

    fn start_control_plane(&mut self) -> Instant {
        self.api = Some(Api::start(self.data.path(), &self.port, &self.clock));
        Instant::now()
    }

    fn assert_unavailable(&self, agent: &Agent) {
        let refused = self.ask(agent);
        assert_eq!((refused.status, refused.code().as_str()), (503, "AUTH_CLAIMS_UNAVAILABLE"));
    }
}

/// It streams to the paths of the two agents, each by a hand of its own, and answers all others.
pub(super) fn streaming_upstream() -> (Upstream, StreamHand, StreamHand) {
    let (alice, to_alice) = Reply::streamed("text/event-stream");
    let (robert, to_robert) = Reply::streamed("text/event-stream");
    let replies = std::sync::Mutex::new((to_alice, to_robert));
    let script = move |request: &Recorded| {
        let replies = replies.lock().unwrap();
        match request.target.as_str() {
            target if target.ends_with("/alice") => replies.0.clone(),
            target if target.ends_with("/robert") => replies.1.clone(),
            _ => Reply::ok("done"),
        }
    };
    (Upstream::start(script), alice, robert)
}

#[test]
fn agents_go_on_for_an_hour_without_the_control_plane_and_again_when_it_is_back() {
    let mut town = Town::start();
    town.kill_control_plane();
    for minutes in [0, 10, 30, 58] {
        town.clock.put_ahead(MINUTE * minutes);
        assert_eq!(town.status(&town.alice), 200, "after {minutes} minutes");
    }
    // The clock does move: what is signed by the system's is an hour old.
    let late = town.gateway.send(&town.alice.get(town.gateway.url(), "/proxy/openai/v1/chat"));
    assert_eq!((late.status, late.reason().as_str()), (403, "SIG_TIMESTAMP_OUT_OF_RANGE"));

    for minutes in [61, 90] {
        town.clock.put_ahead(MINUTE * minutes);
        town.assert_unavailable(&town.alice);
    }
    let back = town.start_control_plane();
    eventually("the claims to be fresh", || (town.status(&town.alice) == 200).then_some(()));
    println!("requests pass {} ms after the control plane listens again", back.elapsed().as_millis());
    assert_eq!(town.status(&town.robert), 200);
    assert!(town.connected());
    assert_eq!(town.claims()["problem"], json!(null));
}

#[test]
fn agents_go_on_for_an_hour_behind_a_front_that_answers_for_a_control_plane_that_is_away() {
    let mut town = Town::start();
    town.kill_control_plane();
    let front = Front::raise(&town.port);
    eventually("its answer", || town.claims()["problem"].as_str()?.contains("502 Bad Gateway").then_some(()));
    assert!(!town.connected());
    for minutes in [0, 58] {
        town.clock.put_ahead(MINUTE * minutes);
        assert_eq!(town.status(&town.alice), 200, "after {minutes} minutes");
    }
    town.clock.put_ahead(MINUTE * 61);
    town.assert_unavailable(&town.alice);
    drop(front);
    let back = town.start_control_plane();
    eventually("the claims to be fresh", || (town.status(&town.alice) == 200).then_some(()));
    println!("requests pass {} ms after the control plane listens again", back.elapsed().as_millis());
    eventually("the stream", || (town.claims()["source"] == "stream").then_some(()));
    assert_eq!((town.connected(), town.claims()["problem"].clone()), (true, json!(null)));
}

#[test]
fn clock_put_back_by_more_than_an_hour_makes_no_old_claim_fresh() {
    let mut town = Town::start();
    town.clock.put_ahead(MINUTE * 120);
    // A heartbeat of the moved time.
    eventually("a heartbeat", || (town.status(&town.alice) == 200).then_some(()));
    town.kill_control_plane();
    town.clock.put_ahead(MINUTE * 58);
    town.assert_unavailable(&town.alice);
    town.clock.put_ahead(MINUTE * 119);
    assert_eq!(town.status(&town.alice), 200);
}

#[test]
fn claim_revoked_during_the_outage_is_never_good_again_though_others_are() {
    let mut town = Town::start();
    let mut of_alice = town.stream(&town.alice, &town.to_alice);
    let mut of_robert = town.stream(&town.robert, &town.to_robert);
    town.kill_control_plane();
    let mut control = Control::at(&town.data.path().join("sigilum.db"));
    control.decide(&control.owner("alice"), &town.claim_of_alice, "revoke");
    control.stop();
    drop(control);
    assert_eq!(town.status(&town.alice), 200, "the gateway cannot know");
    town.clock.put_ahead(MINUTE * 61);
    town.assert_unavailable(&town.alice);

    let back = town.start_control_plane();
    // Robert's goes first: where the gateway is fresh for him, it has heard of alice's revocation.
    eventually("robert's claim to be fresh", || {
        let (robert, alice) = (town.status(&town.robert), town.status(&town.alice));
        assert_ne!(alice, 200, "a revoked claim was good for a moment");
        assert!(robert != 200 || alice == 403, "robert: {robert}, alice: {alice}");
        (robert == 200).then_some(())
    });
    println!(
        "the revocation is in force {} ms after the control plane listens again",
        back.elapsed().as_millis()
    );
    assert_eq!(town.ask(&town.alice).code(), "AUTH_CLAIM_REQUIRED");
    assert_eq!(of_alice.chunk(), None, "her stream is cut");
    town.to_robert.send("data: 2\n\n");
    assert_eq!(of_robert.chunk().unwrap(), b"data: 2\n\n");
}
