//! `telemetry`.

use tracing::Level;

use crate::config::reader::{Reader, Section};
use crate::telemetry::{LogConfig, LogFormat};

/// Reads `telemetry`: log lines, whether identities are logged plainly, whether allowed requests are logged.
pub(in crate::config) fn telemetry(reader: &mut Reader<'_>, root: &Section<'_>) -> (LogConfig, bool, bool) {
    let section = root.section(reader, "telemetry");
    let log = section.section(reader, "log");
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let config = LogConfig {
        format: log.choice(reader, "format", &formats).unwrap_or_default(),
        level: log.choice(reader, "level", &levels).unwrap_or(Level::INFO),
    };
    let plain = log.choice(reader, "identities", &[("fingerprint", false), ("plain", true)]).unwrap_or(false);
    let proxy_requests = log.flag(reader, "proxy_requests").unwrap_or(true);
    let otlp = section.section(reader, "otlp");
    otlp.parsed(reader, "endpoint", "a URL or env:NAME", &|_| Ok(()));
    if section.has("otlp") {
        section.not_yet(reader, "otlp", "traces over OTLP; leave this section out");
    }
    (config, plain, proxy_requests)
}
