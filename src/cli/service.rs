//! `sigilum service`: services at the control plane, and their connections at the gateway.

mod add;
mod gateway;
mod key;
mod list;
mod offline;
mod secret;
mod source;

use std::path::PathBuf;

use serde_json::{Value, json};

pub(super) use self::gateway::missing_claims;
pub(super) use self::list::all;
use super::{Exit, Failure, Global, Io, Report, private, workspace};
use crate::names::{ConnectionId, SecretName};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Register a service and, in gateway mode, make its connection; run again, it changes them
    Add(Box<add::Add>),
    /// Show the services of a namespace
    List(list::List),
    /// The secret of a service's gateway connection
    #[command(subcommand)]
    Secret(secret::Secret),
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    match command {
        Command::Add(args) => add::run(args, global, io),
        Command::List(args) => list::run(args, global, io),
        Command::Secret(secret) => secret::run(secret, io),
    }
}

/// Writes down what was set where; the secret itself is in the gateway's vault alone.
fn remember(slug: &ConnectionId, key: &SecretName, view: &Value) -> Result<PathBuf, Failure> {
    let file = workspace::file(&format!("gateway-connection-secret-{slug}"));
    let record = json!({
        "connection_id": slug.as_str(),
        "secret_key": key.as_str(),
        "secret_version": view.get("secret_version"),
        "updated_at": view.get("last_rotated_at"),
    });
    private::write(&file, format!("{record:#}\n").as_bytes())?;
    Ok(file)
}
