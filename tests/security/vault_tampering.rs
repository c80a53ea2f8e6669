//! Somebody who can write the data directory, and has no key: nothing that they swap, bring back or take away passes.

use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use sigilum::vault::{Batch, Kind, RecordKey, Vault, VaultFault};

use crate::resilience::vault_kit::{self as kit, Place};

/// Works on the records below the vault, as they lie on disk. Keys end with the version; names in them are plain.
fn below(vault: &Path, work: impl FnOnce(&fjall::Keyspace)) {
    let database = Database::builder(vault.join("store")).open().unwrap();
    let records = database.keyspace("records", KeyspaceCreateOptions::default).unwrap();
    work(&records);
    database.persist(PersistMode::SyncAll).unwrap();
}

/// Key and value on disk of the record whose key has this text in it.
fn raw(records: &fjall::Keyspace, text: &str) -> (Vec<u8>, Vec<u8>) {
    let items = records.iter().map(|item| item.into_inner().unwrap());
    let mut found: Vec<_> = items
        .filter(|(key, _)| memchr::memmem::find(key, text.as_bytes()).is_some())
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    assert_eq!(found.len(), 1, "{text}");
    found.remove(0)
}

fn with_two() -> Place {
    let place = Place::new();
    let vault = place.open();
    kit::put(&vault, &kit::key("openai", "api_key"), "sk-openai");
    kit::put(&vault, &kit::key("linear", "api_key"), "sk-linear");
    drop(vault);
    place
}

/// Refused as damaged, with these records called altered; and afterwards mended, with the right values.
fn refused_and_mended(place: &Place, altered: &[RecordKey]) {
    let Err(VaultFault::Damaged(findings)) = place.try_open() else { panic!("it must be refused") };
    assert_eq!(findings.altered, altered);
    assert!(!findings.store_whole);
    let losses = Vault::accept_loss(&place.options()).unwrap();
    assert!(losses.is_none(), "{losses:?}");
    let vault = place.open();
    assert_eq!(kit::text(&vault, &kit::key("openai", "api_key")).as_deref(), Some("sk-openai"));
    assert_eq!(kit::text(&vault, &kit::key("linear", "api_key")).as_deref(), Some("sk-linear"));
}

#[test]
fn ciphertexts_swapped_between_two_connections_are_refused() {
    let place = with_two();
    below(&place.vault(), |records| {
        let ((a, of_a), (b, of_b)) = (raw(records, "openai"), raw(records, "linear"));
        records.insert(a, of_b).unwrap();
        records.insert(b, of_a).unwrap();
    });
    refused_and_mended(&place, &[kit::key("linear", "api_key"), kit::key("openai", "api_key")]);
}

#[test]
fn earlier_value_that_is_brought_back_is_refused() {
    let place = Place::new();
    let vault = place.open();
    kit::put(&vault, &kit::key("linear", "api_key"), "sk-linear");
    kit::put(&vault, &kit::key("openai", "api_key"), "sk-revoked");
    drop(vault);
    let mut earlier = None;
    below(&place.vault(), |records| earlier = Some(raw(records, "openai")));
    kit::put(&place.open(), &kit::key("openai", "api_key"), "sk-openai");
    let (key, value) = earlier.unwrap();
    below(&place.vault(), |records| records.insert(key, value).unwrap());
    refused_and_mended(&place, &[kit::key("openai", "api_key")]);
}

#[test]
fn earlier_value_with_the_manifest_of_its_time_is_refused() {
    let place = with_two();
    let mut earlier = Vec::new();
    below(&place.vault(), |records| {
        earlier.extend(records.iter().map(|item| item.into_inner().unwrap()));
    });
    let vault = place.open();
    kit::put(&vault, &kit::key("openai", "api_key"), "sk-new");
    kit::put(&vault, &kit::key("openai", "api_key"), "sk-newer");
    drop(vault);
    below(&place.vault(), |records| {
        for (key, value) in earlier {
            records.insert(key, value).unwrap();
        }
    });
    let Err(VaultFault::Damaged(findings)) = place.try_open() else { panic!("it must be refused") };
    assert_eq!((findings.store_writes, findings.ledger_writes), (Some(2), Some(4)));
    assert_eq!(findings.altered, [kit::key("openai", "api_key")]);
}

