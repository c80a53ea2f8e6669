//! `replay::MemoryStore::record` of a fresh nonce, in the steady state: as many nonces are forgotten as come in.
//!
//! With 100,000 held and with 5 million; by one thread and by two at once (the time is that of one record of one thread,
//! so with two threads that never wait for each other it stays the same). The clock is moved so that the number held
//! stays where it is; forgetting old generations is therefore part of the time. Beside it a store that is empty at first
//! and grows. Compared with the simplest store that would do: one set of texts behind one lock, which forgets nothing.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)]

mod samples;

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use samples::NOW;
use sigilum::clock::UnixTime;
use sigilum::names::Namespace;
use sigilum::replay::{MemoryConfig, MemoryStore, ReplayFault};

const WINDOW_MILLIS: u64 = 600_000;

/// A store at a steady rate, and the count of what went in.
struct Steady {
    store: MemoryStore,
    namespaces: Vec<Namespace>,
    count: AtomicU64,
    /// Records in a window.
    per_window: u64,
}

impl Steady {
    /// Holds `held` nonces on average: four to five quarters of a window are kept.
    fn new(held: u64) -> Self {
        let config = MemoryConfig { window: Duration::from_millis(WINDOW_MILLIS), capacity: 100_000_000 };
        let steady = Self {
            store: MemoryStore::new(config, NOW, *b"sixteen bytes ok"),
            namespaces: (0..512).map(|number| format!("agent-{number}").parse().unwrap()).collect(),
            count: AtomicU64::new(0),
            per_window: held * 8 / 9,
        };
        for _ in 0..held * 5 / 4 {
            steady.record();
        }
        steady
    }

    /// A thread that is put aside for longer than a window lasts here comes too late, and then tries again.
    fn record(&self) {
        if self.attempt().is_err() {
            self.attempt().unwrap();
        }
    }

    fn attempt(&self) -> Result<(), ReplayFault> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let since = u128::from(count) * u128::from(WINDOW_MILLIS) / u128::from(self.per_window);
        let now = UnixTime::from_millis(NOW.millis() + 1_000 + i64::try_from(since).unwrap());
        let namespace = &self.namespaces[usize::try_from(count % 512).unwrap()];
        self.store.record(namespace, nonce(count, &mut [0; 32]), now.secs(), now)
    }
}

/// 32 hexadecimal digits that no other count has.
fn nonce(count: u64, room: &mut [u8; 32]) -> &str {
    let spread = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (place, digit) in room.iter_mut().enumerate() {
        let bits = if place < 16 { count >> (4 * place) } else { spread >> (4 * (place - 16)) };
        *digit = b"0123456789abcdef"[usize::try_from(bits & 15).unwrap()];
    }
    std::str::from_utf8(room).unwrap()
}

/// The time of `records` records of each of so many threads.
fn at_once(threads: usize, records: u64, record: &(dyn Fn() + Sync)) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || (0..records).for_each(|_| record()));
        }
    });
    began.elapsed()
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    for held in [100_000, 5_000_000] {
        let steady = Steady::new(held);
        for threads in [1, 2] {
            group.bench_function(
                BenchmarkId::new(format!("{held} held"), format!("threads: {threads}")),
                |bencher| {
                    bencher.iter_custom(|records| at_once(threads, records, &|| steady.record()));
                },
            );
        }
        let most = steady.store.len() as u64;
        assert!((held / 2..held * 3 / 2).contains(&most), "{most} are held in place of {held}");
    }
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("empty at first", format!("threads: {threads}")), |bencher| {
            // Without an end of the window in sight nothing is forgotten.
            bencher.iter_custom(|records| {
                let steady = Steady { per_window: u64::MAX, ..Steady::new(0) };
                at_once(threads, records, &|| steady.record())
            });
        });
    }
    for threads in [1, 2] {
        let (set, count) = (Mutex::new(HashSet::new()), AtomicU64::new(0));
        group.bench_function(
            BenchmarkId::new("one set of texts, growing", format!("threads: {threads}")),
            |bencher| {
                let record = || {
                    let text = nonce(count.fetch_add(1, Ordering::Relaxed), &mut [0; 32]).to_owned();
                    assert!(set.lock().unwrap().insert(text));
                };
                bencher.iter_custom(|records| at_once(threads, records, &record));
            },
        );
    }
    group.bench_function("the nonce's text alone", |bencher| {
        let mut count = 0;
        bencher.iter(|| {
            count += 1;
            nonce(black_box(count), &mut [0; 32]).len()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(20);
    targets = replay
}
criterion_main!(benches);
