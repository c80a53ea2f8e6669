//! `sigilum`: parse, run, exit code.

use std::io::{stderr, stdin, stdout};
use std::process::ExitCode;

use sigilum::cli::{self, Io};

/// The gateway allocates on every request from many threads, which mimalloc does faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Not locked: log lines go to standard output too, from a thread of their own.
    let (mut out, mut err, mut input) = (stdout(), stderr(), stdin());
    cli::main(std::env::args_os(), &mut Io::new(&mut out, &mut err, &mut input).on_terminal())
}
