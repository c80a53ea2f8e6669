//! Exit codes, and faults on their way to one.

use std::fmt::Display;
use std::process::ExitCode;

use super::Io;

/// What the process's exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: not authorized.
    NotAuthorized,
    /// 4: not reachable.
    NotReachable,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotAuthorized => 3,
            Self::NotReachable => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// A command that did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
    silent: bool,
}

impl Failure {
    /// A fault with an exit code of its own.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None, silent: false }
    }

    /// The arguments cannot be what was meant.
    pub(crate) fn usage(sentence: impl Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{sentence}"))
    }

    /// Says what to type.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Gives the exit code and says nothing.
    pub(crate) fn silent(self, silent: bool) -> Self {
        Self { silent, ..self }
    }

    /// Whether it is a fault `of` this kind.
    pub(crate) fn is<E: std::error::Error + Send + Sync + 'static>(
        &self,
        of: impl FnOnce(&E) -> bool,
    ) -> bool {
        self.error.downcast_ref::<E>().is_some_and(of)
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What went wrong, with its causes, on one line.
    pub(super) fn sentence(&self) -> String {
        format!("{:#}", self.error)
    }

    /// Prints the fault and gives its exit code.
    pub(super) fn show(&self, io: &mut Io<'_>) -> ExitCode {
        if !self.silent {
            // With the error output gone there is nobody left to tell.
            let _ = writeln!(io.err, "error: {:#}", self.error);
            if let Some(hint) = &self.hint {
                let _ = writeln!(io.err, "hint: {hint}");
            }
        }
        self.exit.into()
    }
}

/// Any fault without a code of its own is 1, failed.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}
