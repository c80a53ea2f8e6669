//! The directory that holds identities, and which of them is used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files::{self, ReadFault};
use crate::clock::Clock;
use crate::names::Namespace;
use crate::protocol::{Identity, IdentityFault};

/// The directory that holds identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// What goes wrong with identity files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeFault {
    /// Nothing says where the home is.
    #[error("there is no place for identities: give --home, or set SIGILUM_HOME or HOME")]
    Nowhere,
    /// The identity asked for is not there.
    #[error(
        "Sigilum identity not found for namespace \"{namespace}\" in {home}{}; make it with `sigilum init {namespace}`",
        also(found)
    )]
    Missing {
        /// The namespace asked for.
        namespace: Namespace,
        /// Where it was looked for.
        home: PathBuf,
        /// The namespaces that are there.
        found: Vec<Namespace>,
    },
    /// None was asked for, and there is none.
    #[error("no identity is in {home}; make one with `sigilum init <namespace>`")]
    NoneThere {
        /// Where it was looked for.
        home: PathBuf,
    },
    /// None was asked for, and there are several.
    #[error("several identities are in {home}: {}; choose one, as in `--namespace {first}`", list(found))]
    Several {
        /// Where they are.
        home: PathBuf,
        /// One of them, for the example.
        first: Namespace,
        /// All of them.
        found: Vec<Namespace>,
    },
    /// One stands already, and was not to be replaced.
    #[error(
        "{path} holds the identity {namespace} already; it is replaced only with --force, and its key is then gone"
    )]
    Stands {
        /// The namespace.
        namespace: Namespace,
        /// Its file.
        path: PathBuf,
    },
    /// Others than the owner have a right to the file.
    #[error("{path} has mode {mode:04o}, so others may read the private key; type `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The record in the file does not hold.
    #[error("{path}: {fault}")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        fault: IdentityFault,
    },
    /// The record names another namespace than its directory.
    #[error("{path} holds the identity {found}; in this directory it must be {expected}")]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// The namespace in the record.
        found: Namespace,
        /// The namespace that the directory is named after.
        expected: Namespace,
    },
    /// The system gives no random bytes for a key.
    #[error("the system gives no random bytes, so no key can be made")]
    NoRandom,
    /// A file or directory cannot be read or written.
    #[error("{path} cannot be {action}: {cause}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

