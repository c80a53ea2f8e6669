//! Reading and writing the vault's binary forms: numbers are big-endian, everything of changing length has its length
//! before it.

use super::record::RecordKey;

/// Bytes that are read from the front. Every step gives `None` where the bytes end too early.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn slice(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (slice, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(slice)
    }

    /// What `put_bytes` wrote.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.slice(usize::try_from(length).ok()?)
    }

    /// What `put_bytes` wrote of a record's address.
    pub(super) fn key(&mut self) -> Option<RecordKey> {
        RecordKey::decode(self.bytes()?)
    }
}

/// Appends bytes with their length before them.
pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(length_of(bytes).to_be_bytes());
    to.extend(bytes);
}

/// The vault's bounds keep everything far below 4 GiB.
pub(super) fn length_of<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
