//! A vault's ordinary life: versions, atomic changes, who may open it, and moving it.

use std::os::unix::fs::PermissionsExt;

use sigilum::secret::SecretString;
use sigilum::vault::{
    Batch, Existing, ExportFault, Health, Imported, Kind, MasterKey, MasterKeySource, PassphraseCost,
    RecordKey, TextSource, Vault, VaultFault, VaultOptions,
};

use super::vault_kit::{self as kit, Place, Worker};

/// What a guess costs in tests: nothing.
const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 64, passes: 1, lanes: 1 };

fn passphrase(text: &str) -> SecretString {
    SecretString::new(text.into()).unwrap()
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let place = Place::new();
    let connection = RecordKey::new(Kind::Connection, "openai", "document", 0).unwrap();
    let batch = Batch::new()
        .create(connection.clone(), kit::secret("{}"))
        .put_version(Kind::Secret, "openai", "api_key", kit::secret("sk-1"))
        .unwrap();
    assert_eq!(place.open().commit(batch).unwrap(), [kit::key("openai", "api_key")]);
    let vault = place.open();
    assert_eq!(kit::text(&vault, &connection).as_deref(), Some("{}"));
    let (key, value) = vault.latest(Kind::Secret, "openai", "api_key").unwrap().unwrap();
    assert_eq!((key.version(), value.expose()), (1, b"sk-1".as_slice()));
    assert!(vault.latest(Kind::Secret, "openai", "other").unwrap().is_none());
}

#[test]
fn last_five_versions_are_kept() {
    let vault = Place::new().open();
    for n in 1..=8 {
        let value = kit::secret(&format!("sk-{n}"));
        vault.commit(Batch::new().put_version(Kind::Secret, "openai", "api_key", value).unwrap()).unwrap();
    }
    assert_eq!(vault.history(Kind::Secret, "openai", "api_key"), [4, 5, 6, 7, 8]);
    let (key, value) = vault.latest(Kind::Secret, "openai", "api_key").unwrap().unwrap();
    assert_eq!((key.version(), value.expose()), (8, b"sk-8".as_slice()));
}

#[test]
fn batch_that_cannot_be_made_changes_nothing() {
    let vault = Place::new().open();
    let (a, b) = (kit::key("openai", "a"), kit::key("openai", "b"));
    kit::put(&vault, &a, "first");
    let batch = Batch::new().put(b.clone(), kit::secret("b")).create(a.clone(), kit::secret("second"));
    let fault = vault.commit(batch).unwrap_err();
    assert_eq!(fault.to_string(), "the secret openai/a, version 1 stands already");
    assert_eq!((kit::text(&vault, &a).as_deref(), kit::text(&vault, &b)), (Some("first"), None));
}

#[test]
fn owners_are_listed_and_removed_apart() {
    let vault = Place::new().open();
    for (owner, name) in [("open", "a"), ("openai", "a"), ("openai", "b"), ("openai2", "a")] {
        kit::put(&vault, &kit::key(owner, name), "x");
    }
    assert_eq!(vault.list(Kind::Secret, Some("openai")), [kit::key("openai", "a"), kit::key("openai", "b")]);
    assert_eq!(vault.list(Kind::Secret, None).len(), 4);
    assert!(vault.list(Kind::Variable, None).is_empty());
    vault.commit(Batch::new().delete_owned(Kind::Secret, "openai")).unwrap();
    assert_eq!(vault.list(Kind::Secret, None), [kit::key("open", "a"), kit::key("openai2", "a")]);
}

#[test]
fn value_that_is_too_large_is_refused() {
    let vault = Place::new().open();
    let value = sigilum::secret::SecretBytes::new(vec![0; 1024 * 1024 + 1]);
    let fault = vault.commit(Batch::new().put(kit::key("a", "b"), value)).unwrap_err();
    assert_eq!(fault.to_string(), "a value of 1048577 bytes is too large; at most 1048576");
    assert_eq!(vault.state().writes, 0);
}

#[test]
fn long_life_leaves_a_small_vault() {
    let place = Place::new();
    let vault = place.open();
    let value = "x".repeat(8_000);
    for _ in 0..400 {
        kit::put(&vault, &kit::key("openai", "k"), &value);
    }
    let bytes = std::fs::metadata(place.vault().join("ledger")).unwrap().len();
    assert!(bytes < 1_200_000, "{bytes} bytes of ledger for one record");
    drop(vault);
    drop(place.open());
    let bytes = std::fs::metadata(place.vault().join("store/0.jnl")).unwrap().len();
    assert!(bytes < 1_300_000, "{bytes} bytes of journal for one record");
    assert_eq!(kit::text(&place.open(), &kit::key("openai", "k")), Some(value));
}

