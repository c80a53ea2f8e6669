//! References to secrets, and to files: what they look like, and whether what they name is there.

use std::path::PathBuf;

use super::fault::{Fault, FaultKind};
use super::tree::Place;
use crate::connections::SecretSource;
use crate::vault::TextSource;

/// What a reference looks like, inside a sentence.
pub(super) const TAKES: &str = "a reference to a secret, such as env:NAME or file:/path";

/// The sentence about a text that is no reference.
pub(super) const LITERAL: &str = "a secret itself never stands here; put it into an environment variable or a file, \
                                  and write env:NAME or file:/path";

/// A reference by its form.
pub(super) enum Form {
    Env(String),
    File(PathBuf),
    /// In the gateway's own vault.
    Store,
    /// Right, and not supported yet: what it is.
    Later(&'static str),
}

/// Something outside the configuration that a setting names.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) what: Referred,
}

/// What a setting names.
#[derive(Debug)]
pub(super) enum Referred {
    /// A file without which the gateway does not start.
    File(PathBuf),
    /// A secret, without which only what needs it fails.
    Secret(SecretSource),
    /// The vault's master key or passphrase, without which the gateway does not start.
    MasterKey(TextSource),
}

/// Reads a reference. No sentence repeats the text, since what is no reference may be the secret itself.
pub(super) fn parse(text: &str) -> Result<Form, &'static str> {
    if text == "store" {
        return Ok(Form::Store);
    }
    match text.split_once(':') {
        Some(("env", name)) if is_variable(name) => Ok(Form::Env(name.to_owned())),
        Some(("env", _)) => Err(
            "env: takes the name of an environment variable (letters, digits and _), such as env:OPENAI_API_KEY",
        ),
        Some(("file", path)) if is_path(path) => Ok(Form::File(PathBuf::from(path))),
        Some(("file", _)) => Err("file: takes the path of a file, such as file:/run/secrets/openai"),
        Some(("vault", entry)) if is_vault_entry(entry) => {
            Ok(Form::Later("secrets in HashiCorp Vault; use env:NAME or file:/path"))
        }
        Some(("vault", _)) => Err("vault: takes <mount>/<path>#<key>, such as vault:secret/openai#api_key"),
        _ => Err(LITERAL),
    }
}

impl Reference {
    /// Looks whether what is named is there: `None` where it is.
    pub(super) fn examine(&self, env: super::Environment<'_>) -> Option<Fault> {
        let (kind, message) = match &self.what {
            Referred::File(file) => {
                let problem = unreadable(file)?;
                (FaultKind::Error, format!("the file {} cannot be read: {problem}", file.display()))
            }
            Referred::Secret(SecretSource::File(file)) => {
                let problem = unreadable(file)?;
                let message = format!(
                    "the file {} cannot be read: {problem}; what needs this secret fails until it can",
                    file.display()
                );
                (FaultKind::Warning, message)
            }
            // Whether the vault has it is not seen without opening it.
            Referred::Secret(SecretSource::Store) => return None,
            Referred::MasterKey(source) => (FaultKind::Error, missing_master_key(source, env)?),
            Referred::Secret(SecretSource::Env(name)) => {
                if env(name).is_some_and(|value| !value.trim().is_empty()) {
                    return None;
                }
                let message = format!(
                    "the environment variable {name} is not set here; what needs this secret fails until the gateway starts with it"
                );
                (FaultKind::Warning, message)
            }
        };
        Some(self.place.fault(&self.path, kind, message))
    }
}

fn missing_master_key(source: &TextSource, env: super::Environment<'_>) -> Option<String> {
    match source {
        TextSource::Env(name) if env(name).is_none_or(|value| value.trim().is_empty()) => Some(format!(
            "the environment variable {name} is not set here, and the gateway does not start without it"
        )),
        TextSource::File(file) => {
            let problem = unreadable(file)?;
            Some(format!("the file {} cannot be read: {problem}", file.display()))
        }
        // It is not run for a check.
        _ => None,
    }
}

fn unreadable(file: &std::path::Path) -> Option<String> {
    match std::fs::metadata(file) {
        Err(error) => Some(error.kind().to_string()),
        Ok(about) if !about.is_file() => Some("it is not a file".to_owned()),
        Ok(_) => std::fs::File::open(file).err().map(|error| error.kind().to_string()),
    }
}

fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('~') && !path.chars().any(char::is_control)
}

fn is_vault_entry(entry: &str) -> bool {
    let Some((path, key)) = entry.split_once('#') else { return false };
    let whole = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
    whole(key) && path.contains('/') && path.split('/').all(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_secrets() {
        assert!(matches!(parse("env:OPENAI_API_KEY"), Ok(Form::Env(name)) if name == "OPENAI_API_KEY"));
        assert!(matches!(parse("file:/run/secrets/x"), Ok(Form::File(path)) if path.ends_with("x")));
        assert!(matches!(parse("store"), Ok(Form::Store)));
        assert!(matches!(parse("vault:secret/team/openai#key"), Ok(Form::Later(_))));
        for wrong in [
            "",
            "sk-canary",
            "env:",
            "env:sk-canary",
            "env:1A",
            "file:",
            "file:~/x",
            "vault:x",
            "vault:a/#b",
            "vault:a/b#",
            "Store",
            "ENV:A",
            "https://user:canary@host",
        ] {
            let sentence = parse(wrong).err().unwrap_or_else(|| panic!("{wrong:?} was taken"));
            assert!(!sentence.contains("canary"), "{sentence}");
        }
    }
}
