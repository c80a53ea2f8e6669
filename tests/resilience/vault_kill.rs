//! kill -9 at any moment: what was answered is there, and the vault opens.

use std::path::Path;
use std::time::Duration;

use sigilum::vault::{Batch, Kind, RecordKey, Vault};

use super::vault_kit::{self as kit, Place, Worker};

/// Write number n sets the record of n modulo this, and the record `last`, in one batch.
const SLOTS: u64 = 40;

fn slot(n: u64) -> RecordKey {
    RecordKey::new(Kind::Secret, "slot", &(n % SLOTS).to_string(), 0).unwrap()
}

fn last() -> RecordKey {
    RecordKey::new(Kind::Connection, "-", "last", 0).unwrap()
}

fn last_write(vault: &Vault) -> u64 {
    kit::text(vault, &last()).map_or(0, |text| text.parse().unwrap())
}

#[test]
#[ignore = "runs as a process of its own, which another test kills"]
fn writes_until_killed() {
    let vault = Vault::open(&kit::options(&kit::worker_directory())).unwrap();
    for n in last_write(&vault) + 1.. {
        let number = n.to_string();
        let batch = Batch::new().put(slot(n), kit::secret(&number)).put(last(), kit::secret(&number));
        vault.commit(batch).unwrap();
        kit::say(&format!("answered {n}"));
    }
}

/// The highest write that was answered among these lines.
fn highest(lines: &[String]) -> u64 {
    let numbers = lines.iter().filter_map(|line| line.split_once("answered ")?.1.parse().ok());
    numbers.max().unwrap_or(0)
}

/// Starts a writer, kills it at some moment, and gives the last write that it was answered.
fn write_and_kill(directory: &Path) -> u64 {
    let mut worker = Worker::start("resilience::vault_kill::writes_until_killed", directory);
    let mut answered = 0;
    if kit::below(3) == 0 {
        // At any moment of the start.
        std::thread::sleep(Duration::from_micros(kit::below(40_000)));
    } else {
        // At any moment of some write.
        for _ in 0..=kit::below(12) {
            answered = worker.next("answered").expect("it writes until it is killed").parse().unwrap();
        }
        std::thread::sleep(Duration::from_micros(kit::below(4_000)));
    }
    answered.max(highest(&worker.kill()))
}

#[test]
fn kill_while_writing_loses_no_answered_write_and_the_vault_opens() {
    let place = Place::new();
    let (mut written, mut runs_with_writes) = (0, 0);
    let rounds = kit::rounds("SIGILUM_VAULT_KILLS", 160);
    for round in 1..=rounds {
        let answered = write_and_kill(place.directory.path());
        let vault = place.open();
        let stands = last_write(&vault);
        assert!(stands >= answered.max(written), "round {round}: {answered} was answered, {stands} stands");
        assert!(stands <= answered.max(written) + 1, "round {round}: writes from nowhere");
        for n in stands.saturating_sub(SLOTS - 1).max(1)..=stands {
            assert_eq!(kit::text(&vault, &slot(n)), Some(n.to_string()), "round {round}: half a batch");
        }
        runs_with_writes += u32::from(answered > 0);
        written = stands;
    }
    assert!(runs_with_writes > rounds / 3, "most kills came before any write; they prove nothing");
}

#[test]
fn kill_during_the_first_start_leaves_a_vault_that_opens() {
    for round in 1..=kit::rounds("SIGILUM_VAULT_FIRST_KILLS", 40) {
        let place = Place::new();
        let worker = Worker::start("resilience::vault_kill::writes_until_killed", place.directory.path());
        std::thread::sleep(Duration::from_micros(kit::below(30_000)));
        let answered = highest(&worker.kill());
        let vault = place.open();
        let stands = last_write(&vault);
        assert!((answered..=answered + 1).contains(&stands), "round {round}: {answered}, then {stands}");
        let left: Vec<_> = std::fs::read_dir(place.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".new-"))
            .collect();
        assert_eq!(left, [""; 0], "round {round}");
    }
}
