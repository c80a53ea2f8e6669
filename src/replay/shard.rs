//! One shard of the store: generations of fingerprints.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// A clock that runs forward keeps five generations; one that jumps back may leave later ones standing. With
/// so many, nonces go into the next later one instead of opening another.
pub(super) const GENERATIONS_AT_MOST: usize = 16;

/// On a cache line of its own, so that two shards' locks do not slow each other down.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Shard {
    /// In the order of their numbers.
    pub(super) generations: Vec<Generation>,
    /// The latest `created` among the nonces forgotten.
    forgotten_to: Option<i64>,
}

/// The nonces seen in one span of time.
pub(super) struct Generation {
    /// The span's number since 1970.
    number: i64,
    seen: HashSet<u128, BuildHasherDefault<AlreadyUniform>>,
    latest_created: i64,
}

impl Generation {
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}

impl Shard {
    /// Whether a nonce of a signature `created` then may have been seen and forgotten.
    pub(super) fn may_have_forgotten(&self, created: i64) -> bool {
        self.forgotten_to.is_some_and(|latest| created <= latest)
    }

    pub(super) fn holds(&self, fingerprint: u128) -> bool {
        self.generations.iter().rev().any(|generation| generation.seen.contains(&fingerprint))
    }

    /// Puts a fingerprint that is not held into the generation of this number.
    pub(super) fn insert(&mut self, fingerprint: u128, number: i64, created: i64) {
        let at = self.generations.partition_point(|generation| generation.number < number);
        let fits = self
            .generations
            .get(at)
            .is_some_and(|next| next.number == number || self.generations.len() >= GENERATIONS_AT_MOST);
        if !fits {
            // As large as the one before came to be: under a steady load it need not grow.
            let expected = at.checked_sub(1).and_then(|before| self.generations.get(before));
            let seen = HashSet::with_capacity_and_hasher(
                expected.map_or(0, |before| before.seen.len()),
                BuildHasherDefault::default(),
            );
            self.generations.insert(at, Generation { number, seen, latest_created: created });
        }
        if let Some(generation) = self.generations.get_mut(at) {
            generation.seen.insert(fingerprint);
            generation.latest_created = generation.latest_created.max(created);
        }
    }

    /// Takes the generations before `oldest` out.
    pub(super) fn take_older_than(&mut self, oldest: i64) -> Vec<Generation> {
        let kept = self.generations.partition_point(|generation| generation.number < oldest);
        let dropped: Vec<Generation> = self.generations.drain(..kept).collect();
        let latest = dropped.iter().map(|generation| generation.latest_created).max();
        self.forgotten_to = self.forgotten_to.max(latest);
        dropped
    }
}

/// The fingerprint's lower half is its hash: it is uniform already.
#[derive(Default)]
struct AlreadyUniform(u64);

impl Hasher for AlreadyUniform {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
