//! Nonces seen, in memory.
use std::time::Duration;
use crate::clock::UnixTime;
use crate::names::Namespace;
/// Settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// How long a nonce is remembered at least.
    pub window: Duration,
    /// Nonces at the most; when so many are held, a new one is refused, and none is forgotten early.
    pub capacity: usize,
}
/// Why a nonce is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayFault {
    /// Seen within the window: AUTH_REPLAY_DETECTED.
    #[error("this nonce was used before; sign the request anew with a fresh nonce")]
    Seen,
    /// Signed before this process began, so it may have been seen: AUTH_REPLAY_DETECTED.
    #[error("the request was signed before the gateway started; sign it anew")]
    BeforeStart,
    /// The store is full: 503 OVERLOADED.
    #[error("the replay store is full; retry later")]
    Full,
}
/// The store: exact within the window, sharded, bounded.
#[derive(Debug)]
pub struct MemoryStore { _private: () }
impl MemoryStore {
    /// `started`: signatures created before it are refused. `key`: 16 random bytes, so that nobody can choose colliding nonces.
    #[must_use]
    pub fn new(_config: MemoryConfig, _started: UnixTime, _key: [u8; 16]) -> Self { unimplemented!() }
    /// Records the nonce of a signature `created` (Unix seconds) at `now`, unless it was seen.
    ///
    /// # Errors
    /// When it must be refused.
    pub fn record(&self, _namespace: &Namespace, _nonce: &str, _created: i64, _now: UnixTime) -> Result<(), ReplayFault> { unimplemented!() }
    /// Nonces held now.
    #[must_use]
    pub fn len(&self) -> usize { unimplemented!() }
    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool { self.len() == 0 }
}
