//! `sigilum auth show`: the token that is kept.

use std::io::Write as _;
use std::path::PathBuf;

use super::super::place::{Place, openclaw_home};
use super::super::{Exit, Failure, Global, Io, Report, owner_token};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// OpenClaw's directory [default: ~/.openclaw]
    #[arg(long, value_name = "DIR")]
    openclaw_home: Option<PathBuf>,
    /// Where the token is kept [default: <openclaw-home>/.sigilum/owner-token-<namespace>.jwt]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let place = Place::here(None)?;
    let file = match &args.token_file {
        Some(file) => file.clone(),
        None => owner_token::file(&openclaw_home(args.openclaw_home.as_deref())?, &place.namespace(global)?),
    };
    let Some(token) = owner_token::read(&file, io)? else {
        let hint = owner_token::login_again(&place, place.said_namespace(global)?.as_ref());
        return Err(Failure::from(anyhow::anyhow!("token file not found: {}", file.display())).hint(hint));
    };
    let said = owner_token::said(&token)?;
    let ended = said.expires_at <= Clock::system().now();
    if ended {
        let login = owner_token::login_again(&place, Some(&said.namespace));
        writeln!(io.err, "warning: the token ended at {}; type `{login}`", said.expires_at)?;
    }
    if args.json {
        Report::new("")
            .field("namespace", said.namespace.as_str())
            .field("token_file", file.display().to_string())
            .field("expires_at", said.expires_at.to_string())
            .field("expired", ended)
            .field("token", token.expose())
            .write(&mut io.out, true)?;
    } else {
        writeln!(io.out, "{}", token.expose())?;
    }
    Ok(Exit::Done)
}
