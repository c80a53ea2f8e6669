//! `sigilum gateway`: the gateway alone.

use std::path::PathBuf;

use super::stack::Stack;
use super::{Exit, Failure, Global, Io};
use crate::config::{self, Mode, Settings};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Run the gateway in the foreground, until Ctrl-C or SIGTERM
    Start(Start),
}

#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// The configuration; without it the defaults and the environment decide
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let Command::Start(start) = command;
    let env = &config::process_environment;
    let mut settings = match &start.config {
        Some(file) => config::load_file(file, env)?,
        None => Settings::defaults(Mode::default(), env)?,
    };
    if let Some(namespace) = global.namespace()? {
        settings.identity.namespace = Some(namespace);
    }
    if let Some(home) = global.given_home() {
        settings.identity.home = Some(home);
    }
    Stack::assemble(settings, start.config.as_deref())?.run(io, start.json, |_, _| Ok(()))
}
