//! `sigilum service`: what belongs to a service; of it, the secret of its gateway connection.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::connection::client::{Access, Client, HEADING};
use super::connection::{self, secrets};
use super::{Exit, Failure, Io, Report, private};
use crate::names::{ConnectionId, SecretName};
use crate::secret::SecretString;

/// The data port, which hands admin requests on where `admin.on_data_port` is on.
const DEFAULT_URL: &str = "http://127.0.0.1:38100";
const WORKSPACE: &str = ".sigilum-workspace";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// The secret of a service's gateway connection
    #[command(subcommand)]
    Secret(Secret),
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Secret {
    /// Set or rotate it
    Set(Set),
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The service
    #[arg(long, value_name = "SLUG")]
    service_slug: ConnectionId,
    /// Which of its secrets [default: the one that is injected]
    #[arg(long, value_name = "KEY")]
    upstream_secret_key: Option<SecretName>,
    /// The secret itself, where other users and the shell's history see it
    #[arg(long, value_name = "VALUE", group = "source")]
    upstream_secret: Option<String>,
    /// Read it from an environment variable
    #[arg(long, value_name = "NAME", group = "source")]
    upstream_secret_env: Option<String>,
    /// Read it from a file
    #[arg(long, value_name = "FILE", group = "source")]
    upstream_secret_file: Option<String>,
    /// Read it from standard input
    #[arg(long, group = "source")]
    upstream_secret_stdin: bool,
    /// Print the secret
    #[arg(long)]
    reveal_secrets: bool,
    /// Where the gateway's admin API is
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", default_value = DEFAULT_URL, help_heading = HEADING)]
    gateway_admin_url: String,
    #[command(flatten)]
    access: Access,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let Command::Secret(Secret::Set(set)) = command;
    let secret = read(set, io)?;
    let client = Client::new(&set.gateway_admin_url, &set.access, io)?;
    let slug = &set.service_slug;
    let key = match &set.upstream_secret_key {
        Some(key) => key.clone(),
        None => injected(&connection::view(&client, slug)?)?,
    };
    let shown = set.reveal_secrets.then(|| secret.expose().to_owned());
    let view = connection::set_secret(&client, slug, &key, secret, io)?;
    let file = remember(slug, &key, &view)?;
    let mut report = Report::new(format!("Secret updated for service: {slug}"))
        .field("connection_id", slug.to_string())
        .field("secret_key", key.to_string());
    if let Some(secret) = shown {
        report = report.field("secret_value", secret);
    }
    report.field("connection_file", file.display().to_string()).write(&mut io.out, set.json)?;
    Ok(Exit::Done)
}

fn read(set: &Set, io: &mut Io<'_>) -> Result<SecretString, Failure> {
    if let Some(typed) = &set.upstream_secret {
        secrets::warn_of_typed(io)?;
        return Ok(SecretString::new(typed.clone())?);
    }
    match (&set.upstream_secret_env, &set.upstream_secret_file) {
        (Some(name), _) => secrets::from_env(name),
        (_, Some(path)) => secrets::from_file(path),
        _ if set.upstream_secret_stdin => secrets::from_input(io),
        _ => Err(Failure::usage("there is no secret to set")
            .hint("name where it is, as in --upstream-secret-env LINEAR_TOKEN")),
    }
}

/// The name of the secret that the connection injects.
fn injected(view: &Value) -> Result<SecretName, Failure> {
    let name = view.get("auth_secret_key").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        Failure::from(anyhow::anyhow!("the connection does not say which secret it injects"))
            .hint("name one with --upstream-secret-key KEY")
    })?;
    Ok(name.parse()?)
}

/// Writes down what was set where; the secret itself is in the gateway's vault alone.
fn remember(slug: &ConnectionId, key: &SecretName, view: &Value) -> Result<PathBuf, Failure> {
    let file = Path::new(WORKSPACE).join(format!("gateway-connection-secret-{slug}"));
    let record = json!({
        "connection_id": slug.as_str(),
        "secret_key": key.as_str(),
        "secret_version": view.get("secret_version"),
        "updated_at": view.get("last_rotated_at"),
    });
    private::write(&file, format!("{record:#}\n").as_bytes())?;
    Ok(file)
}
