//! Taking a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes it, though another panicked with it: each change of what the mutexes here hold is whole before anything could panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
