//! The order of a run: in every round each system in its turn, first as fast as possible, then at the fixed rate.

use std::time::Duration;

use super::flags::Flags;
use super::report::{self, Closed, Measured, Rated, Settings};
use super::requests::{Agents, IDENTITIES, Method, Pool};
use super::system::System;
use super::{closed_loop, fixed_rate};

pub fn run(flags: &Flags) -> Result<(), String> {
    let mut systems = Vec::new();
    for (kind, text) in flags.iter().filter(|(name, _)| ["--direct", "--proxy", "--gateway"].contains(name)) {
        let system = System::read(kind, text);
        systems.push(system.ok_or_else(|| format!("{kind} {text} is not <name>=<address>:<port>@<pid>"))?);
    }
    let settings = Settings {
        connections: flags.number("--connections", 64)?,
        rounds: flags.number("--rounds", 5)?,
        time: Duration::from_secs(flags.number("--seconds", 5)?),
        warm_up: Duration::from_secs(flags.number("--warm-up", 1)?),
        rate: flags.number("--rate", 3_000)?,
        identities: flags.number("--identities", IDENTITIES)?,
        body_bytes: flags.number("--body-bytes", 1024)?,
        against: flags.all("--against").map(str::to_owned).collect(),
    };
    // Beyond it a gateway would run out of requests before its time is over, which only makes the phase shorter.
    let most: usize = flags.number("--most", 30_000)?;
    let mut methods = Vec::new();
    for text in flags.all("--method") {
        let method = [Method::Get, Method::Post].into_iter().find(|method| method.as_str() == text);
        methods.push(method.ok_or_else(|| format!("--method {text} is neither GET nor POST"))?);
    }
    if methods.is_empty() {
        methods = vec![Method::Get, Method::Post];
    }
    let run = Run { agents: Agents::new(settings.identities), settings, systems, most };
    report::header(&run.settings);
    for method in methods {
        let measured = run.rounds(method)?;
        report::print(&run.settings, method, &run.systems, &measured);
    }
    report::memory(&run.systems)
}

struct Run {
    agents: Agents,
    settings: Settings,
    systems: Vec<System>,
    most: usize,
}

impl Run {
    /// What each system did, in their order.
    fn rounds(&self, method: Method) -> Result<Vec<Measured>, String> {
        let mut measured: Vec<Measured> = self.systems.iter().map(|_| Measured::default()).collect();
        let sign = |count| Pool::sign(&self.agents, method, self.settings.body_bytes, count);
        let whole_seconds = (self.settings.time + self.settings.warm_up).as_secs() as usize;
        for round in 1..=self.settings.rounds {
            let verifies = self.systems.iter().any(|system| system.verifies);
            let pool = sign(if verifies { self.most * whole_seconds } else { 10_000 });
            for (system, measured) in self.systems.iter().zip(&mut measured) {
                measured.closed.push(self.closed(system, &pool)?);
            }
            drop(pool);
            if self.settings.rate > 0 {
                let pool = sign(self.settings.rate as usize * whole_seconds);
                for (system, measured) in self.systems.iter().zip(&mut measured) {
                    measured.rated.push(self.rated(system, &pool)?);
                }
            }
            eprintln!("{}: round {round} of {} is done", method.as_str(), self.settings.rounds);
        }
        Ok(measured)
    }

    fn closed(&self, system: &System, pool: &Pool) -> Result<Closed, String> {
        let phase = |time| closed_loop::Phase {
            address: system.address,
            connections: self.settings.connections,
            time,
            pool,
            repeated: !system.verifies,
        };
        let mut next = 0;
        phase(self.settings.warm_up).run(&mut next).all_well(&system.name)?;
        let before = system.process.cpu()?;
        let tally = phase(self.settings.time).run(&mut next).all_well(&system.name)?;
        let cpu = system.process.cpu()?.saturating_sub(before);
        if tally.requests == 0 {
            return Err(format!(
                "{}: the requests were used up by the warm-up; give a greater --most",
                system.name
            ));
        }
        Ok(Closed { requests: tally.requests, elapsed: tally.elapsed, cpu })
    }

    fn rated(&self, system: &System, pool: &Pool) -> Result<Rated, String> {
        let warm = self.settings.rate as usize * self.settings.warm_up.as_secs() as usize;
        let phase = |first, last| fixed_rate::Phase {
            address: system.address,
            connections: self.settings.connections,
            rate: self.settings.rate,
            pool,
            first,
            last,
        };
        phase(0, warm).run().all_well(&system.name)?;
        let times = phase(warm, pool.len()).run().all_well(&system.name)?.times;
        Ok(Rated { p50: times.quantile(0.5), p99: times.quantile(0.99), p999: times.quantile(0.999) })
    }
}
