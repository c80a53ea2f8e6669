//! From a decision's answer until it counts: two replicas on PostgreSQL, a gateway at each, and load on both.

use std::time::{Duration, Instant};

use super::client::{Client, decide};
use super::fill::fill;
use super::flags::Flags;
use super::processes::Place;
use super::times::{Times, head, row};
use super::upstream;
use super::watch::Load;

/// The system's limit.
const LIMIT_MS: f64 = 1000.0;
/// Of the rate that is asked for, so much must have been sent.
const LEAST_RATE: f64 = 0.95;
/// Agents that are approved all along.
const STEADY: u32 = 50;
const GATEWAYS: [&str; 2] = ["gateway at that replica", "gateway at the other"];

#[derive(Default)]
struct Measured {
    approve: Times,
    revoke: Times,
    /// For each gateway.
    first_allowed: [Times; 2],
    last_allowed: [Times; 2],
}

pub fn run(place: &Place, flags: &Flags) -> Result<(), String> {
    let database = flags.needed("--database")?;
    let (claims, rate): (u32, u32) = (flags.number("--claims", 20)?, flags.number("--rate", 500)?);
    let watched = Duration::from_millis(flags.number("--watch-ms", 1500)?);
    let waiting = fill(database, STEADY, claims)?;
    let upstream = upstream::start()?;
    let replicas = [place.control_plane("replica-a", database)?, place.control_plane("replica-b", database)?];
    let gateways = [
        place.gateway("gateway-a", &replicas[0], upstream)?,
        place.gateway("gateway-b", &replicas[1], upstream)?,
    ];
    // A signature from before a gateway's first whole second is refused, for an earlier gateway may have seen it.
    std::thread::sleep(Duration::from_millis(1200));
    // Two threads at each of two gateways.
    let gap = Duration::from_secs(4) / rate;
    let load = Load::start(&gateways.each_ref().map(|gateway| gateway.address), STEADY, gap);
    let mut owner = Client::new(replicas[0].address);
    let mut measured = Measured::default();
    let (began, sent) = (Instant::now(), load.sent());
    for one in &waiting {
        load.aim(one.agent);
        std::thread::sleep(Duration::from_millis(300));
        let approved = decide(&mut owner, &one.token, &one.claim, "approve")?;
        measured.approve.push_between(approved.asked, approved.answered);
        for (watch, times) in load.gateways().iter().zip(&mut measured.first_allowed) {
            times.push_between(approved.answered, watch.first_allowed(approved.answered)?);
        }
        std::thread::sleep(Duration::from_millis(200));
        let revoked = decide(&mut owner, &one.token, &one.claim, "revoke")?;
        measured.revoke.push_between(revoked.asked, revoked.answered);
        // None may be allowed long after all seemed to be refused.
        std::thread::sleep(watched);
        for (watch, times) in load.gateways().iter().zip(&mut measured.last_allowed) {
            times.push_between(revoked.answered, watch.last_allowed(revoked.answered)?);
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let real_rate = (load.sent() - sent) as f64 / began.elapsed().as_secs_f64();
    println!(
        "Decisions on {claims} claims: 2 replicas on PostgreSQL, a gateway at each, {real_rate:.0} requests/s in all, a quarter\n\
         of them at each gateway as the agent that is decided about. Times in ms; below 0: before the owner had the answer."
    );
    report(&measured);
    if real_rate < f64::from(rate) * LEAST_RATE {
        return Err(format!("{real_rate:.0} requests/s are less than the {rate} that the limit holds for"));
    }
    let worst = measured.last_allowed.iter().map(Times::max).fold(f64::NEG_INFINITY, f64::max);
    let verdict = format!("the last allowed request began {worst:.1} ms after the answer at most");
    if worst >= LIMIT_MS {
        return Err(format!("MISSED: {verdict}, and the limit is {LIMIT_MS:.0} ms"));
    }
    println!("Kept: {verdict}; the limit is {LIMIT_MS:.0} ms.");
    Ok(())
}

fn report(measured: &Measured) {
    head("");
    row("approve: from asking to the answer", &measured.approve);
    for (name, times) in GATEWAYS.iter().zip(&measured.first_allowed) {
        row(&format!("  from the answer to the first allowed request, {name}"), times);
    }
    row("revoke: from asking to the answer", &measured.revoke);
    for (name, times) in GATEWAYS.iter().zip(&measured.last_allowed) {
        row(&format!("  from the answer to the last allowed request, {name}"), times);
    }
}
