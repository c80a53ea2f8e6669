//! Fifty gateways lose the same control plane, and come back to it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sigilum::claims::{ClaimsIndex, Feed, FeedConfig, FeedSource, Services};
use sigilum::clock::Clock;
use sigilum::connections::SecretSource;
use sigilum::control::store::DatabaseUrl;
use sigilum::protocol::Identity;
use sigilum::telemetry::Metrics;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::control_outage::CONNECTION;
use crate::support::agent::Agent;
use crate::support::control::{Control, Service};
use crate::support::eventually;
use crate::support::held_port::HeldPort;

const GATEWAYS: usize = 50;
const PAGES: &str = "/v1/namespaces/claims";
const STREAM: &str = "/v1/namespaces/claims/stream";
const BIN: Duration = Duration::from_millis(250);

/// The feeds of many gateways, with all their sockets, in this process.
struct Fleet {
    indexes: Vec<Arc<ClaimsIndex>>,
    clock: Clock,
    _stop: watch::Sender<bool>,
    _runtime: Runtime,
}

impl Fleet {
    fn start(url: &str, key: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (clock, stop) = (Clock::system(), watch::Sender::new(false));
        let indexes = (0..GATEWAYS).map(|number| {
            let config = FeedConfig {
                url: url.parse().unwrap(),
                source: FeedSource::Auto,
                refresh: Duration::from_secs(30),
                max_staleness: Duration::from_secs(3_600),
                max_entries: None,
            };
            let services =
                Services::fixed(vec![CONNECTION.parse().unwrap()], SecretSource::File(key.to_owned()));
            let index = Arc::new(ClaimsIndex::new(vec![], Some(config.max_staleness)));
            let namespace = format!("gateway-{number}").parse().unwrap();
            let identity = Arc::new(Identity::create(&namespace, crate::support::random(), clock.now()));
            let metrics = Arc::new(Metrics::new());
            let feed =
                Feed::new(config, services, Arc::clone(&index), identity, clock.clone(), metrics).unwrap();
            runtime.spawn(feed.run(stop.subscribe()));
            index
        });
        Self { indexes: indexes.collect(), clock, _stop: stop, _runtime: runtime }
    }

    fn connected(&self) -> impl Iterator<Item = bool> {
        self.indexes.iter().map(|index| index.state(self.clock.now()).connected)
    }

    /// Waits until all are connected or none is.
    fn wait_until(&self, connected: bool) {
        eventually("all gateways", || self.connected().all(|is| is == connected).then_some(()));
    }

    /// How long after now each connects.
    fn come_back(&self) -> Vec<Duration> {
        let begin = Instant::now();
        let mut took: Vec<Option<Duration>> = vec![None; self.indexes.len()];
        eventually("all gateways to come back", || {
            for (took, connected) in took.iter_mut().zip(self.connected()) {
                if connected {
                    took.get_or_insert_with(|| begin.elapsed());
                }
            }
            took.iter().copied().collect()
        })
    }

    /// The numbers of claims held, if all hold as many.
    fn entries(&self) -> Option<usize> {
        let entries: Vec<usize> =
            self.indexes.iter().map(|index| index.state(self.clock.now()).entries).collect();
        entries.iter().all(|count| *count == entries[0]).then_some(entries[0])
    }
}

/// A listener in the control plane's place that hangs up on everybody, and counts them.
struct Wall {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Wall {
    fn raise(port: &HeldPort) -> Self {
        let listener = TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok(_) => _ = counted.fetch_add(1, Ordering::Relaxed),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Self { stop, count, thread }
    }

    /// Takes it away, and tells how many came.
    fn fall(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.count.load(Ordering::Relaxed)
    }
}

/// A control plane that goes away and comes back over the same database.
struct Scene {
    directory: TempDir,
    port: HeldPort,
    service: Service,
}

impl Scene {
    fn prepared() -> Self {
        let (directory, port) = (TempDir::new().unwrap(), HeldPort::new());
        let mut control = Control::at(&directory.path().join("sigilum.db"));
        let service = control.service(&control.owner("acme"), CONNECTION);
        std::fs::write(directory.path().join("key"), &service.key).unwrap();
        control.stop();
        Self { directory, port, service }
    }

