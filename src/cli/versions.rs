//! `sigilum versions`: what this binary is made of.

use super::{Exit, Failure, Io, Report};

const PROTOCOL_PROFILE: &str = "sigilum-rfc9421-v1";
/// Held to Cargo.lock by a test.
const PINGORA: &str = "0.9.1";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    Report::new(format!("sigilum {version}"))
        .field("sigilum", version)
        .field("protocol", PROTOCOL_PROFILE)
        .field("pingora", PINGORA)
        .write(&mut io.out, args.json)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pingora_s_version_is_the_locked_one() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"pingora-core\"\nversion = \"{PINGORA}\"\n")));
    }
}
