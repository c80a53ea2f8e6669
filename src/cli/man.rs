//! `sigilum man`: manual pages.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::{Exit, Failure, Io, Report};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON, with --out
    #[arg(long, requires = "out")]
    json: bool,
}

pub(super) fn run(args: &Args, command: clap::Command, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let Some(directory) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        io.out.write_all(&page)?;
        return Ok(Exit::Done);
    };
    let cannot_write = || format!("manual pages cannot be written to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(cannot_write)?;
    clap_mangen::generate_to(command, directory).with_context(cannot_write)?;
    Report::new("Manual pages written.")
        .field("directory", directory.display().to_string())
        .write(&mut io.out, args.json)?;
    Ok(Exit::Done)
}
