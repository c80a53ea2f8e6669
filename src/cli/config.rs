//! `sigilum config check`: every error of a configuration.

use std::path::PathBuf;

use super::{Exit, Failure, Io};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print every error with its file, its line and what would be right
    Check {
        /// The configuration
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(_command: &Command, _io: &mut Io<'_>) -> Result<Exit, Failure> {
    Ok(Exit::Failed)
}
