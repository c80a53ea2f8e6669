//! The master key is replaced while everything goes on, and a crash leaves the old or the new one.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sigilum::vault::{MasterKey, Vault, VaultFault, VaultOptions};

use super::vault_kit::{self as kit, Place, Worker};

fn key_files(directory: &Path) {
    for name in ["a.key", "b.key"] {
        fs::write(directory.join(name), MasterKey::generate().unwrap().to_base64().as_str()).unwrap();
    }
}

fn options(directory: &Path, name: &str) -> VaultOptions {
    VaultOptions::new(&directory.join("vault"), kit::key_in_file(&directory.join(name)))
}

#[test]
fn rekey_goes_on_beside_reads_and_writes_and_the_old_key_opens_nothing() {
    let place = Place::new();
    let directory = place.directory.path();
    key_files(directory);
    let vault = Vault::open(&options(directory, "a.key")).unwrap();
    for n in 0..300 {
        kit::put(&vault, &kit::key("openai", &format!("fixed{n}")), "sk-fixed");
    }
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let key = kit::key("openai", &format!("fixed{}", reads % 300));
                assert_eq!(kit::text(&vault, &key).as_deref(), Some("sk-fixed"));
                reads += 1;
            }
            reads
        });
        let writer = scope.spawn(|| {
            let mut writes = 0_u32;
            while !done.load(Ordering::Relaxed) {
                kit::put(&vault, &kit::key("linear", &format!("n{}", writes % 20)), &writes.to_string());
                writes += 1;
            }
            writes
        });
        vault.rekey(&kit::key_in_file(&directory.join("b.key"))).unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
        writer.join().unwrap()
    });
    assert!(written > 0);
    assert_eq!(vault.state().retired_data_keys, 0);
    let before = kit::everything(&vault);
    drop(vault);
    assert_eq!(kit::everything(&Vault::open(&options(directory, "b.key")).unwrap()), before);
    let fault = Vault::open(&options(directory, "a.key")).err().unwrap();
    assert!(matches!(fault, VaultFault::WrongMasterKey { wanted, given } if wanted != given), "{fault}");
}

#[test]
fn rekeys_at_once_lose_no_record() {
    let place = Place::new();
    let directory = place.directory.path();
    key_files(directory);
    let mut opens = "a.key";
    let vault = Vault::open(&options(directory, opens)).unwrap();
    // More than are sealed anew in one write.
    for n in 0..300 {
        kit::put(&vault, &kit::key("openai", &format!("fixed{n}")), "sk-fixed");
    }
    let before = kit::everything(&vault);
    drop(vault);
    for round in 1..=kit::rounds("SIGILUM_VAULT_REKEYS_AT_ONCE", 6) {
        let vault = Vault::open(&options(directory, opens)).unwrap();
        std::thread::scope(|scope| {
            for name in ["a.key", "b.key", "a.key", "b.key"] {
                let vault = &vault;
                scope.spawn(move || {
                    // Out of step: one ends where another begins.
                    for _ in 0..4 {
                        std::thread::sleep(Duration::from_micros(kit::below(20_000)));
                        vault.rekey(&kit::key_in_file(&directory.join(name))).unwrap();
                    }
                });
            }
        });
        assert_eq!(vault.state().retired_data_keys, 0, "round {round}");
        assert_eq!(kit::everything(&vault), before, "round {round}");
        drop(vault);
        // The key of whichever was the last is in force.
        opens = ["a.key", "b.key"]
            .into_iter()
            .find(|name| Vault::open(&options(directory, name)).is_ok())
            .expect("one of the two opens it");
        assert_eq!(
            kit::everything(&Vault::open(&options(directory, opens)).unwrap()),
            before,
            "round {round}"
        );
    }
}

#[test]
#[ignore = "runs as a process of its own, which another test kills"]
fn rekeys_until_killed() {
    let directory = kit::worker_directory();
    let opened = |name| Vault::open(&options(&directory, name));
    let (vault, mut next) = match opened("a.key") {
        Ok(vault) => (vault, "b.key"),
        Err(_) => (opened("b.key").unwrap(), "a.key"),
    };
    for n in 0.. {
        kit::say("rekeying");
        vault.rekey(&kit::key_in_file(&directory.join(next))).unwrap();
        kit::put(&vault, &kit::key("openai", "changing"), &n.to_string());
        next = if next == "a.key" { "b.key" } else { "a.key" };
    }
}

#[test]
fn kill_during_rekey_leaves_the_old_or_the_new_key_and_every_record() {
    let place = Place::new();
    let directory = place.directory.path();
    key_files(directory);
    let vault = Vault::open(&options(directory, "a.key")).unwrap();
    for n in 0..20 {
        kit::put(&vault, &kit::key("openai", &format!("fixed{n}")), "sk-fixed");
    }
    drop(vault);
    for round in 1..=kit::rounds("SIGILUM_VAULT_REKEY_KILLS", 30) {
        let mut worker = Worker::start("resilience::vault_rekey::rekeys_until_killed", directory);
        for _ in 0..=kit::below(3) {
            worker.next("rekeying").expect("it goes on until it is killed");
        }
        std::thread::sleep(Duration::from_micros(kit::below(8_000)));
        worker.kill();
        let opened: Vec<_> = ["a.key", "b.key"].map(|name| Vault::open(&options(directory, name))).into();
        let whole: Vec<_> = opened.iter().filter_map(|opened| opened.as_ref().ok()).collect();
        assert_eq!(whole.len(), 1, "round {round}: exactly one key opens it");
        for n in 0..20 {
            let key = kit::key("openai", &format!("fixed{n}"));
            assert_eq!(kit::text(whole[0], &key).as_deref(), Some("sk-fixed"), "round {round}");
        }
    }
}
