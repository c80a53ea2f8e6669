//! Nonces seen: a signature works once.

mod memory;
mod shard;

pub use memory::{MemoryConfig, MemoryStore, ReplayFault};
