//! A service's API key, and the file that keeps it.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::super::control_client::{Control, text};
use super::{Failure, private, workspace};
use crate::names::ServiceSlug;
use crate::secret::SecretString;

/// A key that the control plane takes, and where it is kept.
pub(super) struct ServiceKey {
    pub(super) key: SecretString,
    pub(super) file: PathBuf,
}

/// The key in the file, where it is one of the service's active ones; else a new one, which takes its place.
pub(super) fn service_key(control: &Control, id: &str, slug: &ServiceSlug) -> Result<ServiceKey, Failure> {
    let file = workspace::file(&format!("service-api-key-{slug}"));
    let path = ["v1", "services", id, "keys"];
    if let Some(key) = kept(&file)? {
        let active = control.get(&path, &[])?;
        let active = active.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        // The control plane shows the beginning of a key alone; with five keys at the most, that is proof enough.
        let is_it = |known: &Value| {
            let prefix = text(known, "prefix");
            !prefix.is_empty() && key.expose().starts_with(prefix)
        };
        if active.iter().any(is_it) {
            return Ok(ServiceKey { key, file });
        }
    }
    let made = control.post(&path, &json!({ "name": "sigilum service add" }))?;
    let key = text(&made, "key").to_owned();
    let key = SecretString::new(key).context("the control plane made no key")?;
    private::write(&file, format!("{}\n", key.expose()).as_bytes())?;
    Ok(ServiceKey { key, file })
}

fn kept(file: &PathBuf) -> Result<Option<SecretString>, Failure> {
    match std::fs::read_to_string(file) {
        // What is no key is replaced, as one that does not hold is.
        Ok(text) => Ok(SecretString::new(text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(anyhow::Error::new(error).context(format!("{} cannot be read", file.display())).into())
        }
    }
}
