//! `verification` and `replay`.

use std::time::Duration;

use super::{DAY, HOUR, number, secs};
use crate::config::reader::{Reader, Section};
use crate::config::units::show_duration;
use crate::protocol::Freshness;
use crate::replay::MemoryConfig;

/// Reads `verification`.
pub(in crate::config) fn verification(reader: &mut Reader<'_>, root: &Section<'_>) -> Freshness {
    let section = root.section(reader, "verification");
    Freshness {
        created_tolerance: section.duration(reader, "created_tolerance", secs(1)..=HOUR).unwrap_or(secs(300)),
        future_skew: section.duration(reader, "future_skew", Duration::ZERO..=HOUR).unwrap_or(secs(30)),
    }
}

/// Reads `replay`. A nonce must be remembered at least as long as its signature is fresh.
pub(in crate::config) fn replay(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    freshness: Freshness,
) -> MemoryConfig {
    let section = root.section(reader, "replay");
    let memory = section.choice(reader, "store", &[("memory", true), ("redis", false)]).unwrap_or(true);
    if !memory {
        section.not_yet(reader, "store", "the replay store in Redis; write memory");
    }
    section.secret(reader, "url");
    section.choice(reader, "when_unavailable", &[("refuse", ())]);
    for key in ["url", "when_unavailable"] {
        if memory && section.has(key) {
            section.error(reader, key, "has a meaning only with store: redis; leave it out");
        }
    }
    let window = section.duration(reader, "window", secs(1)..=DAY).unwrap_or(secs(600));
    let fresh = freshness.created_tolerance + freshness.future_skew;
    if window < fresh {
        let message = format!(
            "replay.window of {} is shorter than verification.created_tolerance and future_skew together, {}: \
             a signature would be fresh after its nonce is forgotten; make the window at least that long",
            show_duration(window),
            show_duration(fresh)
        );
        let verification =
            Section::open(reader, root.get("verification"), "verification".to_owned(), root.place);
        if section.has("window") {
            section.error(reader, "window", message);
        } else if verification.has("created_tolerance") {
            verification.error(reader, "created_tolerance", message);
        } else {
            verification.error(reader, "future_skew", message);
        }
    }
    let capacity = number(reader, &section, "capacity", 1..=1_000_000_000).unwrap_or(20_000_000);
    MemoryConfig { window, capacity }
}
