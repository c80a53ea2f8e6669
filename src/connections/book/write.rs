//! Changes of connections: each is one write to the vault, then a new page.

use std::collections::BTreeSet;

use super::records::{self, Records, discovery_key, document_key, facts_key, json};
use super::stored::{DEFAULT_SECRET, Document, Facts, NewSecrets, invalid};
use super::{Book, BookFault, Changed, Drain, Shelf};
use crate::connections::{
    ConnectionPatch, ConnectionView, NewConnection, Rotation, SecretInput, TestOutcome,
};
use crate::names::{ConnectionId, SecretName};
use crate::secret::{SecretBytes, SecretString};
use crate::vault::{Batch, Kind, VaultFault};

/// Bounds of what is kept.
const MOST_CONNECTIONS: usize = 10_000;
const MOST_SECRETS: usize = 16;
const LARGEST_SECRET_BYTES: usize = 16 * 1024;
const LONGEST_NAME: usize = 256;
const LONGEST_REASON: usize = 1024;

impl Book {
    /// Makes a connection. A secret that refers to a variable which is not there is taken: the view's `problem` says
    /// so, and requests are answered with `SECRET_UNREADABLE` until the variable is set.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Exists`], [`BookFault::Invalid`], [`BookFault::Secret`],
    /// [`BookFault::Sealed`], [`BookFault::TooMany`], and the vault's.
    pub fn create(&self, new: NewConnection) -> Result<ConnectionView, BookFault> {
        let shelf = &self.0;
        let vault = shelf.vault()?;
        let (id, document, secrets) = Document::new(new);
        let id: ConnectionId = id.parse().map_err(|error| invalid("id", &format!("{error}")))?;
        let secrets = self.secrets(&id, secrets)?;
        let _writing = shelf.write();
        let count = {
            let page = shelf.page.load();
            if page.entries.contains_key(&id) {
                return Err(BookFault::Exists(id));
            }
            page.entries.len()
        };
        if count >= MOST_CONNECTIONS {
            return Err(BookFault::TooMany { what: "connections", most: MOST_CONNECTIONS });
        }
        let now = shelf.clock.now();
        let mut facts =
            Facts { created_at: Some(now.millis()), updated_at: Some(now.millis()), ..Facts::default() };
        if !secrets.is_empty() {
            facts.secrets_set(now);
        }
        // What an earlier connection of this id has left, one of the configuration say, is not taken over.
        let batch = records::without(Batch::new(), &id);
        let batch = shelf.batch(batch, &id, BTreeSet::new(), document, secrets)?;
        vault.commit(shelf.with_facts(batch, &id, &facts)?)?;
        let _ = shelf.turn([id.clone()], false, |_| {});
        shelf.view(&id)
    }

    /// Changes a connection. Where its secret is all that changes, the [`LiveConnection`](crate::connections::LiveConnection)
    /// stays and the next request uses the new one.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], [`BookFault::ReadOnly`], and those of [`Book::create`].
    pub fn update(
        &self,
        id: &ConnectionId,
        patch: ConnectionPatch,
    ) -> Result<Changed<ConnectionView>, BookFault> {
        let shelf = &self.0;
        let _writing = shelf.write();
        let (document, mut facts) = shelf.stored(id)?;
        let vault = shelf.vault()?;
        let before = document.clone();
        let (document, secrets) = document.patched(patch)?;
        self.keep_to_the_way(id, &before, &document, &secrets)?;
        let secrets = self.secrets(id, secrets)?;
        let now = shelf.clock.now();
        facts.updated_at = Some(now.millis());
        let secrets_change = !secrets.is_empty();
        if secrets_change {
            facts.secrets_set(now);
        }
        let batch = shelf.batch(Batch::new(), id, shelf.names(id)?, document, secrets)?;
        vault.commit(shelf.with_facts(batch, id, &facts)?)?;
        let replaced = shelf.turn([id.clone()], secrets_change, |_| {});
        Ok(Changed { now: shelf.view(id)?, replaced })
    }

    /// Removes a connection with its secrets. Requests that are still about to take its secret get none.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], [`BookFault::ReadOnly`], and the vault's.
    pub fn delete(&self, id: &ConnectionId) -> Result<Drain, BookFault> {
        let shelf = &self.0;
        let _writing = shelf.write();
        match shelf.page.load().entries.get(id) {
            None => return Err(BookFault::NotFound(id.clone())),
            Some(entry) if entry.configured => return Err(BookFault::ReadOnly(id.clone())),
            Some(_) => {}
        }
        shelf.vault()?.commit(records::without(Batch::new(), id))?;
        Ok(shelf.turn([id.clone()], true, |_| {}))
    }

