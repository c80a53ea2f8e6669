//! A civil clock that a test moves for processes it starts, by libfaketime. Their timers run on as ever.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

/// How far the clock of some processes is ahead of the system's.
pub struct MovedClock {
    directory: TempDir,
    ahead: Cell<Duration>,
    processes: RefCell<Vec<u32>>,
}

impl MovedClock {
    /// One that shows the system's time.
    pub fn new() -> Self {
        let clock = Self {
            directory: TempDir::new().unwrap(),
            ahead: Cell::new(Duration::ZERO),
            processes: RefCell::default(),
        };
        clock.put_ahead(Duration::ZERO);
        clock
    }

    /// The environment of a process that goes by it.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", library().to_str().unwrap().to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().to_str().unwrap().to_owned()),
            // Each look at the clock looks into the file.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// Remembers a process that goes by it: the library leaves shared memory behind when one is killed.
    pub fn remember(&self, process: u32) {
        self.processes.borrow_mut().push(process);
    }

    /// From now on it is so far ahead.
    pub fn put_ahead(&self, ahead: Duration) {
        let next = self.directory.path().join("next");
        fs::write(&next, format!("+{}\n", ahead.as_secs())).unwrap();
        // In one step: who reads sees the one or the other.
        fs::rename(next, self.file()).unwrap();
        self.ahead.set(ahead);
    }

    /// How far it is ahead, in seconds.
    pub fn ahead_secs(&self) -> i64 {
        i64::try_from(self.ahead.get().as_secs()).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead")
    }
}

impl Drop for MovedClock {
    fn drop(&mut self) {
        for process in self.processes.borrow().iter() {
            for file in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
                let _ = fs::remove_file(PathBuf::from("/dev/shm").join(file));
            }
        }
    }
}

fn library() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().flatten();
    places
        .map(|place| place.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is not installed (Debian package faketime)")
}
