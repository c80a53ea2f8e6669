//! The command line: a file per command, and no logic of its own.

mod agent;
mod api;
mod api_owner;
mod auth;
mod background;
mod bundle;
mod claim;
mod completions;
mod config;
mod connection;
mod control_client;
mod curl;
mod doctor;
mod down;
mod exit;
mod export;
mod gateway;
mod global;
mod ground;
mod harden;
mod import;
mod init;
mod io;
mod life;
mod local_plane;
mod man;
mod openclaw;
mod owner_token;
mod passphrase;
mod place;
mod plane;
mod private;
mod quote;
mod reach;
mod reload;
mod report;
mod service;
mod sign;
mod signing;
mod stack;
mod status;
mod terminal;
pub mod up;
mod uplink;
mod vault;
mod versions;
mod walk;
mod workspace;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use exit::Exit;
pub use io::Io;

use exit::Failure;
use global::Global;
use report::Report;

/// `sigilum` and its arguments.
#[derive(Debug, Parser)]
#[command(
    name = "sigilum",
    version,
    about = "The gateway that lets AI agents use other people's APIs without ever holding their keys",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not authorized, 4 not reachable.",
    color = clap::ColorChoice::Never,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an identity: a key and its certificate, in files only you can read
    Init(init::Args),
    /// Print the headers that sign a request
    Sign(sign::Args),
    /// Send a signed request, with curl's flags
    Curl(Box<curl::Args>),
    /// Run a local signing proxy: unsigned in, signed out
    Agent(agent::Args),
    /// Run the local stack: control plane and gateway
    Up(up::Args),
    /// Stop what runs in this directory
    Down(down::Args),
    /// Show what runs in this directory
    Status(status::Args),
    /// Find what is wrong with this installation, and what to type
    Doctor(doctor::Args),
    /// The control plane
    #[command(subcommand)]
    Api(api::Command),
    /// Run the gateway
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// The connections of a running gateway
    Connection(connection::Args),
    /// Services, and their connections at the gateway
    #[command(subcommand)]
    Service(service::Command),
    /// What agents ask for, and the owner's decisions
    #[command(subcommand)]
    Claim(claim::Command),
    /// The tokens of a namespace's owner
    #[command(subcommand)]
    Auth(auth::Command),
    /// The same as `auth login`
    Login(Box<auth::Login>),
    /// The gateway's store of secrets
    #[command(subcommand)]
    Vault(vault::Command),
    /// Write identities and registrations to a file, for moving between modes
    Export(Box<export::Args>),
    /// Read such a file
    Import(Box<import::Args>),
    /// Look at a gateway's configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print the versions of what this binary is made of
    Versions(versions::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page, or write all of them
    Man(man::Args),
}

/// Parses `args` (the program's name first), runs the command, and gives its exit code. A fault is a line
/// `error: …` on the error output, with what to type where that is known.
pub fn main(args: impl IntoIterator<Item = OsString>, io: &mut Io<'_>) -> ExitCode {
    let result = match Cli::try_parse_from(args) {
        Ok(cli) => run(cli, io).and_then(|exit| {
            io.out.flush()?;
            Ok(exit)
        }),
        Err(usage) => show_usage(&usage, io),
    };
    match result {
        Ok(exit) => exit.into(),
        // Whoever read the output has had enough of it, as `head` does; that is no fault.
        Err(_) if io.out.is_gone() => Exit::Done.into(),
        Err(failure) => failure.show(io),
    }
}

fn run(cli: Cli, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let global = &cli.global.settled();
    match cli.command {
        Command::Init(args) => init::run(&args, global, io),
        Command::Sign(args) => sign::run(&args, global, io),
        Command::Curl(args) => curl::run(*args, global, io),
        Command::Agent(args) => agent::run(args, global, io),
        Command::Up(args) => up::run(&args, global, io),
        Command::Down(args) => down::run(&args, io),
        Command::Status(args) => status::run(&args, global, io),
        Command::Doctor(args) => doctor::run(&args, global, io),
        Command::Api(command) => api::run(&command, global, io),
        Command::Gateway(command) => gateway::run(&command, global, io),
        Command::Connection(args) => connection::run(args, io),
        Command::Service(command) => service::run(&command, global, io),
        Command::Claim(command) => claim::run(&command, global, io),
        Command::Auth(command) => auth::run(&command, global, io),
        Command::Login(args) => auth::login(&args, global, io),
        Command::Vault(command) => vault::run(&command, io),
        Command::Export(args) => export::run(&args, global, io),
        Command::Import(args) => import::run(&args, global, io),
        Command::Config(command) => config::run(&command, io),
        Command::Versions(args) => versions::run(&args, io),
        Command::Completions(args) => completions::run(&args, Cli::command(), io),
        Command::Man(args) => man::run(&args, Cli::command(), io),
    }
}

/// Help and version go to the output; what is wrong with the arguments to the error output.
fn show_usage(usage: &clap::Error, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let text = usage.render();
    if usage.use_stderr() {
        // With the error output gone there is nobody left to tell.
        let _ = write!(io.err, "{text}");
        return Ok(Exit::Usage);
    }
    write!(io.out, "{text}")?;
    io.out.flush()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_all_commands_hold_together() {
        Cli::command().debug_assert();
    }
}