    /// Gives secrets new values, on disk when the call returns, and used by the next request. A connection of the YAML
    /// whose secret is `store` takes exactly one, `api_key`; others of the YAML are read-only.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NotFound`], [`BookFault::ReadOnly`], and those of [`Book::create`].
    pub fn rotate(
        &self,
        id: &ConnectionId,
        rotation: Rotation,
    ) -> Result<Changed<ConnectionView>, BookFault> {
        let shelf = &self.0;
        let by = remark("rotated_by", rotation.rotated_by, LONGEST_NAME)?;
        let reason = remark("rotation_reason", rotation.rotation_reason, LONGEST_REASON)?;
        if rotation.secrets.is_empty() {
            return Err(invalid("secrets", "names none; give one at least"));
        }
        let secrets = rotation.secrets.into_iter().map(|(name, secret)| (name, Some(secret))).collect();
        let _writing = shelf.write();
        let page = shelf.page.load_full();
        let entry = page.entries.get(id).ok_or_else(|| BookFault::NotFound(id.clone()))?;
        let configured = entry.stores_its_secret();
        let (document, mut facts) = if configured {
            (None, entry.facts.clone())
        } else {
            shelf.stored(id).map(|(d, f)| (Some(d), f))?
        };
        let vault = shelf.vault()?;
        let secrets = self.secrets(id, secrets)?;
        let now = shelf.clock.now();
        facts.secrets_set(now);
        (facts.rotated_by, facts.rotation_reason) = (by, reason);
        let batch = match document {
            Some(document) => {
                facts.updated_at = Some(now.millis());
                shelf.batch(Batch::new(), id, shelf.names(id)?, document, secrets)?
            }
            None if secrets.iter().all(|(name, _)| name.as_str() == DEFAULT_SECRET) => {
                set_secrets(Batch::new(), id, secrets)?
            }
            None => {
                return Err(invalid(
                    "secrets",
                    "of a connection of the configuration file takes api_key alone",
                ));
            }
        };
        vault.commit(shelf.with_facts(batch, id, &facts)?)?;
        let replaced = shelf.turn([id.clone()], true, |_| {});
        Ok(Changed { now: shelf.view(id)?, replaced })
    }

    /// Keeps what a test came to; without a vault, in memory.
    ///
    /// # Errors
    /// [`BookFault::NotFound`], and the vault's.
    pub fn record_test(&self, id: &ConnectionId, outcome: TestOutcome) -> Result<ConnectionView, BookFault> {
        let shelf = &self.0;
        let _writing = shelf.write();
        let now = shelf.clock.now();
        let error: Option<String> = outcome.error.map(|error| error.chars().take(LONGEST_REASON).collect());
        shelf.note(
            id,
            |facts| shelf.with_facts(Batch::new(), id, facts),
            |entry| {
                entry.facts.tested_at = Some(now.millis());
                entry.facts.test_passed = Some(outcome.passed);
                entry.facts.test_http_status = outcome.http_status;
                entry.facts.test_error.clone_from(&error);
            },
        )
    }

    /// Keeps what a discovery of an MCP server's tools found, at most 256 KiB of JSON; without a vault, in memory.
    ///
    /// # Errors
    /// [`BookFault::NotFound`], [`BookFault::Invalid`], and the vault's.
    pub fn record_discovery(
        &self,
        id: &ConnectionId,
        found: serde_json::Value,
    ) -> Result<ConnectionView, BookFault> {
        let shelf = &self.0;
        let bytes = json("mcp_discovery", &found)?;
        let _writing = shelf.write();
        shelf.note(
            id,
            |_| Ok(Batch::new().put(discovery_key(id).map_err(VaultFault::from)?, bytes)),
            |entry| entry.discovery = Some(found.clone()),
        )
    }
}

/// A secret that is to be set, or removed.
type Changes = Vec<(SecretName, Option<SecretString>)>;

impl Book {
    /// Reads what a change says of secrets.
    fn secrets(&self, id: &ConnectionId, secrets: NewSecrets) -> Result<Changes, BookFault> {
        let read = |(name, input): (String, Option<SecretInput>)| {
            let name: SecretName = name.parse().map_err(|error| invalid("secrets", &format!("{error}")))?;
            let secret = input.map(|input| self.take(Some(id), &name, input)).transpose()?;
            Ok((name, secret))
        };
        secrets.into_iter().map(read).collect()
    }

