//! `sigilum doctor`: what is wrong with this installation, and what to type.

mod files;
mod parts;
mod tokens;

use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::connection::client::Access;
use super::place::Place;
use super::report::write_json;
use super::up::Directory;
use super::workspace::{self, Workspace};
use super::{Exit, Failure, Global, Io};
use crate::config::{CheckReport, check, process_environment};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mend what can be mended without a question: permissions, stale files, an owner token that has ended
    #[arg(long)]
    fix: bool,
    /// Look through this configuration of a gateway too, and at that gateway
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    access: Access,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at, in one word or two.
    check: &'static str,
    status: Status,
    /// What was found, as a sentence.
    detail: String,
    /// What to type; null where there is nothing to do.
    fix: Option<String>,
}

/// What is looked at, and what was found.
struct Visit<'a> {
    fix: bool,
    global: &'a Global,
    workspace: Option<Workspace>,
    /// `None` where the workspace cannot be read.
    place: Option<Place>,
    /// What to type before anything else, where the directory is another one.
    enter: Option<String>,
    findings: Vec<Finding>,
}

impl Visit<'_> {
    /// Whether the local stack is meant; in the other modes its commands would be in the way.
    fn is_local(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_local)
    }

    fn typed(&self, fix: impl Into<String>) -> Option<String> {
        let fix = fix.into();
        Some(self.enter.as_ref().map_or_else(|| fix.clone(), |enter| format!("{enter} && {fix}")))
    }

    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.findings.push(Finding { check, status: Status::Ok, detail: detail.into(), fix: None });
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, fix: impl Into<String>) {
        let fix = self.typed(fix);
        self.findings.push(Finding { check, status: Status::Warn, detail: detail.into(), fix });
    }

    fn fail(&mut self, check: &'static str, detail: impl Into<String>, fix: impl Into<String>) {
        let fix = self.typed(fix);
        self.findings.push(Finding { check, status: Status::Fail, detail: detail.into(), fix });
    }
}

pub(super) fn run(args: &Args, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    // Before the directory is another one.
    let config = args.config.as_deref().map(std::path::absolute).transpose()?;
    args.directory.enter()?;
    let (place, enter) = (Place::here(None), args.directory.line());
    if let (Ok(_), Err(failure)) = (Workspace::read(), &place) {
        return Err(Failure::usage(failure.sentence()));
    }
    let place = place.ok();
    let mut visit = Visit { fix: args.fix, global, workspace: None, place, enter, findings: Vec::new() };
    match Workspace::read() {
        Ok(Some(workspace)) => {
            visit.ok("workspace", format!("the namespace here is {}", workspace.namespace));
            visit.workspace = Some(workspace);
        }
        Ok(None) if visit.is_local() => {
            visit.warn("workspace", "there is no local stack in this directory", "sigilum up");
        }
        Ok(None) => {
            let mode = visit.place.as_ref().map(|place| place.mode().to_string()).unwrap_or_default();
            visit.ok("workspace", format!("none is needed: the mode is {mode}"));
        }
        Err(_) => {
            let file = workspace::file("workspace.json");
            let fix = format!("rm {}, then sigilum up", file.display());
            visit.fail("workspace", format!("{} cannot be read", file.display()), fix);
        }
    }
    visit.permissions();
    visit.stale_files();
    visit.space();
    visit.identity();
    visit.parts(args, config.as_deref(), io)?;
    visit.owner_token(io);
    if let Some(file) = &config {
        visit.configuration(&check(file, &process_environment));
    }
    show(&visit.findings, args.json, io)?;
    let well = visit.findings.iter().all(|finding| finding.status != Status::Fail);
    Ok(if well { Exit::Done } else { Exit::Failed })
}

impl Visit<'_> {
    fn configuration(&mut self, found: &CheckReport) {
        let file = found.file.display().to_string();
        let faults = found.faults.len();
        let fix = format!("sigilum config check {file}");
        match (found.ok, faults) {
            (true, 0) => self.ok("configuration", format!("{file} holds")),
            (true, _) => self.warn("configuration", format!("{file} has {faults} warnings"), fix),
            (false, _) => self.fail("configuration", format!("{file} has {faults} faults"), fix),
        }
    }
}

fn show(findings: &[Finding], json: bool, io: &mut Io<'_>) -> Result<(), Failure> {
    if json {
        return Ok(write_json(&mut io.out, &findings)?);
    }
    for Finding { check, status, detail, fix } in findings {
        let mark = match status {
            Status::Ok => "[ok]",
            Status::Warn => "[warn]",
            Status::Fail => "[fail]",
        };
        writeln!(io.out, "{mark} {check}: {detail}")?;
        if let Some(fix) = fix {
            writeln!(io.out, "  type: {fix}")?;
        }
    }
    Ok(())
}
