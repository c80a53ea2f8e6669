//! `sigilum completions`: a completion script.

use std::io::Write as _;

use clap_complete::Shell;

use super::{Exit, Failure, Io};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, mut command: clap::Command, io: &mut Io<'_>) -> Result<Exit, Failure> {
    // Into memory first: the generator takes no fault of a writer for anything but a bug.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "sigilum", &mut script);
    io.out.write_all(&script)?;
    Ok(Exit::Done)
}
