//! `sigilum service secret set`: the secret of a service's gateway connection.

use serde_json::Value;

use super::super::connection;
use super::super::connection::client::{Access, Client, HEADING};
use super::super::place::Place;
use super::source::Source;
use super::{Exit, Failure, Io, Report, remember};
use crate::names::{ConnectionId, SecretName};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Secret {
    /// Set or rotate it
    Set(Set),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Set {
    /// The service
    #[arg(long, value_name = "SLUG")]
    service_slug: ConnectionId,
    /// Which of its secrets [default: the one that is injected]
    #[arg(long, value_name = "KEY")]
    upstream_secret_key: Option<SecretName>,
    #[command(flatten)]
    source: Source,
    /// Print the secret
    #[arg(long)]
    reveal_secrets: bool,
    /// Where the gateway's admin API is [default: the local stack's, else http://127.0.0.1:38100]
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    gateway_admin_url: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Secret, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let Secret::Set(set) = command;
    let secret = set.source.read(io)?.ok_or_else(|| {
        Failure::usage("there is no secret to set")
            .hint("name where it is, as in --upstream-secret-env LINEAR_TOKEN")
    })?;
    let url = Place::here(None)?.admin_url(set.gateway_admin_url.as_deref());
    let client = Client::new(&url, &set.access, io)?;
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

/// The name of the secret that the connection injects.
fn injected(view: &Value) -> Result<SecretName, Failure> {
    let name = view.get("auth_secret_key").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        Failure::from(anyhow::anyhow!("the connection does not say which secret it injects"))
            .hint("name one with --upstream-secret-key KEY")
    })?;
    Ok(name.parse()?)
}
