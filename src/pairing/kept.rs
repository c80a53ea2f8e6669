//! What is kept of a pairing on disk, so that it outlives the process: `<data_dir>/pairing.json`, 0600. The code is never
//! in it: it counts once, and after that the gateway's key does.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::admin::{PairFault, Trouble};
use crate::identity::files::{self, ReadFault};
use crate::names::{Namespace, SessionId};

const VERSION: u32 = 1;

/// A pairing, as it outlives the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) session: SessionId,
    pub(super) namespace: Namespace,
    pub(super) api_url: Url,
    /// Whose key signs: a session belongs to one key.
    pub(super) signer: Option<Namespace>,
    /// Why it is over, where it is.
    pub(super) ended: Option<Trouble>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    session_id: String,
    namespace: String,
    api_url: String,
    #[serde(default)]
    signer: Option<String>,
    #[serde(default)]
    ended: Option<Trouble>,
}

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn in_directory(data_dir: &Path) -> Self {
        Self(data_dir.join("pairing.json"))
    }

    /// What is kept; the error is a sentence.
    pub(super) fn read(&self) -> Result<Option<Kept>, String> {
        let text = match files::read(&self.0) {
            Ok(text) => text,
            Err(ReadFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(ReadFault::Io(error)) => return Err(self.says(error)),
            Err(ReadFault::Open(mode)) => {
                return Err(self.says(format!("it has mode {mode:04o}, so that others could change it")));
            }
        };
        let record: Record = serde_json::from_str(&text).map_err(|fault| self.says(fault))?;
        if record.version != VERSION {
            return Err(self.says(format!("its version is {}, and {VERSION} is known", record.version)));
        }
        Ok(Some(Kept {
            session: record.session_id.parse().map_err(|fault| self.says(fault))?,
            namespace: record.namespace.parse().map_err(|fault| self.says(fault))?,
            api_url: record.api_url.parse().map_err(|fault| self.says(fault))?,
            signer: record.signer.map(|name| name.parse()).transpose().map_err(|fault| self.says(fault))?,
            ended: record.ended,
        }))
    }

    pub(super) fn write(&self, kept: &Kept) -> Result<(), PairFault> {
        let record = Record {
            version: VERSION,
            session_id: kept.session.to_string(),
            namespace: kept.namespace.to_string(),
            api_url: kept.api_url.to_string(),
            signer: kept.signer.as_ref().map(ToString::to_string),
            ended: kept.ended.clone(),
        };
        let text =
            serde_json::to_string_pretty(&record).map_err(|fault| PairFault::NotKept(self.says(fault)))?;
        let directory = self.0.parent().unwrap_or(Path::new("."));
        let written =
            files::make_directory(directory).and_then(|()| files::write(&self.0, &format!("{text}\n"), true));
        written.map_err(|error| PairFault::NotKept(self.says(error)))
    }

    pub(super) fn forget(&self) -> Result<(), PairFault> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PairFault::NotKept(self.says(error)))
            }
            _ => Ok(()),
        }
    }

    fn says(&self, cause: impl std::fmt::Display) -> String {
        format!("{}: {cause}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn kept() -> Kept {
        Kept {
            session: SessionId::from_random([7; 16]),
            namespace: "alice".parse().unwrap(),
            api_url: "https://api.example/".parse().unwrap(),
            signer: Some("gate".parse().unwrap()),
            ended: None,
        }
    }

    #[test]
    fn pairing_is_read_as_it_was_written_and_is_its_owner_s_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::in_directory(&directory.path().join("data"));
        assert_eq!(place.read(), Ok(None));
        place.write(&kept()).unwrap();
        assert_eq!(place.read(), Ok(Some(kept())));
        assert_eq!(std::fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o600);
        let ended = Kept { ended: Some(Trouble { code: "A".into(), message: "b".into() }), ..kept() };
        place.write(&ended).unwrap();
        assert_eq!(place.read(), Ok(Some(ended)));
        place.forget().unwrap();
        place.forget().unwrap();
        assert_eq!(place.read(), Ok(None));
    }

    #[test]
    fn file_that_is_no_pairing_or_stands_open_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::in_directory(directory.path());
        for text in ["", "{}", "[]", r#"{"version":2,"session_id":"","namespace":"","api_url":""}"#] {
            files::write(&place.0, text, true).unwrap();
            assert!(place.read().unwrap_err().contains("pairing.json"), "{text}");
        }
        place.write(&kept()).unwrap();
        std::fs::set_permissions(&place.0, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(place.read().unwrap_err().contains("0644"));
    }
}