impl Home {
    /// At this path.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The flag `--home`, else `$SIGILUM_HOME`, else `~/.sigilum`. An empty variable counts as not set.
    ///
    /// # Errors
    /// [`HomeFault::Nowhere`] when `$HOME` is not set either.
    pub fn locate(flag: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, HomeFault> {
        let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        flag.map(Path::to_owned)
            .or_else(|| set("SIGILUM_HOME"))
            .or_else(|| set("HOME").map(|home| home.join(".sigilum")))
            .map(Self)
            .ok_or(HomeFault::Nowhere)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Loads the identity of `namespace`. A symbolic link is followed: the rights of the file it leads to count.
    ///
    /// # Errors
    /// When it is not there, cannot be read, is open to others, or does not hold.
    pub fn load(&self, namespace: &Namespace) -> Result<Identity, HomeFault> {
        let path = self.file(namespace);
        let text = match files::read(&path) {
            Ok(text) => text,
            Err(ReadFault::Open(mode)) => return Err(HomeFault::Open { path, mode }),
            Err(ReadFault::Io(cause)) if cause.kind() == io::ErrorKind::NotFound => {
                let (namespace, home, found) = (namespace.clone(), self.0.clone(), self.namespaces()?);
                return Err(HomeFault::Missing { namespace, home, found });
            }
            Err(ReadFault::Io(cause)) => return Err(HomeFault::Io { path, action: "read", cause }),
        };
        let identity = match Identity::from_json(&text) {
            Ok(identity) => identity,
            Err(fault) => return Err(HomeFault::Record { path, fault }),
        };
        if identity.namespace() == namespace {
            Ok(identity)
        } else {
            let (found, expected) = (identity.namespace().clone(), namespace.clone());
            Err(HomeFault::Misplaced { path, found, expected })
        }
    }

    /// The namespaces that have an identity here, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read; one that is not there holds none.
    pub fn namespaces(&self) -> Result<Vec<Namespace>, HomeFault> {
        let directory = self.0.join("identities");
        let unreadable = |cause| HomeFault::Io { path: directory.clone(), action: "read", cause };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(unreadable(cause)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            // Parsing lowers the case, so a directory `Alice` would lead to a file in another one.
            let namespace =
                name.to_str().and_then(|text| text.parse::<Namespace>().ok().filter(|n| n.as_str() == text));
            found.extend(namespace.filter(|namespace| self.file(namespace).exists()));
        }
        found.sort();
        Ok(found)
    }

    /// Loads `wanted` (the flag, else `$SIGILUM_NAMESPACE`), else the only one there is.
    ///
    /// # Errors
    /// None or several: says what was found and what to type.
    pub fn choose(&self, wanted: Option<&Namespace>) -> Result<Identity, HomeFault> {
        if let Some(wanted) = wanted {
            return self.load(wanted);
        }
        let (home, found) = (self.0.clone(), self.namespaces()?);
        match found.as_slice() {
            [] => Err(HomeFault::NoneThere { home }),
            [only] => self.load(only),
            [first, ..] => Err(HomeFault::Several { home, first: first.clone(), found }),
        }
    }

    /// Makes a new identity (random seed) and writes it: directories 0700, file 0600, replaced atomically, fsynced.
    /// An existing one is replaced only with `force`.
    ///
    /// # Errors
    /// When one stands and `force` is not given, or it cannot be written.
    pub fn create(&self, namespace: &Namespace, clock: &Clock, force: bool) -> Result<Identity, HomeFault> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| HomeFault::NoRandom)?;
        let identity = Identity::create(namespace, *seed, clock.now());
        self.adopt(&identity, force)?;
        Ok(identity)
    }

    /// Writes an identity that was made elsewhere, in the way of [`Home::create`]; gives its file.
    ///
    /// # Errors
    /// When one stands and `force` is not given, or it cannot be written.
    pub fn adopt(&self, identity: &Identity, force: bool) -> Result<PathBuf, HomeFault> {
        let path = self.file(identity.namespace());
        match self.write(&path, &Zeroizing::new(identity.to_json()), force) {
            Ok(()) => Ok(path),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                Err(HomeFault::Stands { namespace: identity.namespace().clone(), path })
            }
            Err(cause) => Err(HomeFault::Io { path, action: "written", cause }),
        }
    }

    /// The directories of ours are closed to others even where they stood open; the home itself may be a place that
    /// the user chose, and is left as it is.
    fn write(&self, path: &Path, text: &str, force: bool) -> io::Result<()> {
        let directory = path.parent().unwrap_or(&self.0);
        files::make_directory(directory)?;
        files::close_directory(&self.0.join("identities"))?;
        files::close_directory(directory)?;
        files::write(path, text, force)
    }

    fn file(&self, namespace: &Namespace) -> PathBuf {
        self.0.join("identities").join(namespace.as_str()).join("identity.json")
    }
}

fn list(found: &[Namespace]) -> String {
    found.iter().map(Namespace::as_str).collect::<Vec<_>>().join(", ")
}

