//! `control_plane`: where claims come from and go to.

use std::num::NonZeroU32;

use super::{DAY, HOUR, leads_home, plain_url, secs};
use crate::claims::{FeedConfig, FeedSource, RegistrarConfig};
use crate::config::Mode;
use crate::config::reader::{Reader, Section};
use crate::config::tree::Place;
use crate::config::units::show_duration;
use crate::connections::SecretSource;
use crate::usage::UsageConfig;

/// As long as a stream may be silent before it is given up.
const STREAMED: std::time::Duration = std::time::Duration::from_secs(15);

/// What is wanted of the control plane; nothing where there is none.
#[derive(Debug, Default)]
pub(in crate::config) struct ControlPlane {
    pub(in crate::config) service_api_key: Option<SecretSource>,
    pub(in crate::config) feed: Option<FeedConfig>,
    pub(in crate::config) registrar: Option<RegistrarConfig>,
    pub(in crate::config) usage: Option<UsageConfig>,
}

/// What is read of `control_plane.claims`.
struct Feed {
    /// `None`: claims are not received.
    source: Option<FeedSource>,
    refresh: std::time::Duration,
    max_staleness: std::time::Duration,
    max_entries: Option<usize>,
}

/// Reads `control_plane`. `vault`: service API keys can be stored.
pub(in crate::config) fn control_plane(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    mode: Mode,
    vault: bool,
    per_minute: NonZeroU32,
) -> ControlPlane {
    let section = root.section(reader, "control_plane");
    let url = section.parsed(reader, "url", "a URL", &plain_url);
    let service_api_key = section.secret(reader, "service_api_key");
    let register = section.flag(reader, "auto_register_claims").unwrap_or(true);
    let feed = feed(reader, &section);
    // Where nothing else is wanted of the control plane, usage alone is not sent unasked.
    let usage = section.flag(reader, "usage").unwrap_or(feed.source.is_some() || register);
    if mode == Mode::Managed {
        section.need(reader, "url", "mode: managed needs it: the URL of the control plane");
    }
    let Some(url) = url else {
        unused(reader, &section);
        return ControlPlane::default();
    };
    if url.scheme() == "http" && !leads_home(&url) {
        let message = "the service API key and the claims travel in the clear; use https";
        section.warn(reader, "url", message);
    }
    if service_api_key.is_none() && !vault && (feed.source.is_some() || register || usage) {
        let message = "there is none, and no vault to store keys in: only services that have a variable \
                       SIGILUM_SERVICE_API_KEY_<ID> are opened";
        section.warn(reader, "service_api_key", message);
    }
    ControlPlane {
        service_api_key,
        registrar: register.then(|| RegistrarConfig { url: url.clone(), per_minute }),
        usage: usage.then(|| UsageConfig { url: url.clone() }),
        feed: feed.source.map(|source| FeedConfig {
            url,
            source,
            refresh: feed.refresh,
            max_staleness: feed.max_staleness,
            max_entries: feed.max_entries,
        }),
    }
}

/// Reads `control_plane.claims`.
fn feed(reader: &mut Reader<'_>, control_plane: &Section<'_>) -> Feed {
    let section = control_plane.section(reader, "claims");
    let words = [
        ("auto", Some(FeedSource::Auto)),
        ("stream", Some(FeedSource::Stream)),
        ("poll", Some(FeedSource::Poll)),
        ("none", None),
    ];
    let source = section.choice(reader, "source", &words).unwrap_or(Some(FeedSource::Auto));
    let refresh = section.duration(reader, "refresh", secs(1)..=HOUR).unwrap_or(secs(10));
    let max_staleness = section.duration(reader, "max_staleness", secs(1)..=DAY * 30).unwrap_or(HOUR);
    if max_staleness < refresh {
        let message = format!(
            "{} is shorter than the refresh of {}: claims would be too old before they are asked for again",
            show_duration(max_staleness),
            show_duration(refresh)
        );
        let key = if section.has("max_staleness") { "max_staleness" } else { "refresh" };
        section.error(reader, key, message);
    }
    if matches!(source, Some(FeedSource::Auto | FeedSource::Stream)) && max_staleness < STREAMED {
        let message = format!(
            "{} is too short for claims that come by a stream, which is heard every 5 s and may be silent for {}; write at \
             least {}, or source: poll",
            show_duration(max_staleness),
            show_duration(STREAMED),
            show_duration(STREAMED)
        );
        section.error(reader, "max_staleness", message);
    }
    let max_entries = super::number(reader, &section, "max_entries", 0..=1_000_000_000);
    Feed { source, refresh, max_staleness, max_entries: max_entries.filter(|most| *most > 0) }
}

/// Settings of the file that have no effect without a URL. Variables are left alone: a machine may have
/// the key for other programs.
fn unused(reader: &mut Reader<'_>, section: &Section<'_>) {
    if section.has("url") {
        return;
    }
    for key in ["service_api_key", "auto_register_claims", "claims", "usage"] {
        if section.has(key) && matches!(section.place_of(key), Place::File { .. }) {
            section.warn(reader, key, "has no effect without control_plane.url");
        }
    }
}
