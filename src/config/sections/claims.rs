//! `claims`: the approved claims that stand in the file.

use std::collections::{HashMap, HashSet};

use crate::clock::UnixTime;
use crate::config::keys;
use crate::config::reader::{Reader, Section};
use crate::config::sentence::shown;
use crate::config::tree::{Node, Place};
use crate::names::{ConnectionId, Namespace};
use crate::policy::{Claim, Scope, Scopes};
use crate::protocol::PublicKey;

/// Reads `claims.static`; the services must be among `services`, or with a `vault` may be made over the admin API later.
pub(in crate::config) fn claims(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    services: &HashSet<ConnectionId>,
    vault: bool,
) -> Vec<Claim> {
    let section = root.section(reader, "claims");
    let entries = section.list(reader, "static", "claims").unwrap_or_default();
    let mut seen = HashMap::new();
    let mut claims = Vec::new();
    for (index, (node, path)) in entries.into_iter().enumerate() {
        claims.extend(
            entry(reader, node, path, index, &mut seen, &|text| service(text, services, vault))
                .unwrap_or_default(),
        );
    }
    let unknown: Vec<&Claim> = claims.iter().filter(|claim| !services.contains(&claim.service)).collect();
    for claim in unknown {
        let message = format!(
            "no provider has the id {}; the claim counts once a connection of this id is made over the admin API",
            claim.service
        );
        section.warn(reader, "static", message);
    }
    claims
}

type Seen = HashMap<(Namespace, PublicKey, ConnectionId), Place>;

/// One entry: a claim for each of its services; `None` where a part of it is wrong.
fn entry(
    reader: &mut Reader<'_>,
    node: &Node,
    path: String,
    index: usize,
    seen: &mut Seen,
    service: &dyn Fn(&str) -> Result<ConnectionId, String>,
) -> Option<Vec<Claim>> {
    let section = Section::open(reader, Some(node), path, node.place);
    section.need(reader, "namespace", "is needed: the namespace of the agent");
    section.need(reader, "public_key", "is needed: the agent's key, ed25519:<base64>");
    section.need(reader, "services", "is needed: the ids of the providers that the agent may use");
    let namespace = section.parsed(reader, "namespace", "a namespace", &sentence::<Namespace>);
    let public_key =
        section.parsed(reader, "public_key", "a public key, ed25519:<base64>", &sentence::<PublicKey>);
    let expires_at =
        section.parsed(reader, "expires_at", "a date and time of RFC 3339", &sentence::<UnixTime>);
    let scopes = section.list_of(reader, "scopes", "scopes such as \"GET /v1/models\"", &sentence::<Scope>);
    let named = section.list_of(reader, "services", "ids of providers", service);
    if section.list(reader, "services", "ids of providers").is_some_and(|list| list.is_empty()) {
        section.error(reader, "services", "names no provider; a claim without one allows nothing");
    }
    let (namespace, public_key) = (namespace?, public_key?);
    let mut claims = Vec::new();
    for service in named {
        let key = (namespace.clone(), public_key, service.clone());
        if let Some(first) = seen.insert(key, section.place) {
            let message = format!(
                "this key of {namespace} has a claim on {service} already, in {}; leave one out",
                first.named()
            );
            section.error(reader, "services", message);
        }
        claims.push(Claim {
            id: format!("static-{index}-{service}").parse().ok()?,
            namespace: namespace.clone(),
            public_key,
            service,
            expires_at,
            scopes: Scopes::new(scopes.clone()),
        });
    }
    Some(claims)
}

fn service(text: &str, services: &HashSet<ConnectionId>, vault: bool) -> Result<ConnectionId, String> {
    let id: ConnectionId = text.parse().map_err(|error| format!("{error}"))?;
    if services.contains(&id) {
        return Ok(id);
    }
    let known = services.iter().map(ConnectionId::as_str);
    Err(match keys::nearest(text, known) {
        Some(nearest) => format!("no provider has the id {}; did you mean {nearest}?", shown(text)),
        None if vault => return Ok(id),
        None => format!("no provider has the id {}; add it under providers", shown(text)),
    })
}

fn sentence<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| shown_whole(&error.to_string()))
}

/// An error's sentence on one line, whatever text it repeats.
fn shown_whole(sentence: &str) -> String {
    const LONGEST: usize = 300;
    sentence.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
