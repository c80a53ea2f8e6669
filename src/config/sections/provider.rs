//! One provider: a connection.

use std::collections::HashMap;
use std::time::Duration;

use super::auth::auth;
use super::{DAY, HOUR, number, request_limits, secs};
use crate::config::reader::{Reader, Section};
use crate::config::sentence::{holds, shown};
use crate::config::tree::Place;
use crate::connections::fields::{self, FieldFault};
use crate::connections::{
    BaseUrl, BaseUrlFault, BodyPolicy, BodyReflection, Connection, Endpoint, HealthCheck, LoadBalancing,
    Protocol, Reflection, Retries, Status, Timeouts, UpstreamTls,
};
use crate::names::ConnectionId;

/// Reads one provider; `None` where a part without a default is missing or wrong.
pub(super) fn provider(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    id: Option<ConnectionId>,
    vault: bool,
) -> Option<Connection> {
    let name = section.parsed(reader, "name", "a name for people", &again(fields::display_name));
    if section.choice(reader, "protocol", &[("http", true), ("mcp", false)]) == Some(false) {
        section.not_yet(reader, "protocol", "connections of protocol mcp; write http");
    }
    let allow_link_local = section.flag(reader, "allow_link_local").unwrap_or(false);
    let endpoints = endpoints(reader, section, allow_link_local);
    let auth = auth(reader, section, vault);
    let policies = [("hold_tail", BodyPolicy::HoldTail), ("refuse", BodyPolicy::Refuse)];
    let states = [("active", Status::Active), ("disabled", Status::Disabled)];
    let limits = section.section(reader, "limits");
    let load_balancing = load_balancing(reader, section);
    let health_check = health_check(reader, section);
    let path_prefix = section
        .parsed(reader, "path_prefix", "a path such as /v1", &again(fields::path_prefix))
        .unwrap_or_default();
    let rotation_interval_days = number(reader, section, "rotation_interval_days", 0..=3_650).unwrap_or(0);
    let status = section.choice(reader, "status", &states).unwrap_or_default();
    let timeouts = timeouts(reader, section);
    let retries = retries(reader, section);
    let limits = request_limits(reader, &limits);
    let tls = upstream_tls(reader, section, endpoints.as_deref());
    let unverified_stream = section.choice(reader, "unverified_stream", &policies).unwrap_or_default();
    let reflection = reflection(reader, section);
    let (id, (auth, secret)) = (id?, auth?);
    Some(Connection {
        name: name.unwrap_or_else(|| id.as_str().to_owned()),
        id,
        protocol: Protocol::Http,
        endpoints: endpoints?,
        load_balancing,
        health_check,
        path_prefix,
        auth,
        secret,
        status,
        rotation_interval_days,
        allow_link_local,
        timeouts,
        retries,
        limits,
        tls,
        unverified_stream,
        reflection,
    })
}

fn reflection(reader: &mut Reader<'_>, section: &Section<'_>) -> Reflection {
    let section = section.section(reader, "reflection");
    let bodies =
        [("off", BodyReflection::Off), ("mask", BodyReflection::Mask), ("block", BodyReflection::Block)];
    let headers = [("off", false), ("mask", true)];
    Reflection {
        mask_headers: section.choice(reader, "headers", &headers).unwrap_or(true),
        body: section.choice(reader, "body", &bodies).unwrap_or_default(),
    }
}

/// What a field takes, with what it holds instead.
fn again<T>(parse: fn(&str) -> Result<T, FieldFault>) -> impl Fn(&str) -> Result<T, String> {
    move |text| parse(text).map_err(|fault| holds(fault.takes, text))
}

/// `base_url`, or `endpoints` that differ in host and port alone.
fn endpoints(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    allow_link_local: bool,
) -> Option<Vec<Endpoint>> {
    let base_url = |text: &str| base_url(text).and_then(|url| leads_outside(url, allow_link_local));
    let single = section.parsed(reader, "base_url", "a URL", &base_url);
    let several = section.list(reader, "endpoints", "endpoints, each { url: …, weight: … }");
    match (section.has("base_url"), section.has("endpoints")) {
        (true, true) => {
            section.error(reader, "endpoints", "stands beside base_url; leave one of them out");
        }
        (false, false) => {
            section.need(
                reader,
                "base_url",
                "is needed, such as https://api.openai.com; or endpoints in its place",
            );
        }
        (true, false) => return single.map(|url| vec![Endpoint { url, weight: 1 }]),
        (false, true) => {}
    }
    let several = several?;
    if several.is_empty() {
        section.error(reader, "endpoints", "has none; name one at least");
    }
    let mut seen: HashMap<BaseUrl, Place> = HashMap::new();
    let mut first: Option<(BaseUrl, Place)> = None;
    let mut endpoints = Vec::new();
    for (node, path) in several {
        let endpoint = Section::open(reader, Some(node), path, node.place);
        endpoint.need(reader, "url", "is needed, such as http://10.0.0.11:8000");
        let weight = number(reader, &endpoint, "weight", 1..=1_000).unwrap_or(1);
        let Some(url) = endpoint.parsed(reader, "url", "a URL", &base_url) else { continue };
        let place = endpoint.place_of("url");
        if let Some(before) = seen.insert(url.clone(), place) {
            let message =
                format!("{url} stands already in {}; raise that one's weight instead", before.named());
            endpoint.error(reader, "url", message);
        }
        let (like, at) = first.get_or_insert_with(|| (url.clone(), place));
        if like.is_https() != url.is_https() || like.path() != url.path() {
            let message = format!(
                "all endpoints of a provider share scheme and base path; this one has not those of {} in {}",
                shown(&like.to_string()),
                at.named()
            );
            endpoint.error(reader, "url", message);
        }
        endpoints.push(Endpoint { url, weight });
    }
    Some(endpoints)
}

