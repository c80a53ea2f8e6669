//! `sigilum api owner create`: an owner and a token, on the machine of the control plane.

use std::io::Write as _;

use super::auth::Ttl;
use super::local_plane::LocalPlane;
use super::place::Place;
use super::{Exit, Failure, Global, Io, Report};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an owner where there is none, and print a token, once
    Create(Create),
}

/// The database is that of `DATABASE_URL`, else the local one; the token is signed with `JWT_SECRET`.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The owner's e-mail address
    #[arg(long, value_name = "EMAIL")]
    email: String,
    #[command(flatten)]
    ttl: Ttl,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let Command::Create(create) = command;
    let namespace = global.namespace()?.ok_or_else(|| {
        Failure::usage("whose owner is to be made is not said")
            .hint("name the namespace with --namespace NAMESPACE")
    })?;
    if !create.email.contains('@') || create.email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Failure::usage("the owner's e-mail address must have the form name@host"));
    }
    let ttl = create.ttl.get()?;
    let place = Place::here(None)?;
    let plane = LocalPlane::there(&place)?.ok_or_else(|| {
        let directory = place.api_data();
        Failure::from(anyhow::anyhow!("there is no control plane's data at {}", directory.display()))
            .hint("set DATABASE_URL and JWT_SECRET as for `sigilum api start`")
    })?;
    let issued = plane.issue(&namespace, &create.email, ttl)?;
    let mut report = Report::new("Owner ready.")
        .field("namespace", issued.owner.namespace.as_str())
        .field("email", issued.owner.email.as_str())
        .field("owner_id", issued.owner.id.as_str())
        .field("expires_at", issued.expires_at.to_string());
    if create.json {
        report = report.field("token", issued.token.expose());
    }
    report.write(&mut io.out, create.json)?;
    if !create.json {
        writeln!(io.out, "[i] JWT, kept nowhere:\n{}", issued.token.expose())?;
    }
    Ok(Exit::Done)
}
