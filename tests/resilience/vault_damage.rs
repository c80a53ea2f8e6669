//! Damaged files: nothing is silently missing or altered, every refusal explains itself, and one damage loses nothing.

use std::fs;
use std::path::{Path, PathBuf};

use sigilum::vault::{Batch, Kind, Losses, RecordKey, Vault, VaultFault};

use super::vault_kit::{self as kit, Place};

/// A vault as one looks after some life, with versions and removals. Gives its records, and the engine's journal as it
/// was in the middle of that life.
fn lived_in() -> (Place, Vec<(RecordKey, String)>, Vec<u8>) {
    let place = Place::new();
    let vault = place.open();
    for n in 0..12 {
        kit::put(&vault, &kit::key("openai", &format!("k{n}")), &format!("sk-first-{n}"));
    }
    vault.commit(Batch::new().delete(kit::key("openai", "k0"))).unwrap();
    drop(vault);
    // A fresh journal has 64 MiB of nothing at its end until it is opened once more.
    drop(place.open());
    let journal = fs::read(journal(&place)).unwrap();
    let vault = place.open();
    for n in 4..16 {
        kit::put(&vault, &kit::key("openai", &format!("k{n}")), &format!("sk-second-{n}"));
    }
    let batch = Batch::new().put_version(Kind::Variable, "-", "KEY", kit::secret("v1")).unwrap();
    vault.commit(batch.put_version(Kind::Variable, "-", "KEY", kit::secret("v2")).unwrap()).unwrap();
    let records = kit::everything(&vault);
    (place, records, journal)
}

