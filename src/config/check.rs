//! `config check`: a file looked through without starting anything.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::fault::{self, Fault};
use super::{Environment, Settings};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: PathBuf,
    /// Whether a gateway would take it.
    pub ok: bool,
    /// What there is to say, in the order of the file; warnings too.
    pub faults: Vec<Fault>,
    /// What the file configures; `None` where it is refused by its form.
    pub summary: Option<Summary>,
}

/// What a right file configures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The mode.
    pub mode: String,
    /// Listeners of the data plane.
    pub listeners: usize,
    /// Provider connections.
    pub providers: usize,
    /// Claims that stand in the file, one for each key and service.
    pub static_claims: usize,
}

/// Checks the file at `path` together with the environment: its form, whether the files that it names are
/// there, and whether its secrets are.
#[must_use]
pub fn check(path: &Path, env: Environment<'_>) -> CheckReport {
    let (mut faults, summary) = match super::load_file(path, env) {
        Ok(settings) => {
            let mut faults = settings.warnings.clone();
            faults.extend(settings.examine(env));
            (faults, Some(summary(&settings)))
        }
        Err(faults) => (faults.into_all(), None),
    };
    fault::sort(&mut faults);
    CheckReport { file: path.to_owned(), ok: !faults.iter().any(Fault::is_failure), faults, summary }
}

fn summary(settings: &Settings) -> Summary {
    Summary {
        mode: settings.mode.to_string(),
        listeners: settings.gateway.listeners.len(),
        providers: settings.connections.len(),
        static_claims: settings.static_claims.len(),
    }
}

impl fmt::Display for CheckReport {
    /// One fault a line, then one line with the result; no newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            fault.write(&self.file, f)?;
            f.write_str("\n")?;
        }
        let failures = self.faults.iter().filter(|fault| fault.is_failure()).count();
        let warnings = self.faults.len() - failures;
        let file = self.file.display();
        match &self.summary {
            Some(summary) if self.ok => write!(
                f,
                "[ok] {file}: {}, {}, {}, {}",
                summary.mode,
                counted(summary.listeners, "listener"),
                counted(summary.providers, "provider"),
                counted(summary.static_claims, "static claim"),
            )?,
            _ => write!(f, "{file}: {}", counted(failures, "fault"))?,
        }
        if warnings > 0 { write!(f, ", {}", counted(warnings, "warning")) } else { Ok(()) }
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
