//! Shared credential variables: one value that several connections' secrets refer to.

use super::records::{OWN, Records, VariableFacts, is_variable, json, reference, variable_facts_key};
use super::stored::invalid;
use super::write::remark;
use super::{Book, BookFault, Changed};
use crate::connections::{NewVariable, VariableView};
use crate::names::SecretName;
use crate::secret::SecretBytes;
use crate::vault::{Batch, Kind, RecordKey, VaultFault};

const MOST_VARIABLES: usize = 1_000;
const LONGEST_SUBJECT: usize = 256;

impl Book {
    /// Sets a variable, whether or not it is there, and resolves every connection anew that refers to it. A sealed
    /// value is sealed for the connection `-` and the variable's name.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::Invalid`], [`BookFault::Secret`], [`BookFault::Sealed`],
    /// [`BookFault::TooMany`], and the vault's.
    pub fn set_variable(&self, new: NewVariable) -> Result<Changed<VariableView>, BookFault> {
        let shelf = &self.0;
        let vault = shelf.vault()?;
        let key = new.key;
        if !is_variable(&key) {
            return Err(invalid(
                "key",
                "takes a name such as OPENAI_API_KEY: letters, digits and _, up to 128",
            ));
        }
        let name: SecretName = key.parse().map_err(|error| invalid("key", &format!("{error}")))?;
        let created_by = remark("created_by_subject", new.created_by_subject, LONGEST_SUBJECT)?;
        let value = self.take(None, &name, new.value)?;
        if reference(value.expose()).is_some() {
            return Err(invalid("value", "is itself a reference; a variable holds a value"));
        }
        let _writing = shelf.write();
        let page = shelf.page.load_full();
        let stands = page.variables.get(&key);
        if stands.is_none() && page.variables.len() >= MOST_VARIABLES {
            return Err(BookFault::TooMany { what: "credential variables", most: MOST_VARIABLES });
        }
        let now = shelf.clock.now().millis();
        let facts = VariableFacts {
            created_at: stands.map_or(now, |facts| facts.created_at),
            updated_at: now,
            created_by: created_by.or_else(|| stands.and_then(|facts| facts.created_by.clone())),
        };
        let value = SecretBytes::new(value.expose().as_bytes().to_vec());
        let batch = Batch::new()
            .put_version(Kind::Variable, OWN, &key, value)
            .map_err(VaultFault::from)?
            .put(variable_facts_key(&key).map_err(VaultFault::from)?, json("key", &facts)?);
        vault.commit(batch)?;
        let refers = |(id, entry): (&_, &std::sync::Arc<super::page::Entry>)| {
            entry.references.values().any(|name| *name == key).then(|| Clone::clone(id))
        };
        let referring: Vec<_> = page.entries.iter().filter_map(refers).collect();
        let replaced = shelf.turn(referring, true, |page| {
            page.variables.insert(key.clone(), facts);
        });
        let now = shelf.page.load().variable(&key).ok_or(BookFault::NoVariable(key))?;
        Ok(Changed { now, replaced })
    }

    /// Removes a variable.
    ///
    /// # Errors
    /// [`BookFault::NoVault`], [`BookFault::NoVariable`], [`BookFault::VariableReferenced`], and the vault's.
    pub fn delete_variable(&self, key: &str) -> Result<(), BookFault> {
        let shelf = &self.0;
        let vault = shelf.vault()?;
        let _writing = shelf.write();
        if !shelf.page.load().variables.contains_key(key) {
            return Err(BookFault::NoVariable(key.chars().take(128).collect()));
        }
        let by: Vec<String> = Records(vault).referring_to(key).iter().map(ToString::to_string).collect();
        if !by.is_empty() {
            return Err(BookFault::VariableReferenced { key: key.to_owned(), by });
        }
        let value = RecordKey::new(Kind::Variable, OWN, key, 0).map_err(VaultFault::from)?;
        let facts = variable_facts_key(key).map_err(VaultFault::from)?;
        vault.commit(Batch::new().delete_versions(value).delete(facts))?;
        let _ = shelf.turn([], false, |page| {
            page.variables.remove(key);
        });
        Ok(())
    }
}
