//! `admin`.

use super::{HOUR, secs, socket_address};
use crate::admin::{Access, AdminSettings};
use crate::config::Mode;
use crate::config::reader::{Reader, Section};
use crate::config::sentence::holds;

/// Reads `admin`, with the defaults of `mode`.
pub(in crate::config) fn admin(reader: &mut Reader<'_>, root: &Section<'_>, mode: Mode) -> AdminSettings {
    let section = root.section(reader, "admin");
    let default = AdminSettings::default();
    let words = [("loopback", Access::Loopback), ("token", Access::Token), ("hybrid", Access::Hybrid)];
    let settings = AdminSettings {
        address: section
            .parsed(reader, "address", "an IP address and a port", &socket_address)
            .unwrap_or(default.address),
        access: section.choice(reader, "access", &words).unwrap_or_default(),
        token: section.secret(reader, "token"),
        allowed_origins: section.list_of(reader, "allowed_origins", ORIGIN, &origin),
        allowed_hosts: section.list_of(reader, "allowed_hosts", HOST, &host),
        on_data_port: section.flag(reader, "on_data_port").unwrap_or(mode != Mode::Enterprise),
        timeout: section.duration(reader, "timeout", secs(1)..=HOUR).unwrap_or(default.timeout),
    };
    if settings.access == Access::Token {
        let message = "access: token needs it; write token: env:GATEWAY_ADMIN_TOKEN and set that variable";
        section.need(reader, "token", message);
    }
    settings
}

const ORIGIN: &str = "an origin such as https://console.example.com";
const HOST: &str = "a host such as admin.example.com or admin.example.com:38101";

/// An origin as browsers send it: no default port, no path.
fn origin(text: &str) -> Result<String, String> {
    let url = super::plain_url(text).map_err(|_| origin_fault(text))?;
    let bare = url.path() == "/" && !text.ends_with('/');
    if bare { Ok(url.origin().ascii_serialization()) } else { Err(origin_fault(text)) }
}

fn origin_fault(text: &str) -> String {
    if text.contains(['@', '?']) { format!("takes {ORIGIN}") } else { holds(ORIGIN, text) }
}

/// A host as a `Host` header names it, in lower case.
fn host(text: &str) -> Result<String, String> {
    let authority: http::uri::Authority = text.parse().map_err(|_| holds(HOST, text))?;
    let plain = !text.contains('@') && !text.contains('*') && !authority.host().is_empty();
    if plain { Ok(text.to_ascii_lowercase()) } else { Err(holds(HOST, text)) }
}
