//! What the book keeps in the vault, and under which addresses.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BookFault;
use super::stored::{DEFAULT_SECRET, Document, Facts, USERNAME};
use crate::clock::UnixTime;
use crate::connections::{Auth, SecretUnreadable};
use crate::names::{ConnectionId, SecretName};
use crate::secret::{SecretBytes, SecretFault, SecretString};
use crate::vault::{Batch, Kind, RecordFault, RecordKey, RecordKeyFault, Vault};

/// The owner of what is the gateway's own; no connection is called that.
pub(super) const OWN: &str = "-";
/// The owner of what is known about variables.
const FACTS: &str = "facts";
const DOCUMENT: &str = "document";
const DISCOVERY: &str = "discovery";
const SERVICE_KEY: &str = "api_key";

/// When a variable was set, and by whom. Its value is another record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct VariableFacts {
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    pub(super) created_by: Option<String>,
}

/// A secret as resolved, and when its value was last replaced, where a variable says so.
pub(super) type Resolved = Result<(Option<SecretString>, Option<UnixTime>), SecretUnreadable>;

pub(super) fn document_key(id: &ConnectionId) -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::Connection, id.as_str(), DOCUMENT, 0)
}

pub(super) fn facts_key(id: &ConnectionId) -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::Connection, id.as_str(), FACTS, 0)
}

pub(super) fn discovery_key(id: &ConnectionId) -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::Connection, id.as_str(), DISCOVERY, 0)
}

pub(super) fn service_key(id: &ConnectionId) -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::ServiceKey, id.as_str(), SERVICE_KEY, 0)
}

pub(super) fn variable_facts_key(name: &str) -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::Variable, FACTS, name, 0)
}

pub(super) fn catalog_key() -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::Catalog, OWN, "catalog", 0)
}

pub(super) fn sealing_key() -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::GatewayKey, OWN, "sealing-x25519", 0)
}

/// The page of that number of the seals that are used up.
pub(super) fn seals_key(page: usize) -> Result<RecordKey, RecordKeyFault> {
    RecordKey::new(Kind::Seals, OWN, &format!("{page:06}"), 0)
}

/// JSON for the vault.
pub(super) fn json<T: Serialize>(field: &str, value: &T) -> Result<SecretBytes, BookFault> {
    const LARGEST_BYTES: usize = 256 * 1024;
    match serde_json::to_vec(value) {
        Ok(bytes) if bytes.len() <= LARGEST_BYTES => Ok(SecretBytes::new(bytes)),
        Ok(_) => Err(super::stored::invalid(field, "is larger than 256 KiB as JSON")),
        Err(_) => Err(super::stored::invalid(field, "is no JSON")),
    }
}

/// Removes everything of a connection.
pub(super) fn without(batch: Batch, id: &ConnectionId) -> Batch {
    [Kind::Connection, Kind::Secret, Kind::ServiceKey]
        .into_iter()
        .fold(batch, |batch, kind| batch.delete_owned(kind, id.as_str()))
}

/// The vault as the book reads it.
#[derive(Clone, Copy)]
pub(super) struct Records<'v>(pub(super) &'v Vault);