#[test]
#[ignore = "runs as a process of its own, beside which another test opens the vault"]
fn holds_the_vault() {
    let _vault = Vault::open(&kit::options(&kit::worker_directory())).unwrap();
    kit::say("holding");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn second_process_is_told_that_the_vault_is_in_use() {
    let place = Place::new();
    let mut worker = Worker::start("resilience::vault_life::holds_the_vault", place.directory.path());
    worker.next("holding").unwrap();
    let expected =
        "the vault PLACE/vault is open in another process; stop that one first, or use its admin API";
    assert_eq!(place.refusal(), expected);
    worker.kill();
    place.open();
}

#[test]
fn wrong_master_key_is_refused_with_both_names() {
    let place = Place::new();
    let (right, wrong) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
    let sentence = format!(
        "the vault wants master key {0}, and the one given is {1}; set vault.master_key (or vault.passphrase) to where {0} is read from",
        right.id(),
        wrong.id()
    );
    let options = |key| VaultOptions::new(&place.vault(), MasterKeySource::Given(key));
    drop(Vault::open(&options(right)).unwrap());
    assert_eq!(kit::refusal(&options(wrong)), sentence);
}

#[test]
fn generated_key_that_is_gone_is_not_made_anew() {
    let place = Place::new();
    drop(place.open());
    assert_eq!(std::fs::metadata(place.key_file()).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(place.key_file()).unwrap();
    assert!(place.refusal().starts_with("the vault is there and its key file PLACE/vault.key is not;"));
    assert!(!place.key_file().exists());
}

#[test]
fn passphrase_opens_the_vault_again_and_another_does_not() {
    let place = Place::new();
    let file = place.directory.path().join("passphrase");
    let options = || {
        let source = TextSource::File(file.clone());
        VaultOptions::new(&place.vault(), MasterKeySource::Passphrase(source, CHEAP))
    };
    std::fs::write(&file, "correct horse\n").unwrap();
    kit::put(&Vault::open(&options()).unwrap(), &kit::key("a", "b"), "sk");
    let vault = Vault::open(&options()).unwrap();
    assert_eq!(kit::text(&vault, &kit::key("a", "b")).as_deref(), Some("sk"));
    drop(vault);
    std::fs::write(&file, "battery staple").unwrap();
    assert!(matches!(Vault::open(&options()), Err(VaultFault::WrongMasterKey { .. })));
    assert!(
        place.refusal().ends_with("is made from a passphrase, and a key is configured"),
        "{}",
        place.refusal()
    );
}

#[test]
fn everything_on_disk_is_the_owner_s_alone() {
    let place = Place::new();
    kit::put(&place.open(), &kit::key("a", "b"), "sk");
    drop(place.open());
    let mut waiting = vec![place.vault()];
    while let Some(path) = waiting.pop() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn state_says_how_the_vault_is() {
    let place = Place::new();
    let vault = Vault::open(&place.anchored()).unwrap();
    kit::put(&vault, &kit::key("a", "b"), "sk");
    let state = vault.state();
    assert_eq!((state.health, state.writes, state.records), (Health::Healthy, 1, 1));
    assert_eq!((state.retired_data_keys, state.anchor_behind), (0, false));
}

#[test]
fn export_is_imported_into_another_vault() {
    let (here, there) = (Place::new(), Place::new());
    let vault = here.open();
    for n in 0..30 {
        kit::put(&vault, &kit::key("openai", &format!("k{n}")), &"x".repeat(n * 500));
    }
    let mut file = Vec::new();
    assert_eq!(vault.export(&mut file, &passphrase("correct horse"), CHEAP).unwrap(), 30);
    let other = there.open();
    let done = other.import(&mut file.as_slice(), &passphrase("correct horse"), Existing::Refuse).unwrap();
    assert_eq!((done.added, done.replaced, done.kept), (30, 0, 0));
    assert_eq!(kit::everything(&other), kit::everything(&vault));
}

#[test]
fn import_keeps_or_replaces_what_is_there_only_when_told() {
    let (here, there) = (Place::new().open(), Place::new().open());
    kit::put(&here, &kit::key("a", "both"), "imported");
    kit::put(&here, &kit::key("a", "new"), "imported");
    kit::put(&there, &kit::key("a", "both"), "own");
    let mut file = Vec::new();
    here.export(&mut file, &passphrase("correct horse"), CHEAP).unwrap();
    let import = |existing| -> Result<Imported, ExportFault> {
        there.import(&mut file.as_slice(), &passphrase("correct horse"), existing)
    };
    assert!(matches!(import(Existing::Refuse), Err(ExportFault::NotEmpty { records: 1 })));
    let kept = import(Existing::Keep).unwrap();
    assert_eq!((kept.added, kept.kept), (1, 1));
    assert_eq!(kit::text(&there, &kit::key("a", "both")).as_deref(), Some("own"));
    assert_eq!(import(Existing::Replace).unwrap().replaced, 2);
    assert_eq!(kit::text(&there, &kit::key("a", "both")).as_deref(), Some("imported"));
}

#[test]
fn export_that_was_altered_or_cut_or_is_under_another_passphrase_is_refused() {
    let (here, there) = (Place::new().open(), Place::new().open());
    for n in 0..3 {
        kit::put(&here, &kit::key("a", &format!("k{n}")), &"x".repeat(50_000));
    }
    let mut file = Vec::new();
    here.export(&mut file, &passphrase("correct horse"), CHEAP).unwrap();
    let import = |bytes: &[u8], words: &str| {
        there.import(&mut &*bytes, &passphrase(words), Existing::Refuse).unwrap_err()
    };
    assert!(matches!(import(&file, "battery staple"), ExportFault::WrongPassphrase));
    assert!(matches!(import(b"something else", "correct horse"), ExportFault::NotAnExport));
    let mut altered = file.clone();
    let end = altered.len() - 1;
    altered[end] ^= 1;
    assert!(matches!(import(&altered, "correct horse"), ExportFault::Damaged { part: 3 }));
    // Without the last chunk, cut exactly where the one before ends.
    let chunk = 64 * 1024 + 16;
    let head = file.len() - (file.len() - 95) % chunk;
    assert!(matches!(import(&file[..head], "correct horse"), ExportFault::Damaged { part: 2 }));
    assert_eq!(there.state().records, 0);
}
