//! What a batch comes to on the records that are there.

use std::collections::BTreeMap;

use super::batch::{Batch, Change, VERSIONS_KEPT};
use super::contents::Records;
use super::fault::VaultFault;
use super::record::{Kind, RecordKey};
use crate::secret::SecretBytes;

/// What a batch sets and removes, before it is sealed.
pub(super) type Pending = BTreeMap<RecordKey, Option<SecretBytes>>;

/// What a batch comes to on these records, and the versions that it adds.
pub(super) fn resolve(records: &Records, batch: Batch) -> Result<(Pending, Vec<RecordKey>), VaultFault> {
    let (mut pending, mut added) = (Pending::new(), Vec::new());
    for change in batch.changes {
        match change {
            Change::Put(key, value) => {
                pending.insert(key, Some(value));
            }
            Change::Create(key, value) => {
                let stands = pending.get(&key).map_or_else(|| records.contains_key(&key), Option::is_some);
                if stands {
                    return Err(VaultFault::Exists(key));
                }
                pending.insert(key, Some(value));
            }
            Change::PutVersion(key, value) => {
                let stand = versions(records, &pending, &key);
                let next = key.with_version(stand.last().map_or(1, |last| last.saturating_add(1)));
                for old in stand.iter().rev().skip(VERSIONS_KEPT - 1) {
                    pending.insert(key.with_version(*old), None);
                }
                added.push(next.clone());
                pending.insert(next, Some(value));
            }
            Change::Delete(key) => {
                pending.insert(key, None);
            }
            Change::DeleteVersions(key) => {
                for version in versions(records, &pending, &key) {
                    pending.insert(key.with_version(version), None);
                }
            }
            Change::DeleteOwned(kind, owner) => {
                for key in owned(records, &pending, kind, &owner) {
                    pending.insert(key, None);
                }
            }
        }
    }
    // What is removed without being there is no write.
    pending.retain(|key, value| value.is_some() || records.contains_key(key));
    Ok((pending, added))
}

/// The versions of a record that stand, in order, with what is pending.
fn versions(records: &Records, pending: &Pending, key: &RecordKey) -> Vec<u64> {
    owned(records, pending, key.kind(), key.owner())
        .into_iter()
        .filter(|other| other.is_version_of(key) && other.version() > 0)
        .map(|other| other.version())
        .collect()
}

fn owned(records: &Records, pending: &Pending, kind: Kind, owner: &str) -> Vec<RecordKey> {
    let mine = |key: &RecordKey| key.kind() == kind && key.owner() == owner;
    let first = RecordKey::first_of(kind, Some(owner));
    let stand = records.range(&first..).map(|(key, _)| key).take_while(|key| mine(key));
    let kept = stand.filter(|key| !pending.contains_key(*key));
    let set = pending.iter().filter(|(key, value)| value.is_some() && mine(key)).map(|(key, _)| key);
    let mut all: Vec<RecordKey> = kept.chain(set).cloned().collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::super::contents::Stored;
    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    fn key(name: &str, version: u64) -> RecordKey {
        RecordKey::new(Kind::Secret, "openai", name, version).unwrap()
    }

    fn records(keys: &[RecordKey]) -> Records {
        keys.iter().map(|key| (key.clone(), Stored::new(b"sealed"))).collect()
    }

    #[test]
    fn next_version_removes_all_but_the_last_five() {
        let stand = records(&(1..=5).map(|version| key("api_key", version)).collect::<Vec<_>>());
        let batch = Batch::new().put_version(Kind::Secret, "openai", "api_key", secret("new")).unwrap();
        let (pending, added) = resolve(&stand, batch).unwrap();
        assert_eq!(added, [key("api_key", 6)]);
        let changed: Vec<_> = pending.iter().map(|(key, value)| (key.version(), value.is_some())).collect();
        assert_eq!(changed, [(1, false), (6, true)]);
    }

    #[test]
    fn changes_of_one_batch_see_those_before_them() {
        let batch = Batch::new()
            .put_version(Kind::Secret, "openai", "a", secret("1"))
            .and_then(|batch| batch.put_version(Kind::Secret, "openai", "a", secret("2")))
            .unwrap()
            .create(key("b", 0), secret("b"))
            .delete_owned(Kind::Secret, "openai")
            .create(key("b", 0), secret("c"));
        let (pending, added) = resolve(&records(&[key("old", 1)]), batch).unwrap();
        assert_eq!(added, [key("a", 1), key("a", 2)]);
        let left: Vec<_> = pending.iter().map(|(key, value)| (key.clone(), value.is_some())).collect();
        assert_eq!(left, [(key("b", 0), true), (key("old", 1), false)]);
    }

    #[test]
    fn record_that_stands_is_not_made_again() {
        let batch = Batch::new().create(key("a", 1), secret("x"));
        assert!(matches!(resolve(&records(&[key("a", 1)]), batch), Err(VaultFault::Exists(_))));
    }

    #[test]
    fn removing_what_is_not_there_is_no_write() {
        let batch = Batch::new().delete(key("a", 1)).delete_versions(key("a", 0));
        assert!(resolve(&Records::new(), batch).unwrap().0.is_empty());
    }
}