impl Records<'_> {
    /// The connections that are stored, readable or not.
    pub(super) fn ids(self) -> Vec<ConnectionId> {
        let documents = self.0.list(Kind::Connection, None).into_iter().filter(|key| key.name() == DOCUMENT);
        documents.filter_map(|key| key.owner().parse().ok()).collect()
    }

    /// A connection's document; `None` where there is none.
    pub(super) fn document(self, id: &ConnectionId) -> Result<Option<Document>, SecretUnreadable> {
        let Ok(key) = document_key(id) else { return Ok(None) };
        let Some(bytes) = self.0.get(&key)? else { return Ok(None) };
        match serde_json::from_slice(bytes.expose()) {
            Ok(document) => Ok(Some(document)),
            Err(_) => Err(SecretUnreadable::Document(id.clone())),
        }
    }

    /// What has happened to a connection; nothing is known where the record cannot be read.
    pub(super) fn facts(self, id: &ConnectionId) -> Facts {
        facts_key(id).ok().and_then(|key| self.parsed(&key)).unwrap_or_default()
    }

    pub(super) fn discovery(self, id: &ConnectionId) -> Option<serde_json::Value> {
        discovery_key(id).ok().and_then(|key| self.parsed(&key))
    }

    pub(super) fn parsed<T: DeserializeOwned>(self, key: &RecordKey) -> Option<T> {
        match self.0.get(key) {
            Ok(bytes) => bytes.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()),
            Err(fault) => {
                tracing::error!(%fault, "a record of the vault cannot be read");
                None
            }
        }
    }

    /// The names of a connection's secrets, in order.
    pub(super) fn secret_names(self, id: &ConnectionId) -> Vec<SecretName> {
        let mut names: Vec<SecretName> = self
            .0
            .list(Kind::Secret, Some(id.as_str()))
            .into_iter()
            .filter_map(|key| key.name().parse().ok())
            .collect();
        names.dedup();
        names
    }

    /// By secret, the variables that a connection's secrets refer to.
    pub(super) fn references(self, id: &ConnectionId) -> BTreeMap<String, String> {
        let refers = |name: SecretName| {
            let text = self.text(Kind::Secret, id.as_str(), name.as_str()).ok()??;
            Some((name.as_str().to_owned(), reference(text.expose())?.to_owned()))
        };
        self.secret_names(id).into_iter().filter_map(refers).collect()
    }

    /// Every connection with a secret that refers to a variable, also those that the configuration stands before.
    pub(super) fn referring_to(self, variable: &str) -> Vec<ConnectionId> {
        let mut owners: Vec<ConnectionId> =
            self.0.list(Kind::Secret, None).iter().filter_map(|key| key.owner().parse().ok()).collect();
        owners.dedup();
        owners.retain(|id| self.references(id).values().any(|name| name == variable));
        owners
    }

    pub(super) fn variables(self) -> BTreeMap<String, VariableFacts> {
        let named = |key: RecordKey| Some((key.name().to_owned(), self.parsed(&key).unwrap_or_default()));
        self.0.list(Kind::Variable, Some(FACTS)).into_iter().filter_map(named).collect()
    }

    /// The secret to be injected: `key` of the connection, references followed.
    pub(super) fn resolve(self, id: &ConnectionId, auth: &Auth, key: &str) -> Resolved {
        if *auth == Auth::None {
            return Ok((None, None));
        }
        let (mut secret, at) = self.value(id, key)?;
        let username = self.secret_names(id).into_iter().any(|name| name.as_str() == USERNAME);
        if *auth == Auth::BasicPair && key != USERNAME && username {
            let (username, _) = self.value(id, USERNAME)?;
            secret = usable(format!("{}:{}", username.expose(), secret.expose()), key)?;
        }
        Ok((Some(secret), at))
    }

    /// One secret, its reference followed.
    fn value(
        self,
        id: &ConnectionId,
        name: &str,
    ) -> Result<(SecretString, Option<UnixTime>), SecretUnreadable> {
        let missing = || SecretUnreadable::NotStored { connection: id.clone(), name: name.to_owned() };
        let own = self.text(Kind::Secret, id.as_str(), name)?.ok_or_else(missing)?;
        let Some(variable) = reference(own.expose()) else { return Ok((own, None)) };
        let unset = || SecretUnreadable::NoVariable { name: name.to_owned(), variable: variable.to_owned() };
        let shared = self.text(Kind::Variable, OWN, variable)?.ok_or_else(unset)?;
        let facts: Option<VariableFacts> =
            variable_facts_key(variable).ok().and_then(|key| self.parsed(&key));
        Ok((shared, facts.map(|facts| UnixTime::from_millis(facts.updated_at))))
    }

    /// The latest version of a text.
    pub(super) fn text(
        self,
        kind: Kind,
        owner: &str,
        name: &str,
    ) -> Result<Option<SecretString>, SecretUnreadable> {
        let Some((_, bytes)) = self.0.latest(kind, owner, name)? else { return Ok(None) };
        let text = String::from_utf8(bytes.expose().to_vec()).unwrap_or_default();
        usable(text, name).map(Some)
    }

    pub(super) fn bytes(self, key: &RecordKey) -> Result<Option<SecretBytes>, RecordFault> {
        self.0.get(key)
    }
}

fn usable(text: String, name: &str) -> Result<SecretString, SecretUnreadable> {
    SecretString::new(text).map_err(|fault: SecretFault| SecretUnreadable::Unusable {
        source_name: format!("the vault's secret {name}"),
        fault,
    })
}

/// The variable that a secret's text refers to: the whole text is `{{NAME}}`.
pub(super) fn reference(text: &str) -> Option<&str> {
    let name = text.strip_prefix("{{")?.strip_suffix("}}")?.trim();
    is_variable(name).then_some(name)
}

/// `^[A-Za-z_][A-Za-z0-9_]{0,127}$`.
pub(super) fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The name that a connection of the configuration whose secret is `store` has it under.
pub(super) const fn configured_secret() -> &'static str {
    DEFAULT_SECRET
}
