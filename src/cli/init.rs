//! `sigilum init`: makes an identity.

use super::{Exit, Failure, Global, Io, Report};
use crate::clock::Clock;
use crate::names::Namespace;
use crate::protocol::did::Did;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// 3 to 64 characters: a to z, 0 to 9 and, inside, hyphens
    #[arg(value_name = "NAMESPACE", id = "new_namespace")]
    namespace: Namespace,
    /// Replace an identity that stands; its key is lost, and every claim on it
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let home = global.home()?;
    let identity = home.create(&args.namespace, &Clock::system(), args.force)?;
    let file = home.path().join("identities").join(args.namespace.as_str()).join("identity.json");
    Report::new("Identity ready.")
        .field("namespace", args.namespace.as_str())
        .field("did", Did::of(&args.namespace).to_string())
        .field("key_id", identity.key_id().to_string())
        .field("public_key", identity.public_key().to_string())
        .field("file", file.display().to_string())
        .write(&mut io.out, args.json)?;
    Ok(Exit::Done)
}