#[test]
fn record_that_is_taken_away_or_slipped_in_is_refused() {
    let place = with_two();
    below(&place.vault(), |records| {
        let (key, value) = raw(records, "openai");
        records.remove(key.clone()).unwrap();
        let slipped: Vec<u8> = String::from_utf8_lossy(&key).replace("openai", "opened").into_bytes();
        records.insert(slipped, value).unwrap();
    });
    let Err(VaultFault::Damaged(findings)) = place.try_open() else { panic!("it must be refused") };
    assert_eq!(findings.missing, [kit::key("openai", "api_key")]);
    assert_eq!(findings.unexpected, [kit::key("opened", "api_key")]);
}

#[test]
fn records_of_another_vault_are_refused() {
    let (place, other) = (with_two(), with_two());
    let mut foreign = None;
    below(&other.vault(), |records| foreign = Some(raw(records, "openai")));
    let (key, value) = foreign.unwrap();
    below(&place.vault(), |records| records.insert(key, value).unwrap());
    refused_and_mended(&place, &[kit::key("openai", "api_key")]);
}

#[test]
fn older_copy_of_the_whole_vault_is_refused_where_there_is_an_anchor() {
    let place = Place::new();
    let key = kit::key("openai", "api_key");
    kit::put(&Vault::open(&place.anchored()).unwrap(), &key, "sk-old");
    let backup = Place::new();
    kit::copy(&place.vault(), backup.directory.path());
    kit::put(&Vault::open(&place.anchored()).unwrap(), &key, "sk-new");
    std::fs::remove_dir_all(place.vault()).unwrap();
    assert!(matches!(Vault::open(&place.anchored()), Err(VaultFault::Gone { .. })));
    kit::copy(&backup.vault(), place.directory.path());
    let fault = Vault::open(&place.anchored()).err().unwrap();
    assert!(matches!(fault, VaultFault::OlderCopy { writes: 1, seen: 2, .. }), "{fault}");
    let losses = Vault::accept_loss(&place.anchored()).unwrap();
    assert_eq!((losses.unknown_writes, losses.gone.len()), (1, 0));
    let vault = Vault::open(&place.anchored()).unwrap();
    assert_eq!(kit::text(&vault, &key).as_deref(), Some("sk-old"));
    assert_eq!(vault.state().writes, 3, "past everything that the anchor has seen");
}

#[test]
fn older_copy_that_was_written_further_is_refused_where_there_is_an_anchor() {
    let place = Place::new();
    let key = kit::key("openai", "api_key");
    kit::put(&Vault::open(&place.anchored()).unwrap(), &key, "sk-old");
    let copy = Place::new();
    kit::copy(&place.vault(), copy.directory.path());
    kit::copy(&place.key_file(), copy.directory.path());
    kit::put(&Vault::open(&place.anchored()).unwrap(), &key, "sk-new");
    kit::put(&copy.open(), &key, "sk-other");
    std::fs::remove_dir_all(place.vault()).unwrap();
    kit::copy(&copy.vault(), place.directory.path());
    let sentence = kit::refusal(&place.anchored());
    assert!(sentence.contains("both have seen as many writes, and not the same ones"), "{sentence}");
}

#[test]
fn anchor_that_is_gone_is_noticed_and_older_copy_without_one_opens() {
    let place = Place::new();
    kit::put(&Vault::open(&place.anchored()).unwrap(), &kit::key("a", "b"), "sk");
    std::fs::remove_dir_all(place.directory.path().join("elsewhere")).unwrap();
    let sentence = kit::refusal(&place.anchored());
    assert!(sentence.contains("the vault had an anchor, and none is there"), "{sentence}");
    // Who asks for no anchor gets no rollback check; docs/vault.md says so.
    drop(place.open());
}

#[test]
fn connections_of_one_name_in_two_kinds_do_not_meet() {
    let vault = Place::new().open();
    let of = |kind| RecordKey::new(kind, "openai", "api_key", 0).unwrap();
    vault
        .commit(
            Batch::new()
                .put(of(Kind::Secret), kit::secret("secret"))
                .put(of(Kind::Variable), kit::secret("variable")),
        )
        .unwrap();
    assert_eq!(kit::text(&vault, &of(Kind::Secret)).as_deref(), Some("secret"));
    assert_eq!(kit::text(&vault, &of(Kind::Variable)).as_deref(), Some("variable"));
}
