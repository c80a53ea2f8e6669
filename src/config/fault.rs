//! What is wrong with a configuration: each fault with its place, all of them together.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One fault, with the place where it stands. It never holds a secret, nor a text taken for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where the faulty value came from.
    pub source: Source,
    /// The line in the file, from 1; `None` where the fault is not at one.
    pub line: Option<usize>,
    /// The column in the line, in characters, from 1.
    pub column: Option<usize>,
    /// The setting, such as `providers[2].auth.mode`, or the variable's name; empty for the whole file.
    pub path: String,
    /// How grave it is.
    pub kind: FaultKind,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The file.
    File,
    /// An environment variable.
    Environment,
}

/// How grave a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// It is wrong: the configuration is refused.
    Error,
    /// It is right by the contract, and not supported yet: the configuration is refused.
    NotYet,
    /// Worth a look; the configuration is taken.
    Warning,
}

impl Fault {
    /// Whether the configuration is refused for it.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.kind != FaultKind::Warning
    }

    /// The fault as one line, `file` being the name of the configuration file.
    pub(super) fn write(&self, file: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_of(&file.display(), f)
    }

    fn write_of(&self, file: &dyn fmt::Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::File => write!(f, "{file}")?,
            Source::Environment => f.write_str("environment")?,
        }
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if self.kind == FaultKind::Warning {
            f.write_str(": warning")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Display for Fault {
    /// The fault as one line, without the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_of(&"configuration", f)
    }
}

/// Why a configuration is refused: every fault that was found, warnings too, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: PathBuf,
    all: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &Path, mut all: Vec<Fault>) -> Self {
        sort(&mut all);
        Self { file: file.to_owned(), all }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.all
    }

    pub(super) fn into_all(self) -> Vec<Fault> {
        self.all
    }
}

/// Puts faults into the order of the file; those of the environment stand last.
pub(super) fn sort(faults: &mut [Fault]) {
    faults.sort_by_key(|fault| (fault.source, fault.line, fault.column));
}

impl fmt::Display for Faults {
    /// One fault a line, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.all.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.write(&self.file, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
