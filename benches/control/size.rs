//! What many claims cost: a gateway of a service with few of them beside a gateway of one with many, each at a control
//! plane of its own on SQLite. They are measured in turn, so that what else the machine does falls on both.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::client::{Client, decide};
use super::fill::{Waiting, fill};
use super::flags::Flags;
use super::processes::{Place, Running};
use super::times::{Times, head, row};
use super::upstream;
use super::watch::Load;

/// Between requests of the agent whose claim is decided about.
const GAP: Duration = Duration::from_millis(1);
/// The cost of a change does not depend on how many claims there are: beyond this ratio it would, whatever the noise.
const MOST_RATIO: f64 = 1.5;
/// How long a gateway that does nothing is watched.
const IDLE: Duration = Duration::from_secs(5);
/// Between two changes whose cost is taken: longer than the control plane gathers changes, so that each comes alone to
/// either gateway. An owner's decision takes longer among many claims; without a pace more changes would come together
/// to the one gateway than to the other, and share what it costs to wake up.
const PACE: Duration = Duration::from_millis(40);
/// Until all that a gateway still does of what it heard is done.
const CALM: Duration = Duration::from_millis(300);

/// One of the two, and what was measured of it.
struct Side {
    claims: usize,
    control: Running,
    gateway: Running,
    waiting: std::vec::IntoIter<Waiting>,
    ready: Times,
    resident_kib: Vec<u64>,
    most_kib: Vec<u64>,
    approve: Times,
    revoke: Times,
    deltas: u32,
    delta_cpu: Duration,
    delta_time: Duration,
    idle_cpu: Duration,
    idle_time: Duration,
}

pub fn run(place: &Place, flags: &Flags) -> Result<(), String> {
    let sizes: [u32; 2] = [flags.number("--few", 100)?, flags.number("--many", 100_000)?];
    let (starts, rounds): (u32, u32) = (flags.number("--starts", 3)?, flags.number("--rounds", 5)?);
    // Each claim is approved and then revoked: two changes.
    let seen: u32 = flags.number("--seen", 400)? / 2 / rounds;
    let deltas: u32 = flags.number("--deltas", 1000)? / 2 / rounds;
    let upstream = upstream::start()?;
    let [few, many] = sizes.map(|size| Side::start(place, size, (seen + deltas) * rounds, upstream));
    let mut sides = [few?, many?];
    for number in 1..starts {
        for side in &mut sides {
            side.start_again(place, number, upstream)?;
        }
    }
    std::thread::sleep(Duration::from_millis(1200));
    for round in 1..=rounds {
        for side in &mut sides {
            side.watch_deltas(seen)?;
            side.cost_of_deltas(deltas)?;
        }
        eprintln!("changes: round {round} of {rounds} is done");
    }
    report(&sides, starts);
    let ratio = ratio(&sides);
    if ratio > MOST_RATIO {
        return Err(format!(
            "MISSED: a change costs {ratio:.2} times as much among many claims; {MOST_RATIO} is the most"
        ));
    }
    Ok(())
}

/// What a change costs among many claims, of what it costs among few.
fn ratio([few, many]: &[Side; 2]) -> f64 {
    many.micros_a_delta() / few.micros_a_delta()
}

impl Side {
    fn start(place: &Place, claims: u32, waiting: u32, upstream: SocketAddr) -> Result<Self, String> {
        let database = format!("sqlite:{}", place.dir.join(format!("claims-{claims}.db")).display());
        let waiting = fill(&database, claims, waiting)?.into_iter();
        let control = place.control_plane(&format!("control-{claims}"), &database)?;
        let gateway = place.gateway(&format!("gateway-{claims}-0"), &control, upstream)?;
        let mut this = Self {
            claims: claims as usize,
            control,
            gateway,
            waiting,
            ready: Times::default(),
            resident_kib: Vec::new(),
            most_kib: Vec::new(),
            approve: Times::default(),
            revoke: Times::default(),
            deltas: 0,
            delta_cpu: Duration::ZERO,
            delta_time: Duration::ZERO,
            idle_cpu: Duration::ZERO,
            idle_time: Duration::ZERO,
        };
        this.note_start()?;
        Ok(this)
    }

    /// Another gateway takes the place of the first.
    fn start_again(&mut self, place: &Place, number: u32, upstream: SocketAddr) -> Result<(), String> {
        let name = format!("gateway-{}-{number}", self.claims);
        self.gateway = place.gateway(&name, &self.control, upstream)?;
        self.note_start()
    }

