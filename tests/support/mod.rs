//! What the socket tests share. Every part is real: sockets, TLS, processes, files. Everything listens on a free
//! loopback port, waits with a bound, and is gone when it is dropped, after a panic too.
// Each test takes what it needs; what none needs yet is still part of the kit.
#![allow(dead_code, unused_imports)]

pub mod agent;
pub mod certs;
pub mod control;
pub mod gateway;
pub mod h2_client;
pub mod held_port;
pub mod http1;
pub mod moved_clock;
pub mod openai;
pub mod postgres;
pub mod raw;
pub mod replica;
pub mod upstream;
pub mod upstream_h2;
mod upstream_script;

mod self_tests;

use std::time::{Duration, Instant};

/// No wait in a test is longer than this; what has not come by then will not come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `probe` gives something, and panics, saying what was awaited, when it does not in [`PATIENCE`].
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// 32 random bytes.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
