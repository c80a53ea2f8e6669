//! The tables. Of several rounds the median is shown.

use std::time::Duration;

use super::requests::Method;
use super::system::System;

pub struct Settings {
    pub connections: usize,
    pub rounds: usize,
    pub time: Duration,
    pub warm_up: Duration,
    /// Requests a second of the fixed rate; 0: not measured.
    pub rate: u32,
    pub identities: u32,
    /// Of a POST.
    pub body_bytes: usize,
    /// The systems that the others are compared with.
    pub against: Vec<String>,
}

/// One system, each round's result.
#[derive(Default)]
pub struct Measured {
    pub closed: Vec<Closed>,
    pub rated: Vec<Rated>,
}

/// As fast as possible.
pub struct Closed {
    pub requests: u64,
    pub elapsed: Duration,
    /// Processor time of the system's process.
    pub cpu: Duration,
}

/// At the fixed rate.
pub struct Rated {
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
impl Measured {
    fn requests_a_second(&self) -> f64 {
        median(self.closed.iter().map(|closed| closed.requests as f64 / closed.elapsed.as_secs_f64()))
    }

    /// Processor time of 10,000 requests, in seconds.
    fn cpu(&self) -> f64 {
        median(self.closed.iter().map(|closed| closed.cpu.as_secs_f64() * 10_000.0 / closed.requests as f64))
    }

    fn micros(&self, of: impl Fn(&Rated) -> Duration) -> f64 {
        median(self.rated.iter().map(|rated| of(rated).as_secs_f64() * 1e6))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

pub fn header(settings: &Settings) {
    println!(
        "{} agents, {} connections, medians of {} interleaved rounds of {} s after {} s of warm-up.",
        settings.identities,
        settings.connections,
        settings.rounds,
        settings.time.as_secs(),
        settings.warm_up.as_secs()
    );
}

pub fn print(settings: &Settings, method: Method, systems: &[System], measured: &[Measured]) {
    let method = match method {
        Method::Get => "GET".to_owned(),
        Method::Post => format!("POST of {} bytes", settings.body_bytes),
    };
    let named = |name: &str| systems.iter().position(|system| system.name == name).map(|at| &measured[at]);
    println!("\n{method}, as fast as possible");
    print!("{:<34}{:>12}{:>14}", "", "requests/s", "CPU s/10,000");
    settings
        .against
        .iter()
        .for_each(|name| print!("{:>20}{:>20}", format!("rate/{name}"), format!("CPU/{name}")));
    println!();
    for (system, one) in systems.iter().zip(measured) {
        print!("{:<34}{:>12.0}", system.name, one.requests_a_second());
        // The upstream's processor time is another thing than a proxy's.
        if system.direct {
            println!("{:>14}", "-");
            continue;
        }
        print!("{:>14.3}", one.cpu());
        for other in settings.against.iter().map(|name| named(name)) {
            let ratio = |own: f64, other: Option<f64>| {
                other.map_or("-".to_owned(), |other| format!("{:.2}", own / other))
            };
            print!("{:>20}", ratio(one.requests_a_second(), other.map(Measured::requests_a_second)));
            print!("{:>20}", ratio(one.cpu(), other.map(Measured::cpu)));
        }
        println!();
    }
    if settings.rate > 0 {
        rated(settings, &method, systems, measured);
    }
}

fn rated(settings: &Settings, method: &str, systems: &[System], measured: &[Measured]) {
    println!("\n{method}, {} requests/s, times in µs", settings.rate);
    println!("{:<34}{:>10}{:>10}{:>10}{:>14}{:>14}", "", "p50", "p99", "p99.9", "added p50", "added p99");
    let direct = systems.iter().position(|system| system.direct).map(|at| &measured[at]);
    for (system, one) in systems.iter().zip(measured) {
        let [p50, p99, p999] = [one.micros(|r| r.p50), one.micros(|r| r.p99), one.micros(|r| r.p999)];
        print!("{:<34}{p50:>10.0}{p99:>10.0}{p999:>10.0}", system.name);
        match direct.filter(|_| !system.direct) {
            Some(direct) => {
                let added = [p50 - direct.micros(|r| r.p50), p99 - direct.micros(|r| r.p99)];
                println!("{:>+14.0}{:>+14.0}", added[0], added[1]);
            }
            None => println!("{:>14}{:>14}", "-", "-"),
        }
    }
}

#[allow(clippy::cast_precision_loss)]
pub fn memory(systems: &[System]) -> Result<(), String> {
    println!("\nMemory at the end, MiB");
    println!("{:<34}{:>12}{:>12}", "", "resident", "at most");
    for system in systems {
        let mib = |name| system.process.memory_kib(name).map(|kib| kib as f64 / 1024.0);
        println!("{:<34}{:>12.1}{:>12.1}", system.name, mib("VmRSS")?, mib("VmHWM")?);
    }
    Ok(())
}