    fn note_start(&mut self) -> Result<(), String> {
        self.ready.push(self.gateway.ready_after);
        self.gateway.knows(self.claims)?;
        std::thread::sleep(CALM);
        self.resident_kib.push(self.gateway.process.memory_kib("VmRSS")?);
        self.most_kib.push(self.gateway.process.memory_kib("VmHWM")?);
        Ok(())
    }

    /// So many claims approved and revoked, while their agents ask.
    fn watch_deltas(&mut self, pairs: u32) -> Result<(), String> {
        let load = Load::start(&[self.gateway.address], 0, GAP);
        let mut owner = Client::new(self.control.address);
        for one in self.waiting.by_ref().take(pairs as usize) {
            load.aim(one.agent);
            // Asked as this agent, and refused, before anything is decided.
            std::thread::sleep(10 * GAP);
            let answered = decide(&mut owner, &one.token, &one.claim, "approve")?.answered;
            self.approve.push_between(answered, load.gateways()[0].first_allowed(answered)?);
            let answered = decide(&mut owner, &one.token, &one.claim, "revoke")?.answered;
            self.revoke.push_between(answered, load.gateways()[0].last_allowed(answered)?);
        }
        Ok(())
    }

    /// So many claims approved and revoked, at one pace, while the gateway does nothing else.
    fn cost_of_deltas(&mut self, pairs: u32) -> Result<(), String> {
        std::thread::sleep(CALM);
        let process = self.gateway.process;
        let (began, before) = (Instant::now(), process.ran()?);
        std::thread::sleep(IDLE);
        self.idle_cpu += process.ran()?.saturating_sub(before);
        self.idle_time += began.elapsed();

        let mut owner = Client::new(self.control.address);
        let (began, before) = (Instant::now(), process.ran()?);
        let mut due = began;
        for one in self.waiting.by_ref().take(pairs as usize) {
            for decision in ["approve", "revoke"] {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due += PACE;
                decide(&mut owner, &one.token, &one.claim, decision)?;
                self.deltas += 1;
            }
        }
        std::thread::sleep(CALM);
        self.delta_cpu += process.ran()?.saturating_sub(before);
        self.delta_time += began.elapsed();
        self.gateway.knows(self.claims)
    }

    /// Processor time of one change in µs, without what the gateway takes when nothing happens.
    fn micros_a_delta(&self) -> f64 {
        let idle = self.idle_cpu.as_secs_f64() * self.delta_time.as_secs_f64() / self.idle_time.as_secs_f64();
        (self.delta_cpu.as_secs_f64() - idle) * 1e6 / f64::from(self.deltas)
    }

    fn mib(of: &[u64]) -> f64 {
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        #[allow(clippy::cast_precision_loss)]
        let kib = sorted[sorted.len() / 2] as f64;
        kib / 1024.0
    }
}

#[allow(clippy::cast_precision_loss)]
fn report(sides: &[Side; 2], starts: u32) {
    let [few, many] = sides;
    println!(
        "A gateway of a service with few claims, and of one with many; medians of {starts} starts in turn."
    );
    println!(
        "{:>16}{:>26}{:>18}{:>18}{:>24}",
        "approved claims", "start to first ready, s", "resident, MiB", "at most, MiB", "CPU of a change, µs"
    );
    for side in sides {
        println!(
            "{:>16}{:>26.2}{:>18.1}{:>18.1}{:>24.0}",
            side.claims,
            side.ready.median() / 1e3,
            Side::mib(&side.resident_kib),
            Side::mib(&side.most_kib),
            side.micros_a_delta()
        );
    }
    let more = (many.claims - few.claims) as f64;
    let bytes =
        |of: fn(&Side) -> &Vec<u64>| (Side::mib(of(many)) - Side::mib(of(few))) * 1024.0 * 1024.0 / more;
    println!(
        "A claim takes {:.0} bytes, and {:.0} while all are read. A change costs {:.2} times as much among {} claims as among {}:\n\
         processor time of the gateway over {} changes each, in turn, less {:.1} ms a second that it takes anyway.",
        bytes(|side| &side.resident_kib),
        bytes(|side| &side.most_kib),
        ratio(sides),
        many.claims,
        few.claims,
        many.deltas,
        (few.idle_cpu + many.idle_cpu).as_secs_f64() * 1e3 / (few.idle_time + many.idle_time).as_secs_f64()
    );
    println!();
    head("From the answer until it counts, in ms, a request every ms");
    for side in sides {
        row(&format!("approve, among {} claims: the first allowed request", side.claims), &side.approve);
        row(&format!("revoke, among {} claims: the last allowed request", side.claims), &side.revoke);
    }
}
