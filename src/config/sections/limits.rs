//! `limits`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{number, request_limits};
use crate::config::reader::{Reader, Section};
use crate::gateway::Limits;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const CLAIM_REGISTRATIONS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);

/// Reads `limits`: those of the data plane, the claim registrations a minute, and the proxy threads.
pub(in crate::config) fn limits(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
) -> (Limits, NonZeroU32, Option<usize>) {
    let section = root.section(reader, "limits");
    let body = section.section(reader, "body");
    let per_namespace = section.section(reader, "per_namespace");
    let default = Limits::default();
    let bytes =
        |size: Option<u64>, default: usize| size.and_then(|s| usize::try_from(s).ok()).unwrap_or(default);
    let limits = Limits {
        connections: number(reader, &section, "connections", 1..=10_000_000).unwrap_or(default.connections),
        requests_in_flight: number(reader, &section, "requests_in_flight", 1..=10_000_000)
            .unwrap_or(default.requests_in_flight),
        header_bytes: bytes(section.size(reader, "header_bytes", KIB..=MIB), default.header_bytes),
        header_timeout: section
            .duration(reader, "header_timeout", Duration::from_millis(100)..=Duration::from_secs(300))
            .unwrap_or(default.header_timeout),
        body_max_bytes: body.size(reader, "max", 0..=1024 * GIB).unwrap_or(default.body_max_bytes),
        body_window_bytes: bytes(body.size(reader, "window", KIB..=GIB), default.body_window_bytes),
        body_min_rate_bytes: body.size(reader, "min_rate", 0..=GIB).unwrap_or(default.body_min_rate_bytes),
        per_namespace: request_limits(reader, &per_namespace),
    };
    let registrations = number(reader, &section, "claim_registrations_per_minute", 1..=1_000_000)
        .and_then(NonZeroU32::new)
        .unwrap_or(CLAIM_REGISTRATIONS_PER_MINUTE);
    let threads = number(reader, &section, "threads", 0..=1_024).filter(|threads| *threads > 0);
    (limits, registrations, threads)
}
