//! The side-by-side runs: a generator of signed load and a bare pass-through proxy to compare with. `benches/load/run`
//! starts everything and calls these; `docs/performance.md` says what comes out.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod closed_loop;
mod fixed_rate;
mod flags;
mod generator;
mod histogram;
mod passthrough;
mod process;
mod report;
mod requests;
mod response;
#[path = "../samples/mod.rs"]
mod samples;
mod system;
mod tally;

use std::net::TcpListener;
use std::process::ExitCode;

use flags::Flags;

/// As the gateway has it, so that the pass-through proxy is compared on equal terms.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
load passthrough --listen <address> --upstream <address> [--threads <n>]
load generator [--direct <name>=<address>@<pid>] [--proxy <name>=<address>@<pid>]… [--gateway <name>=<address>@<pid>]…
               [--method GET|POST]… [--body-bytes <n>] [--identities <n>] [--connections <n>] [--rounds <n>] [--seconds <n>]
               [--warm-up <n>] [--rate <a second>] [--most <a second>] [--against <name>]…
load claims --identities <n>       the claims of the generator's agents, as entries of `claims.static`
load ports <n>                     so many free ports of 127.0.0.1
Everything at once: benches/load/run";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let done = match command.as_str() {
        "passthrough" => Flags::read(arguments).and_then(|flags| passthrough::run(&flags)),
        "generator" => Flags::read(arguments).and_then(|flags| generator::run(&flags)),
        "claims" => Flags::read(arguments).and_then(|flags| claims(&flags)),
        "ports" => ports(&arguments.next().unwrap_or_default()),
        // `cargo bench` calls every bench so; this one needs other processes around it.
        "--bench" => {
            println!("load: nothing is measured here; use benches/load/run");
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one claim a line; YAML takes JSON.
fn claims(flags: &Flags) -> Result<(), String> {
    for number in 0..flags.number("--identities", requests::IDENTITIES)? {
        let identity = samples::identity(number);
        let (namespace, key) = (identity.namespace(), identity.public_key());
        println!("    - {{ namespace: {namespace}, public_key: \"{key}\", services: [bench] }}");
    }
    Ok(())
}

fn ports(count: &str) -> Result<(), String> {
    let count: usize = count.parse().map_err(|_| USAGE.to_owned())?;
    // All are open at once, so that no port comes twice.
    let open: Result<Vec<_>, _> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    for listener in open.map_err(|error| format!("no free port: {error}"))? {
        println!("{}", listener.local_addr().map_err(|error| error.to_string())?.port());
    }
    Ok(())
}
