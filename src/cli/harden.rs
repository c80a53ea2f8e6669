//! What keeps the secrets of a running gateway out of files: no core dump, and no other process of its user reads its
//! memory.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and tracing for this process. What the system refuses is told, and goes on.
pub(super) fn keep_memory_private() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, no_core) {
        tracing::warn!(%error, "core dumps cannot be forbidden; set LimitCORE=0 where the gateway is started");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "other processes of this user may read the gateway's memory");
    }
}