    fn serve(&self) -> Control {
        let database = DatabaseUrl::Sqlite(self.directory.path().join("sigilum.db"));
        Control::over(database, |config| config.listen = self.port.address())
    }

    /// A change while the gateways cannot hear of it.
    fn approve_one(&self) {
        let mut control = Control::at(&self.directory.path().join("sigilum.db"));
        control.approved(&control.owner("alice"), &Agent::new("alice"), &self.service);
        control.stop();
    }
}

fn print(what: &str, took: &[Duration]) {
    let bin = |took: &Duration| usize::try_from(took.as_millis() / BIN.as_millis()).unwrap();
    let mut bins = vec![0_usize; took.iter().map(bin).max().unwrap_or(0) + 1];
    took.iter().for_each(|took| bins[bin(took)] += 1);
    println!("{what}: the last of {} after {:?}", took.len(), took.iter().max().unwrap());
    for (number, count) in bins.iter().enumerate() {
        println!("{:>6} ms {:>3} {}", number as u128 * BIN.as_millis(), count, "#".repeat(*count));
    }
}

/// As many tries as the pauses allow: up to ten until they are at their longest, and then less than one a second.
fn most_tries(lasted: Duration) -> usize {
    GATEWAYS * (10 + usize::try_from(lasted.as_secs()).unwrap())
}

/// Each gateway has come back, since `begin`, by one stream, and asked for no page. What was signed in the second of the
/// control plane's start is refused, and such tries are bounded too.
fn assert_back_by_streams_alone(control: &Control, begin: Instant) {
    assert_eq!(control.requests(STREAM), GATEWAYS);
    let (tries, most) = (control.answers(STREAM), most_tries(begin.elapsed()));
    assert!(tries <= most, "{tries} tries to open a stream, at most {most}");
    assert_eq!(control.answers(PAGES), 0);
}

#[test]
fn fifty_gateways_come_back_each_by_one_stream_and_read_nothing_anew() {
    let scene = Scene::prepared();
    let (mut control, begin) = (scene.serve(), Instant::now());
    let fleet = Fleet::start(&scene.port.origin(), &scene.directory.path().join("key"));
    fleet.wait_until(true);
    assert_eq!((control.requests(PAGES), control.requests(STREAM)), (GATEWAYS, GATEWAYS));
    let (tries, most) = (control.answers(PAGES) + control.answers(STREAM), most_tries(begin.elapsed()));
    assert!(tries <= most, "{tries} tries to begin, at most {most}");

    control.stop();
    drop(control);
    fleet.wait_until(false);
    scene.approve_one();
    let (mut control, begin) = (scene.serve(), Instant::now());
    print("after a short outage", &fleet.come_back());
    assert_back_by_streams_alone(&control, begin);
    assert_eq!(fleet.entries(), Some(1), "what was approved meanwhile is there with the connection");

    control.stop();
    drop(control);
    let (wall, begin) = (Wall::raise(&scene.port), Instant::now());
    fleet.wait_until(false);
    scene.approve_one();
    // Nothing depends on how long it is: the pauses are at their longest then.
    std::thread::sleep(Duration::from_secs(8));
    let (tries, lasted) = (wall.fall(), begin.elapsed());
    let (control, begin) = (scene.serve(), Instant::now());
    println!("{tries} tries of {GATEWAYS} gateways while nobody answered for {lasted:?}");
    print("after a long outage", &fleet.come_back());
    assert_back_by_streams_alone(&control, begin);
    assert_eq!(fleet.entries(), Some(2));
    let most = most_tries(lasted);
    assert!((GATEWAYS..=most).contains(&tries), "{tries} tries, at most {most}");
}