fn journal(place: &Place) -> PathBuf {
    place.vault().join("store/0.jnl")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn flipped_bit_is_refused_with_the_way_out_or_changes_nothing_and_loses_no_record() {
    let (place, records, _) = lived_in();
    let (mut refused, mut harmless) = (0, 0);
    for round in 1..=kit::rounds("SIGILUM_VAULT_FLIPS", 500) {
        let damaged = Place::new();
        kit::copy(&place.vault(), damaged.directory.path());
        kit::copy(&place.key_file(), damaged.directory.path());
        let all = files(&damaged.vault());
        let path = &all[kit::below(all.len() as u64) as usize];
        let mut bytes = fs::read(path).unwrap();
        let (position, bit) = (kit::below(bytes.len() as u64) as usize, kit::below(8));
        bytes[position] ^= 1 << bit;
        fs::write(path, bytes).unwrap();
        let what = format!("round {round}: {} byte {position} bit {bit}", path.display());
        match damaged.try_open() {
            Ok(vault) => {
                assert_eq!(kit::everything(&vault), records, "{what}");
                harmless += 1;
            }
            Err(fault) => {
                assert!(matches!(fault, VaultFault::Damaged(_)), "{what}: {fault:?}");
                assert!(
                    fault.to_string().contains("`sigilum vault verify --accept-loss --config FILE`"),
                    "{what}: {fault}"
                );
                let losses = Vault::accept_loss(&damaged.options()).unwrap_or_else(|f| panic!("{what}: {f}"));
                assert!(losses.is_none(), "{what}: {losses:?}");
                assert_eq!(kit::everything(&damaged.open()), records, "{what}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused and mended, {harmless} harmless");
    assert!(refused > harmless, "most flips hit nothing; they prove little");
}

#[test]
fn engine_that_lost_its_last_writes_is_refused_and_mended_from_the_ledger() {
    let (place, records, earlier) = lived_in();
    fs::write(journal(&place), earlier).unwrap();
    let sentence = place.refusal();
    assert!(
        sentence.starts_with("the vault PLACE/vault is damaged: its storage ends at write 13, its ledger proves write 26; 6 missing in the storage: secret openai/k12, version 1, "),
        "{sentence}"
    );
    assert!(sentence.contains("; 8 altered in the storage: secret openai/k10, version 1, "), "{sentence}");
    let losses = Vault::accept_loss(&place.options()).unwrap();
    assert_eq!((losses.is_none(), losses.mended.len(), losses.records), (true, 14, 17));
    assert_eq!(kit::everything(&place.open()), records);
}

#[test]
fn engine_that_lost_everything_is_refused_and_mended_from_the_ledger() {
    let (place, records, _) = lived_in();
    fs::write(journal(&place), b"").unwrap();
    assert!(place.refusal().contains("its storage has no manifest, its ledger proves write 26; 17 missing"));
    assert!(Vault::accept_loss(&place.options()).unwrap().is_none());
    assert_eq!(kit::everything(&place.open()), records);
}

#[test]
fn damage_that_would_end_the_process_inside_the_engine_is_refused_before() {
    let (place, records, _) = lived_in();
    // The version files of the engine's trees: fjall 3.1 aborts on some of these.
    let versions = files(&place.vault().join("store/keyspaces"));
    assert!(versions.len() > 3, "{versions:?}");
    for path in versions {
        let whole = fs::read(&path).unwrap();
        fs::write(&path, whole.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
        assert!(place.refusal().contains(" is not as it was written"), "{}", place.refusal());
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(kit::everything(&place.open()), records);
}

#[test]
fn ledger_that_is_gone_is_refused_and_mended_from_the_storage() {
    let (place, records, _) = lived_in();
    fs::remove_file(place.vault().join("ledger")).unwrap();
    let sentence = place.refusal();
    assert!(
        sentence.contains("its storage ends at write 26, its ledger proves nothing; 17 unexpected"),
        "{sentence}"
    );
    assert!(Vault::accept_loss(&place.options()).unwrap().is_none());
    assert_eq!(kit::everything(&place.open()), records);
}

#[test]
fn storage_that_is_gone_is_refused_and_mended_from_the_ledger() {
    let (place, records, _) = lived_in();
    fs::remove_dir_all(place.vault().join("store")).unwrap();
    assert!(place.refusal().contains("its storage cannot be read (it is not there)"), "{}", place.refusal());
    assert!(Vault::accept_loss(&place.options()).unwrap().is_none());
    assert_eq!(kit::everything(&place.open()), records);
}

#[test]
fn damage_in_both_halves_lists_what_is_gone_and_keeps_the_rest() {
    let (place, records, _) = lived_in();
    fs::remove_dir_all(place.vault().join("store")).unwrap();
    // The ledger up to the write of k13, and the writes behind it as bytes that prove nothing.
    let ledger = place.vault().join("ledger");
    let mut bytes = fs::read(&ledger).unwrap();
    let written = RecordKey::new(Kind::Secret, "openai", "k13", 1).unwrap();
    let position = bytes.windows(3).rposition(|window| window == b"k13").unwrap();
    bytes[position + 20] ^= 1;
    fs::write(&ledger, bytes).unwrap();
    assert!(matches!(place.try_open(), Err(VaultFault::Damaged(_))));
    let Losses { gone, unproven, mended, .. } = Vault::accept_loss(&place.options()).unwrap();
    let name = |key: &RecordKey| key.to_string();
    assert_eq!(
        gone.iter().map(name).collect::<Vec<_>>(),
        [
            "secret openai/k13, version 1",
            "secret openai/k14, version 1",
            "secret openai/k15, version 1",
            "variable -/KEY, version 1",
            "variable -/KEY, version 2"
        ]
    );
    assert_eq!((unproven.len(), mended.len()), (0, 12));
    let left = kit::everything(&place.open());
    let expected: Vec<_> = records.into_iter().filter(|(key, _)| !gone.contains(key)).collect();
    assert_eq!(left, expected);
    assert!(gone.contains(&written));
}

#[test]
fn header_that_is_damaged_once_is_mended_and_twice_is_said() {
    let (place, records, _) = lived_in();
    fs::write(place.vault().join("header"), b"scratched").unwrap();
    assert_eq!(kit::everything(&place.open()), records);
    assert_ne!(fs::read(place.vault().join("header")).unwrap(), b"scratched");
    for name in ["header", "header.copy"] {
        fs::write(place.vault().join(name), b"scratched").unwrap();
    }
    assert_eq!(
        place.refusal(),
        "the header of the vault PLACE/vault is damaged in both copies (its checksum does not hold), and without it nothing opens; restore the vault from a backup"
    );
}

#[test]
fn vault_that_holds_is_verified_and_left_as_it_is() {
    let (place, records, _) = lived_in();
    let verified = Vault::verify(&place.options()).unwrap();
    assert_eq!((verified.writes, verified.records, verified.unreadable.len()), (26, 17, 0));
    let losses = Vault::accept_loss(&place.options()).unwrap();
    assert!(losses.is_none() && losses.mended.is_empty());
    assert!(!place.vault().join("store.damaged").exists());
    assert_eq!(kit::everything(&place.open()), records);
}
