//! `sigilum config check`: every error of a configuration.

use std::io::Write as _;
use std::path::PathBuf;

use super::{Exit, Failure, Io, report};
use crate::config::{check, process_environment};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print every error with its file, its line and what would be right
    Check {
        /// The configuration, in YAML
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &Command, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let Command::Check { file, json } = command;
    // The environment counts as it would for a gateway that is started from here.
    let found = check(file, &process_environment);
    if *json {
        report::write_json(&mut io.out, &found)?;
    } else {
        writeln!(io.out, "{found}")?;
    }
    Ok(if found.ok { Exit::Done } else { Exit::Failed })
}
