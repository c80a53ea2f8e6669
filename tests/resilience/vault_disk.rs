//! Disks that are full or fail: writes say so, and reads go on.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sigilum::secret::SecretBytes;
use sigilum::vault::{Batch, Health, RecordKey, Vault, VaultFault};

use super::vault_kit::{self as kit, Place, Worker};
use crate::support::eventually;

/// A small file system of its own; unmounted when this is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason on standard output, where this process may not mount.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            other => {
                println!("skipped: no tmpfs can be mounted here ({other:?})");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn large(n: usize) -> SecretBytes {
    SecretBytes::new(vec![n as u8; 20_000])
}

fn name(n: usize) -> RecordKey {
    kit::key("openai", &format!("large{n}"))
}

/// Writes until the disk is full; gives how many writes were answered.
fn fill(vault: &Vault, from: usize) -> usize {
    for n in from..10_000 {
        match vault.commit(Batch::new().put(name(n), large(n))) {
            Ok(_) => {}
            Err(VaultFault::NoSpace) => return n,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the disk is never full");
}

fn holds(vault: &Vault, count: usize) {
    for n in 0..count {
        assert_eq!(vault.get(&name(n)).unwrap().unwrap().expose(), large(n).expose(), "record {n}");
    }
}

#[test]
fn full_disk_refuses_writes_keeps_reads_and_goes_on_when_there_is_space() {
    let place = Place::new();
    let disk = place.directory.path().join("disk");
    let Some(_mounted) = SmallDisk::mount(&disk, "4m") else { return };
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![7; 1024 * 1024]).unwrap();
    let vault = Vault::open(&kit::options(&disk)).unwrap();
    let first = fill(&vault, 0);
    assert!(first > 10, "{first} writes");
    assert_eq!(vault.state().health, Health::NoSpace);
    holds(&vault, first);
    assert!(matches!(vault.commit(Batch::new().put(name(first), large(first))), Err(VaultFault::NoSpace)));
    fs::remove_file(&ballast).unwrap();
    let second = fill(&vault, first);
    assert!(second > first + 10, "{first}, then {second} writes");
    holds(&vault, second);
    drop(vault);
    let vault = Vault::open(&kit::options(&disk)).unwrap();
    holds(&vault, second);
    assert_eq!(
        vault.list(sigilum::vault::Kind::Secret, None).len(),
        second,
        "a write stands that was refused"
    );
}

#[test]
fn first_start_on_a_full_disk_says_so_and_leaves_nothing() {
    let place = Place::new();
    let disk = place.directory.path().join("disk");
    let Some(_mounted) = SmallDisk::mount(&disk, "64k") else { return };
    let (key, vault) = (place.directory.path().join("key"), disk.join("vault"));
    let options = sigilum::vault::VaultOptions::new(&vault, sigilum::vault::MasterKeySource::Generated(key));
    fs::write(disk.join("ballast"), vec![7; 40 * 1024]).unwrap();
    let fault = Vault::open(&options).err().unwrap();
    assert!(matches!(fault, VaultFault::NoSpace), "{fault:?}");
    fs::remove_file(disk.join("ballast")).unwrap();
    let left = fs::read_dir(&disk).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(left, 0, "an unfinished vault was left");
}

#[test]
#[ignore = "runs as a process of its own, whose disk another test makes fail"]
fn writes_on_a_failing_disk() {
    let directory = kit::worker_directory();
    let vault = Vault::open(&kit::options(&directory)).unwrap();
    kit::put(&vault, &kit::key("openai", "before"), "sk-before");
    let report = fs::File::create(directory.join("report")).unwrap();
    kit::say("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let mut said = String::new();
    for round in ["first", "second"] {
        let fault = vault.commit(Batch::new().put(kit::key("openai", "after"), kit::secret("sk-after")));
        said += &format!("{round}: {}\n", fault.err().map_or("written".into(), |fault| fault.to_string()));
    }
    said += &format!("poisoned: {}\n", matches!(vault.state().health, Health::Poisoned { .. }));
    said += &format!("read: {:?}\n", kit::text(&vault, &kit::key("openai", "before")));
    // Standard output may be among what fails.
    let mut written = 0;
    while written < said.len() {
        written += report.write_at(&said.as_bytes()[written..], written as u64).unwrap_or(0);
    }
}

const POISONED: &str = "the vault takes no more writes since one failed (Input/output error (os error 5)); reads go on; mend the cause and restart";

/// What is said with one fault of the system (libfiu) from one write to the next, and the vault after it.
fn with_fault(fault: &str) -> Option<(String, Place)> {
    let place = Place::new();
    if Command::new("fiu-run").arg("-h").output().is_err() {
        println!("skipped: fiu-run is not installed (Debian package fiu-utils)");
        return None;
    }
    let control = place.directory.path().join("fiu");
    let program = ["fiu-run", "-x", "-f", control.to_str().unwrap()];
    let test = "resilience::vault_disk::writes_on_a_failing_disk";
    let mut worker = Worker::start_under(&program, test, place.directory.path());
    worker.next("ready").expect("the vault opens under fiu-run");
    // fiu-run replaces itself, so the process is still the one that was started.
    let command = |words: &str| {
        let mut command = Command::new("fiu-ctrl");
        command.args(["-f", control.to_str().unwrap(), "-c", words]).arg(worker.id().to_string());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    command(&format!("enable name={fault},failinfo=5"));
    writeln!(worker.input).unwrap();
    let report = eventually("the worker's report", || {
        let text = fs::read_to_string(place.directory.path().join("report")).unwrap();
        text.contains("read: ").then_some(text)
    });
    worker.kill();
    Some((report, place))
}

#[test]
fn failing_fsync_poisons_writes_and_leaves_reads() {
    let Some((report, place)) = with_fault("posix/io/sync/fsync") else { return };
    let expected =
        format!("first: {POISONED}\nsecond: {POISONED}\npoisoned: true\nread: Some(\"sk-before\")\n");
    assert_eq!(report, expected);
    let vault = place.open();
    assert_eq!(kit::text(&vault, &kit::key("openai", "before")).as_deref(), Some("sk-before"));
}

#[test]
fn engine_that_cannot_write_poisons_writes_and_loses_none_that_was_answered() {
    // The engine writes with write(2), the ledger with pwrite(2).
    let Some((report, place)) = with_fault("posix/io/rw/write") else { return };
    let expected = format!("first: written\nsecond: {POISONED}\npoisoned: true\nread: Some(\"sk-before\")\n");
    assert_eq!(report, expected);
    let vault = place.open();
    assert_eq!(kit::text(&vault, &kit::key("openai", "after")).as_deref(), Some("sk-after"));
}
