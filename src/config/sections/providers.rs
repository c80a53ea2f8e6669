//! `providers`: all connections.

use std::collections::{HashMap, HashSet};

use super::provider::provider;
use crate::config::reader::{Reader, Section};
use crate::config::tree::Place;
use crate::connections::Connection;
use crate::names::ConnectionId;

/// What `providers` holds.
pub(in crate::config) struct Providers {
    /// Those that are right.
    pub(in crate::config) connections: Vec<Connection>,
    /// The ids of all, those with another fault included, so that a claim on one is no further fault.
    pub(in crate::config) ids: HashSet<ConnectionId>,
}

/// Reads `providers`; `required`: whether they must be given; `vault`: whether there is one for their secrets.
pub(in crate::config) fn providers(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    required: bool,
    vault: bool,
) -> Providers {
    if required {
        root.need(reader, "providers", "is needed; where there are none yet, write providers: []");
    }
    let items = root.list(reader, "providers", "providers").unwrap_or_default();
    let mut first: HashMap<ConnectionId, Place> = HashMap::new();
    let mut connections = Vec::new();
    for (node, path) in items {
        let section = Section::open(reader, Some(node), path, node.place);
        section.need(reader, "id", "is needed: the name in /proxy/{id}/ and in claims, such as openai");
        let id = section.parsed(reader, "id", "an id such as openai", &|text| {
            text.parse::<ConnectionId>().map_err(|error| error.to_string())
        });
        if let Some(id) = &id {
            let place = section.place_of("id");
            if let Some(first) = first.get(id) {
                let message =
                    format!("the id {id} stands already in {}; each provider has its own", first.named());
                section.error(reader, "id", message);
            } else {
                first.insert(id.clone(), place);
            }
        }
        connections.extend(provider(reader, &section, id, vault));
    }
    Providers { connections, ids: first.into_keys().collect() }
}
