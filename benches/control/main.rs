//! The control plane's figures: how soon a decision counts at gateways, and what many claims cost. `benches/control/run`
//! starts PostgreSQL and calls this, which starts the rest; `docs/performance.md` says what comes out.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod client;
mod fill;
#[path = "../load/flags.rs"]
#[allow(dead_code, reason = "the load generator uses all of it")]
mod flags;
#[path = "../load/process.rs"]
#[allow(dead_code, reason = "the load generator counts hundredths of a second")]
mod process;
mod processes;
#[path = "../load/response.rs"]
mod response;
mod revocation;
#[path = "../samples/mod.rs"]
mod samples;
mod size;
mod times;
mod upstream;
mod watch;

use std::process::ExitCode;

use flags::Flags;
use processes::Place;

const USAGE: &str = "\
control revocation --dir <directory> --sigilum <binary> --database <postgres://…> [--claims <n>] [--rate <a second>]
                   [--watch-ms <n>]
control size --dir <directory> --sigilum <binary> [--few <n>] [--many <n>] [--starts <n>] [--rounds <n>] [--seen <n>]
             [--deltas <n>]
Everything at once: benches/control/run";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    // Else the kernel wakes a sleeper up to 50 µs late, to wake several at once. New threads inherit it.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let run: fn(&Place, &Flags) -> Result<(), String> = match command.as_str() {
        "revocation" => revocation::run,
        "size" => size::run,
        // `cargo bench` calls every bench so; this one needs other processes around it.
        "--bench" => {
            println!("control: nothing is measured here; use benches/control/run");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let done = Flags::read(arguments).and_then(|flags| run(&Place::read(&flags)?, &flags));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}