/// A base URL. The sentence does not repeat a text that may hold a password or a key.
fn base_url(text: &str) -> Result<BaseUrl, String> {
    text.parse().map_err(|fault: BaseUrlFault| match fault {
        BaseUrlFault::Unreadable(_) if text.contains(['@', '?']) => {
            "takes a URL such as https://api.example.com/base".to_owned()
        }
        BaseUrlFault::Unreadable(_) => holds("a URL such as https://api.example.com/base", text),
        other => shown(&other.to_string()),
    })
}

fn load_balancing(reader: &mut Reader<'_>, section: &Section<'_>) -> LoadBalancing {
    let words = [
        ("round_robin", Some(LoadBalancing::RoundRobin)),
        ("least_requests", None),
        ("consistent", Some(LoadBalancing::Consistent)),
    ];
    match section.choice(reader, "load_balancing", &words) {
        Some(Some(chosen)) => chosen,
        Some(None) => {
            section.not_yet(reader, "load_balancing", "least_requests; write round_robin or consistent");
            LoadBalancing::default()
        }
        None => LoadBalancing::default(),
    }
}

/// At a link-local address a cloud keeps its metadata, and the machine's own credentials with them.
fn leads_outside(url: BaseUrl, allow_link_local: bool) -> Result<BaseUrl, String> {
    if url.is_link_local() && !allow_link_local {
        let host = shown(url.host());
        return Err(format!(
            "leads to {host}, a link-local or metadata address; where that is meant, write allow_link_local: true"
        ));
    }
    Ok(url)
}

fn health_check(reader: &mut Reader<'_>, provider: &Section<'_>) -> Option<HealthCheck> {
    let section = provider.section(reader, "health_check");
    let path = section.parsed(reader, "path", "a path such as /health", &|text| {
        let plain = text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != '#');
        if plain { Ok(text.to_owned()) } else { Err(holds("a path such as /health", text)) }
    });
    let check = HealthCheck {
        path: path.unwrap_or_else(|| "/health".to_owned()),
        interval: section.duration(reader, "interval", Duration::from_millis(100)..=HOUR).unwrap_or(secs(5)),
        healthy: number(reader, &section, "healthy", 1..=100).unwrap_or(2),
        unhealthy: number(reader, &section, "unhealthy", 1..=100).unwrap_or(3),
    };
    provider.has("health_check").then_some(check)
}

fn timeouts(reader: &mut Reader<'_>, provider: &Section<'_>) -> Timeouts {
    let section = provider.section(reader, "timeouts");
    let default = Timeouts::default();
    let least = Duration::from_millis(1);
    Timeouts {
        connect: section.duration(reader, "connect", least..=HOUR).unwrap_or(default.connect),
        read: section.duration(reader, "read", least..=DAY).unwrap_or(default.read),
        total: section.duration(reader, "total", Duration::ZERO..=DAY).filter(|total| !total.is_zero()),
        idle: section.duration(reader, "idle", Duration::ZERO..=DAY).unwrap_or(default.idle),
    }
}

fn retries(reader: &mut Reader<'_>, provider: &Section<'_>) -> Retries {
    let section = provider.section(reader, "retries");
    let default = Retries::default();
    Retries {
        attempts: number(reader, &section, "attempts", 1..=10).unwrap_or(default.attempts),
        budget_percent: number(reader, &section, "budget_percent", 0..=100).unwrap_or(default.budget_percent),
    }
}

fn upstream_tls(
    reader: &mut Reader<'_>,
    provider: &Section<'_>,
    endpoints: Option<&[Endpoint]>,
) -> UpstreamTls {
    let section = provider.section(reader, "tls");
    let plain = |endpoint: &Endpoint| !endpoint.url.is_https();
    if provider.has("tls") && endpoints.is_some_and(|all| all.iter().any(plain)) {
        provider.error(
            reader,
            "tls",
            "has no effect, since the upstream is reached over http; write https or leave it out",
        );
    }
    let (cert, key) = (section.file(reader, "cert"), section.file(reader, "key"));
    if section.has("key") {
        section.need(reader, "cert", "is needed with key: the PEM file of the client certificate's chain");
    }
    if section.has("cert") {
        section.need(reader, "key", "is needed with cert: the PEM file of the client certificate's key");
    }
    UpstreamTls {
        ca: section.file(reader, "ca"),
        client_cert: cert.zip(key),
        server_name: section.parsed(reader, "server_name", "a host name", &|text| {
            let name = rustls::pki_types::ServerName::try_from(text);
            name.map(|_| text.to_owned()).map_err(|_| holds("a host name", text))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_in_a_base_url_is_not_repeated() {
        for wrong in [
            "https://user:canary@host",
            "https://user:canary@ho st",
            "ftp://user:canary@host/",
            "https://host/?key=canary",
            "http://[x?canary",
        ] {
            let sentence = base_url(wrong).unwrap_err();
            assert!(!sentence.contains("canary"), "{sentence}");
        }
    }
}
