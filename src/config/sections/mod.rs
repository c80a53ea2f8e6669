//! The sections of the file, one reader each.

mod admin;
mod auth;
mod claims;
mod control_plane;
mod later;
mod limits;
mod listeners;
mod provider;
mod providers;
mod telemetry;
mod vault;
mod verification;

pub(super) use admin::admin;
pub(super) use claims::claims;
pub(super) use control_plane::{ControlPlane, control_plane};
pub(super) use later::later_variables;
pub(super) use limits::limits;
pub(super) use listeners::{listeners, trusted_proxies};
pub(super) use providers::providers;
pub(super) use telemetry::telemetry;
pub(super) use vault::{rotation, vault};
pub(super) use verification::{replay, verification};

use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::{Reader, Section};
use super::sentence::holds;
use crate::connections::RequestLimits;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const HOUR: Duration = secs(3_600);
const DAY: Duration = secs(86_400);

/// `requests_per_second` and `concurrent`, 0 being no limit.
fn request_limits(reader: &mut Reader<'_>, section: &Section<'_>) -> RequestLimits {
    let mut limit = |key| {
        let number = section.number(reader, key, 0..=1_000_000_000)?;
        NonZeroU32::new(u32::try_from(number).ok()?)
    };
    RequestLimits { requests_per_second: limit("requests_per_second"), concurrent: limit("concurrent") }
}

/// A number that fits the type asked for, since `range` lies within it.
fn number<T: TryFrom<u64>>(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Option<T> {
    section.number(reader, key, range).and_then(|number| T::try_from(number).ok())
}

/// An HTTP or HTTPS URL without user, query and fragment. The sentences do not repeat a text that may
/// hold a password.
pub(super) fn plain_url(text: &str) -> Result<url::Url, String> {
    const TAKES: &str = "a URL such as https://sigilum.internal";
    let part = |what: &str| Err(format!("takes a URL without {what}; leave it out"));
    let url = match url::Url::parse(text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => url,
        _ if text.contains(['@', '?']) => return Err(format!("takes {TAKES}")),
        _ => return Err(holds(TAKES, text)),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return part("user and password");
    }
    if url.query().is_some() {
        return part("query");
    }
    if url.fragment().is_some() {
        return part("fragment");
    }
    Ok(url)
}

/// Whether a URL leads to this machine.
pub(super) fn leads_home(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// `10.0.0.1:443`, `[::1]:443`, or `:443` for all addresses of this machine.
pub(super) fn socket_address(text: &str) -> Result<std::net::SocketAddr, String> {
    const TAKES: &str = "an IP address and a port, such as 127.0.0.1:38100 or [::1]:38100";
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| holds(TAKES, text))
}
