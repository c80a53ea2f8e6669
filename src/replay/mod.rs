//! Nonces seen: a signature works once.

mod memory;

pub use memory::{MemoryConfig, MemoryStore, ReplayFault};
