//! The flags that every command takes: where identities are, and which one is used.

use std::path::PathBuf;

use super::place::variable;
use super::{Exit, Failure};
use crate::identity::Home;
use crate::names::Namespace;

/// The directory under the user's own that holds identities.
const HOME_NAME: &str = ".sigilum";
const HEADING: &str = "Which identity";

// The variables are not clap's to read: a gateway has variables of its own that go before them, and only what was typed
// goes before those.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The directory that holds identities [default: SIGILUM_HOME, else ~/.sigilum]
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING)]
    home: Option<PathBuf>,
    /// Which identity is used [default: SIGILUM_NAMESPACE, else the only one there is]
    #[arg(long, global = true, value_name = "NAMESPACE", help_heading = HEADING)]
    namespace: Option<String>,
    /// `SIGILUM_HOME`.
    #[arg(skip)]
    home_variable: Option<PathBuf>,
}

impl Global {
    /// With paths that mean the same once a command has gone to another directory.
    pub(crate) fn settled(self) -> Self {
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        Self {
            home: self.home.filter(given).map(absolute),
            home_variable: variable("SIGILUM_HOME").map(PathBuf::from).map(absolute),
            ..self
        }
    }

    /// `--home`, where it was typed.
    pub(crate) fn typed_home(&self) -> Option<PathBuf> {
        self.home.clone()
    }

    /// `--home`, else `$SIGILUM_HOME`, where one is given.
    pub(crate) fn given_home(&self) -> Option<PathBuf> {
        self.home.clone().or_else(|| self.home_variable.clone())
    }

    /// `--home`, else `$SIGILUM_HOME`, else `~/.sigilum`.
    pub(crate) fn home(&self) -> Result<Home, Failure> {
        let home = self.given_home().or_else(|| std::env::home_dir().map(|user| user.join(HOME_NAME)));
        let home = home.ok_or_else(|| {
            Failure::usage("this user has no home directory").hint("name one with --home DIR")
        })?;
        Ok(Home::at(&home))
    }

    /// `--namespace`, where it was typed; an empty one is none.
    pub(crate) fn typed_namespace(&self) -> Result<Option<Namespace>, Failure> {
        parsed(self.namespace.as_deref().filter(|text| !text.is_empty()))
    }

    /// `--namespace`, else `$SIGILUM_NAMESPACE`.
    pub(crate) fn namespace(&self) -> Result<Option<Namespace>, Failure> {
        match self.typed_namespace()? {
            Some(typed) => Ok(Some(typed)),
            None => parsed(variable("SIGILUM_NAMESPACE").as_deref()),
        }
    }
}

fn parsed(text: Option<&str>) -> Result<Option<Namespace>, Failure> {
    text.map(str::parse).transpose().map_err(|fault| Failure::new(Exit::Usage, fault))
}