    /// Takes a secret in: opened where it is sealed, and fit to be injected.
    pub(super) fn take(
        &self,
        connection: Option<&ConnectionId>,
        name: &SecretName,
        input: SecretInput,
    ) -> Result<SecretString, BookFault> {
        let mut text = match input {
            SecretInput::Plain(text) => self.plain(name, text)?,
            SecretInput::Sealed(sealed) => self.unseal(&sealed, self.0.gateway_id()?, connection, name)?,
        };
        let secret = SecretString::new(std::mem::take(&mut *text))
            .map_err(|fault| BookFault::Secret { name: name.clone(), fault })?;
        let (shown, field) = (secret.expose(), format!("secrets.{name}"));
        if shown.len() > LARGEST_SECRET_BYTES {
            return Err(invalid(&field, "is longer than 16 KiB"));
        }
        if shown.starts_with("{{") && shown.ends_with("}}") && records::reference(shown).is_none() {
            return Err(invalid(
                &field,
                "refers to no variable; write {{NAME}} with letters, digits and _ in it",
            ));
        }
        Ok(secret)
    }
}

impl Shelf {
    /// The connection in the vault that a change is for.
    fn stored(&self, id: &ConnectionId) -> Result<(Document, Facts), BookFault> {
        let page = self.page.load();
        let entry = page.entries.get(id).ok_or_else(|| BookFault::NotFound(id.clone()))?;
        if entry.configured {
            return Err(BookFault::ReadOnly(id.clone()));
        }
        let unreadable =
            || invalid("id", "names a stored connection that cannot be read; delete it and make it anew");
        Ok((entry.document.clone().ok_or_else(unreadable)?, entry.facts.clone()))
    }

    /// Puts a changed connection and its secrets into a batch, once all of it is known to be right.
    fn batch(
        &self,
        batch: Batch,
        id: &ConnectionId,
        mut names: BTreeSet<SecretName>,
        mut document: Document,
        changes: Changes,
    ) -> Result<Batch, BookFault> {
        for (name, secret) in &changes {
            if secret.is_some() {
                names.insert(name.clone())
            } else {
                names.remove(name)
            };
        }
        if names.len() > MOST_SECRETS {
            return Err(BookFault::TooMany { what: "secrets of a connection", most: MOST_SECRETS });
        }
        document.settle_secret(&names)?;
        document.connection(id)?;
        let batch = batch.put(document_key(id).map_err(VaultFault::from)?, json("connection", &document)?);
        set_secrets(batch, id, changes)
    }

    fn with_facts(&self, batch: Batch, id: &ConnectionId, facts: &Facts) -> Result<Batch, BookFault> {
        Ok(batch.put(facts_key(id).map_err(VaultFault::from)?, json("connection", facts)?))
    }

    pub(super) fn names(&self, id: &ConnectionId) -> Result<BTreeSet<SecretName>, BookFault> {
        Ok(Records(self.vault()?).secret_names(id).into_iter().collect())
    }

    /// Keeps what happened to a connection; without a vault, on the page alone.
    fn note(
        &self,
        id: &ConnectionId,
        batch: impl FnOnce(&Facts) -> Result<Batch, BookFault>,
        note: impl Fn(&mut super::page::Entry),
    ) -> Result<ConnectionView, BookFault> {
        let page = self.page.load_full();
        let entry = page.entries.get(id).ok_or_else(|| BookFault::NotFound(id.clone()))?;
        let mut entry = super::page::Entry::clone(entry);
        note(&mut entry);
        if let Some(vault) = &self.vault {
            vault.commit(batch(&entry.facts)?)?;
        }
        let mut next = super::page::Page::clone(&page);
        next.entries.insert(id.clone(), std::sync::Arc::new(entry));
        self.page.store(std::sync::Arc::new(next));
        self.view(id)
    }
}

fn set_secrets(batch: Batch, id: &ConnectionId, changes: Changes) -> Result<Batch, BookFault> {
    changes.into_iter().try_fold(batch, |batch, (name, secret)| {
        let (id, name) = (id.as_str(), name.as_str());
        match secret {
            Some(secret) => {
                let value = SecretBytes::new(secret.expose().as_bytes().to_vec());
                Ok(batch.put_version(Kind::Secret, id, name, value).map_err(VaultFault::from)?)
            }
            None => {
                let key =
                    crate::vault::RecordKey::new(Kind::Secret, id, name, 0).map_err(VaultFault::from)?;
                Ok(batch.delete_versions(key))
            }
        }
    })
}

/// A text about a change, for people.
pub(super) fn remark(field: &str, text: Option<String>, longest: usize) -> Result<Option<String>, BookFault> {
    let fits = |text: &String| text.chars().count() <= longest && !text.chars().any(char::is_control);
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) if fits(&text) => Ok(Some(text)),
        Some(_) => Err(invalid(field, &format!("takes up to {longest} printable characters"))),
        None => Ok(None),
    }
}
