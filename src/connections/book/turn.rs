//! Turning the page: the connections that a change concerns are read anew, and all others stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::page::{Entry, Page, withdraw};
use super::records::{Records, Resolved, configured_secret};
use super::stored::Document;
use super::{Drain, Shelf};
use crate::clock::UnixTime;
use crate::connections::live::Retired;
use crate::connections::{Connection, LiveConnection, SecretSource, SecretUnreadable};
use crate::names::ConnectionId;

/// What a connection is by its sources.
struct Read {
    config: Connection,
    document: Option<Document>,
    /// Why it cannot be read at all.
    damage: Option<SecretUnreadable>,
}

impl Shelf {
    /// Puts the YAML's connections in place of the present ones, and reads those in `also`. Who calls it holds the
    /// lock, or is alone.
    pub(super) fn configure(&self, configured: Vec<Connection>, also: Vec<ConnectionId>) {
        let next: BTreeMap<ConnectionId, Connection> =
            configured.into_iter().map(|config| (config.id.clone(), config)).collect();
        let page = self.page.load_full();
        let differs = |id: &&ConnectionId| page.configured.get(*id) != next.get(*id);
        let changed: BTreeSet<ConnectionId> =
            page.configured.keys().chain(next.keys()).filter(differs).cloned().chain(also).collect();
        // Requests that are under way end with the secret that they began with.
        let _ = self.turn(changed, false, |page| page.configured = next);
    }

    /// Makes the next page: `edit`, and the connections `changed` read anew. With `withdrawn`, what a connection was
    /// before loses its secret, and what is given must be drained.
    pub(super) fn turn(
        &self,
        changed: impl IntoIterator<Item = ConnectionId>,
        withdrawn: bool,
        edit: impl FnOnce(&mut Page),
    ) -> Drain {
        let mut page = Page::clone(&self.page.load());
        edit(&mut page);
        let (mut retired, mut others) = (Vec::new(), false);
        for id in changed {
            let before = page.entries.remove(&id);
            let now = self.read(&page, &id, before.as_deref(), &mut retired);
            let live = |entry: Option<&Arc<LiveConnection>>| entry.map(Arc::as_ptr);
            others |=
                live(before.as_ref().map(|entry| &entry.live)) != live(now.as_ref().map(|entry| &entry.live));
            match (now, before) {
                (Some(mut entry), _) => {
                    if withdrawn {
                        retired.extend(entry.withdraw_formers());
                    }
                    page.entries.insert(id, Arc::new(entry));
                }
                (None, Some(gone)) if withdrawn => {
                    let mut gone = Entry::clone(&gone);
                    retired.push(withdraw(&gone.live));
                    retired.extend(gone.withdraw_formers());
                }
                (None, _) => {}
            }
        }
        self.page.store(Arc::new(page));
        if others {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        if withdrawn { Drain(retired) } else { Drain::default() }
    }

    /// A connection as its sources have it now; `None` where none has it.
    fn read(
        &self,
        page: &Page,
        id: &ConnectionId,
        before: Option<&Entry>,
        retired: &mut Vec<Retired>,
    ) -> Option<Entry> {
        let records = self.vault.as_ref().map(Records);
        let stored = records.map_or(Ok(None), |records| records.document(id));
        let configured = page.configured.get(id);
        let shadows_stored = configured.is_some() && !matches!(stored, Ok(None));
        let read = Read::of(id, configured, stored)?;
        let facts = match (records, before) {
            (Some(records), _) => records.facts(id),
            (None, before) => before.map(|entry| entry.facts.clone()).unwrap_or_default(),
        };
        let discovery = match (records, before) {
            (Some(records), _) => records.discovery(id),
            (None, before) => before.and_then(|entry| entry.discovery.clone()),
        };
        let same = before.filter(|entry| *entry.live.config() == read.config);
        let live = if read.config.secret == Some(SecretSource::Store) {
            let rotated_at = facts.rotated_at.map(UnixTime::from_millis);
            let (secret, shared_at) = match read.resolve(records) {
                Ok((secret, at)) => (Ok(secret), at),
                Err(unreadable) => (Err(unreadable), None),
            };
            let rotated_at = rotated_at.max(shared_at);
            if let Some(entry) = same {
                retired.push(entry.live.swap(secret, rotated_at));
                Arc::clone(&entry.live)
            } else {
                Arc::new(LiveConnection::with(read.config, secret, rotated_at))
            }
        } else {
            same.map_or_else(|| Arc::new(LiveConnection::open(read.config)), |entry| Arc::clone(&entry.live))
        };
        let uses_vault = configured.is_none() || live.config().secret == Some(SecretSource::Store);
        let records = records.filter(|_| uses_vault);
        Some(Entry {
            formers: formers(before, &live),
            live,
            document: read.document,
            facts,
            discovery,
            names: records.map(|records| records.secret_names(id)).unwrap_or_default(),
            references: records.map(|records| records.references(id)).unwrap_or_default(),
            configured: configured.is_some(),
            shadows_stored,
        })
    }
}

impl Read {
    fn of(
        id: &ConnectionId,
        configured: Option<&Connection>,
        stored: Result<Option<Document>, SecretUnreadable>,
    ) -> Option<Self> {
        if let Some(config) = configured {
            return Some(Self { config: config.clone(), document: None, damage: None });
        }
        let damaged = |damage: SecretUnreadable| {
            tracing::error!(connection = %id, %damage, "a stored connection cannot be read");
            let mut config = Connection::named(id.clone());
            config.secret = Some(SecretSource::Store);
            Some(Self { config, document: None, damage: Some(damage) })
        };
        match stored {
            Ok(None) => None,
            Ok(Some(document)) => match document.connection(id) {
                Ok(config) => Some(Self { config, document: Some(document), damage: None }),
                Err(_) => damaged(SecretUnreadable::Document(id.clone())),
            },
            Err(unreadable) => damaged(unreadable),
        }
    }

    fn resolve(&self, records: Option<Records<'_>>) -> Resolved {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        let records = records.ok_or(SecretUnreadable::NoVault)?;
        let key = self.document.as_ref().map_or(configured_secret(), Document::secret_key);
        let resolved = records.resolve(&self.config.id, &self.config.auth, key);
        if let Err(unreadable) = &resolved {
            tracing::warn!(connection = %self.config.id, %unreadable, "a connection has no secret to inject");
        }
        resolved
    }
}

/// What a connection was before and some request may still have.
fn formers(before: Option<&Entry>, live: &Arc<LiveConnection>) -> Vec<Weak<LiveConnection>> {
    let Some(before) = before else { return Vec::new() };
    let kept = before.formers.iter().filter(|former| former.strong_count() > 0).cloned();
    let replaced = (!Arc::ptr_eq(&before.live, live)).then(|| Arc::downgrade(&before.live));
    kept.chain(replaced).collect()
}
