//! Open files: each client's connection needs one, so does the upstream's behind it, and an unused one may be kept.
//!
//! Were they all taken by clients, no upstream could be reached, no secret file read and no health check answered. So no
//! more clients are let in than the files are enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for what is not a client's: the admin listener, secret files, name resolution, probes.
const KEPT: usize = 24;
/// For one client.
const EACH: usize = 3;
/// Assumed to be open where it cannot be counted.
const OPEN_ALREADY: usize = 40;

/// The number of clients that may be connected at once: `configured`, or fewer where the files are not enough for them.
/// Raises the process's own limit as far as the system lets it.
pub(super) fn places(configured: usize) -> usize {
    let Some(limit) = raised() else { return configured };
    let open = std::fs::read_dir("/proc/self/fd").map_or(OPEN_ALREADY, Iterator::count);
    let places = fitting(configured, limit, open);
    if places < configured {
        tracing::warn!(
            connections = places,
            open_files = limit,
            "the limit of open files is too low for limits.connections ({configured}); fewer clients are let in. Raise \
             the limit (LimitNOFILE, ulimit -n) or lower limits.connections"
        );
    }
    places
}

/// The limit of open files once it is raised; `None`: there is none.
fn raised() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, wanted).is_ok() { maximum } else { current };
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn fitting(configured: usize, limit: usize, open: usize) -> usize {
    let free = limit.saturating_sub(open).saturating_sub(KEPT);
    configured.min(free / EACH).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_room_for_its_upstream() {
        assert_eq!(fitting(20_000, 65_536, 30), 20_000);
        assert_eq!(fitting(20_000, 1_024, 30), 323);
        assert_eq!(fitting(20_000, 50, 30), 1);
        assert_eq!(fitting(3, usize::MAX, 0), 3);
    }
}