fn also(found: &[Namespace]) -> String {
    if found.is_empty() { String::new() } else { format!(" (there: {})", list(found)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::UnixTime;

    struct Place {
        home: Home,
        _directory: tempfile::TempDir,
    }

    fn place(namespaces: &[&str]) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(&directory.path().join("home"));
        for namespace in namespaces {
            home.create(&namespace.parse().unwrap(), &clock(), false).unwrap();
        }
        Place { home, _directory: directory }
    }

    fn clock() -> Clock {
        Clock::fixed(UnixTime::from_secs(1_771_610_666))
    }

    fn name(text: &str) -> Namespace {
        text.parse().unwrap()
    }

    /// The fault of `choose`, as the user reads it.
    fn refused(place: &Place, wanted: Option<&str>) -> String {
        let sentence = place.home.choose(wanted.map(name).as_ref()).err().unwrap().to_string();
        sentence.replace(place.home.path().to_str().unwrap(), "HOME")
    }

    #[test]
    fn home_is_the_flag_then_the_variable_then_the_users_own() {
        let env = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        let both = env(&[("SIGILUM_HOME", "/variable"), ("HOME", "/home/ann")]);
        assert_eq!(Home::locate(Some(Path::new("/flag")), &both).unwrap().path(), Path::new("/flag"));
        assert_eq!(Home::locate(None, &both).unwrap().path(), Path::new("/variable"));
        let empty = env(&[("SIGILUM_HOME", ""), ("HOME", "/home/ann")]);
        assert_eq!(Home::locate(None, &empty).unwrap().path(), Path::new("/home/ann/.sigilum"));
        assert!(matches!(Home::locate(None, &env(&[])), Err(HomeFault::Nowhere)));
    }

    #[test]
    fn identity_that_was_made_is_loaded_again() {
        let place = place(&[]);
        let made = place.home.create(&name("alice"), &clock(), false).unwrap();
        let loaded = place.home.load(&name("alice")).unwrap();
        assert_eq!(loaded.public_key(), made.public_key());
        assert_eq!(loaded.key_id(), made.key_id());
    }

    #[test]
    fn identity_that_stands_is_replaced_only_with_force() {
        let place = place(&["alice"]);
        let key = *place.home.load(&name("alice")).unwrap().public_key();
        assert!(matches!(place.home.create(&name("alice"), &clock(), false), Err(HomeFault::Stands { .. })));
        assert_eq!(*place.home.load(&name("alice")).unwrap().public_key(), key);
        place.home.create(&name("alice"), &clock(), true).unwrap();
        assert_ne!(*place.home.load(&name("alice")).unwrap().public_key(), key);
    }

    #[test]
    fn only_identity_is_chosen_without_being_named() {
        let place = place(&["alice"]);
        assert_eq!(place.home.choose(None).unwrap().namespace(), &name("alice"));
    }

    #[test]
    fn none_or_several_say_what_was_found_and_what_to_type() {
        assert_eq!(
            refused(&place(&[]), None),
            "no identity is in HOME; make one with `sigilum init <namespace>`"
        );
        let two = place(&["bob", "alice"]);
        assert_eq!(
            refused(&two, None),
            "several identities are in HOME: alice, bob; choose one, as in `--namespace alice`"
        );
        assert_eq!(
            refused(&two, Some("carol")),
            "Sigilum identity not found for namespace \"carol\" in HOME (there: alice, bob); make it with `sigilum init carol`"
        );
    }

    #[test]
    fn identity_open_to_others_is_refused_with_the_command_to_type() {
        let place = place(&["alice"]);
        let path = place.home.file(&name("alice"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            refused(&place, None),
            "HOME/identities/alice/identity.json has mode 0644, so others may read the private key; type `chmod 600 HOME/identities/alice/identity.json`"
        );
    }

    #[test]
    fn record_in_the_directory_of_another_namespace_is_refused() {
        let place = place(&["alice", "bob"]);
        fs::copy(place.home.file(&name("alice")), place.home.file(&name("bob"))).unwrap();
        assert!(matches!(place.home.load(&name("bob")), Err(HomeFault::Misplaced { .. })));
    }

    #[test]
    fn what_is_no_identity_is_not_listed() {
        let place = place(&["alice"]);
        let identities = place.home.path().join("identities");
        fs::create_dir(identities.join("empty-one")).unwrap();
        fs::create_dir(identities.join("Upper")).unwrap();
        fs::write(identities.join("file"), "").unwrap();
        assert_eq!(place.home.namespaces().unwrap(), [name("alice")]);
    }
}
