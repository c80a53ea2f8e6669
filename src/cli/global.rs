//! The flags that every command takes: where identities are, and which one is used.

use std::path::PathBuf;

use super::{Exit, Failure};
use crate::identity::Home;
use crate::names::Namespace;

/// The directory under the user's own that holds identities.
const HOME_NAME: &str = ".sigilum";
const HEADING: &str = "Which identity";

#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The directory that holds identities [default: ~/.sigilum]
    #[arg(long, global = true, env = "SIGILUM_HOME", hide_env_values = true, value_name = "DIR", help_heading = HEADING)]
    home: Option<PathBuf>,
    /// Which identity is used [default: the only one there is]
    #[arg(long, global = true, env = "SIGILUM_NAMESPACE", hide_env_values = true, value_name = "NAMESPACE", help_heading = HEADING)]
    namespace: Option<String>,
}

impl Global {
    /// `--home`, else `$SIGILUM_HOME`, where one is given.
    pub(crate) fn given_home(&self) -> Option<PathBuf> {
        self.home.clone().filter(|home| !home.as_os_str().is_empty())
    }

    /// `--home`, else `$SIGILUM_HOME`, else `~/.sigilum`.
    pub(crate) fn home(&self) -> Result<Home, Failure> {
        let home = self.given_home().or_else(|| std::env::home_dir().map(|user| user.join(HOME_NAME)));
        let home = home.ok_or_else(|| {
            Failure::usage("this user has no home directory").hint("name one with --home DIR")
        })?;
        Ok(Home::at(&home))
    }

    /// `--namespace`, else `$SIGILUM_NAMESPACE`; an empty one is none.
    pub(crate) fn namespace(&self) -> Result<Option<Namespace>, Failure> {
        let given = self.namespace.as_deref().filter(|text| !text.is_empty());
        given.map(str::parse).transpose().map_err(|fault| Failure::new(Exit::Usage, fault))
    }
}
