//! The book's page: what it shows at one moment, immutable, replaced whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::records::VariableFacts;
use super::stored::{Document, Facts, given};
use crate::clock::UnixTime;
use crate::connections::{
    Auth, Catalog, Connection, ConnectionView, LiveConnection, Protocol, Retired, SecretSource,
    SecretUnreadable, Status, VariableView,
};
use crate::names::{ConnectionId, SecretName};
use crate::policy::rotation_due_at;

/// What the book shows at one moment.
#[derive(Clone)]
pub(super) struct Page {
    /// The YAML's connections.
    pub(super) configured: BTreeMap<ConnectionId, Connection>,
    /// Every connection, from wherever it is.
    pub(super) entries: BTreeMap<ConnectionId, Arc<Entry>>,
    pub(super) variables: BTreeMap<String, VariableFacts>,
    /// The one that was stored.
    pub(super) stored_catalog: Option<Arc<Catalog>>,
    /// Where none was stored.
    pub(super) default_catalog: Arc<Catalog>,
}

/// One connection in the book.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) live: Arc<LiveConnection>,
    /// `None` of the configuration's, and of one whose record cannot be read.
    pub(super) document: Option<Document>,
    pub(super) facts: Facts,
    pub(super) discovery: Option<serde_json::Value>,
    pub(super) names: Vec<SecretName>,
    /// By secret, the variable that it refers to.
    pub(super) references: BTreeMap<String, String>,
    pub(super) configured: bool,
    pub(super) shadows_stored: bool,
    /// What the connection was before it was changed, while requests still have it.
    pub(super) formers: Vec<Weak<LiveConnection>>,
}

impl Entry {
    /// Takes the secret away from what the connection was before.
    pub(super) fn withdraw_formers(&mut self) -> Vec<Retired> {
        let formers = std::mem::take(&mut self.formers);
        formers.iter().filter_map(Weak::upgrade).map(|former| withdraw(&former)).collect()
    }

    /// Whether it is the YAML's with its secret in the vault.
    pub(super) fn stores_its_secret(&self) -> bool {
        self.configured && self.live.config().secret == Some(SecretSource::Store)
    }

    pub(super) fn view(&self) -> ConnectionView {
        let (config, facts) = (self.live.config(), &self.facts);
        let document = self.document.clone().unwrap_or_default();
        let (auth_mode, auth_header_name, auth_prefix) = auth(&config.auth, &document);
        let urls: Vec<String> = config.endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect();
        let rotated_at = self.live.last_rotated_at();
        let in_vault = config.secret == Some(SecretSource::Store);
        ConnectionView {
            id: config.id.to_string(),
            name: config.name.clone(),
            protocol: match config.protocol {
                Protocol::Http => "http",
                Protocol::Mcp => "mcp",
            },
            base_url: urls.first().cloned().unwrap_or_default(),
            endpoints: if urls.len() > 1 { urls } else { Vec::new() },
            path_prefix: config.path_prefix.clone(),
            auth_mode,
            auth_header_name,
            auth_prefix,
            auth_secret_key: if in_vault { document.secret_key().to_owned() } else { String::new() },
            credential_keys: self.names.iter().map(ToString::to_string).collect(),
            credential_variables: self.references.clone(),
            status: match config.status {
                Status::Active => "active",
                Status::Disabled => "disabled",
            },
            created_at: date(facts.created_at),
            updated_at: date(facts.updated_at),
            last_tested_at: date(facts.tested_at),
            last_test_status: facts.test_passed.map(|passed| if passed { "pass" } else { "fail" }),
            last_test_http_status: facts.test_http_status,
            last_test_error: facts.test_error.clone(),
            last_rotated_at: rotated_at.map(|at| at.to_string()),
            last_rotated_by: facts.rotated_by.clone(),
            last_rotation_reason: facts.rotation_reason.clone(),
            rotation_interval_days: config.rotation_interval_days,
            next_rotation_due_at: rotation_due_at(rotated_at, config.rotation_interval_days)
                .map(|at| at.to_string()),
            secret_version: facts.secret_version,
            mcp_transport: document.mcp_transport,
            mcp_endpoint: document.mcp_endpoint,
            mcp_tool_policy: document.mcp_tool_policy,
            mcp_subject_tool_policies: document.mcp_subject_tool_policies,
            mcp_discovery: self.discovery.clone(),
            source: if self.configured { "config" } else { "vault" },
            read_only: self.configured,
            shadows_stored: self.shadows_stored,
            problem: self.live.credential().err(),
        }
    }
}

impl Page {
    pub(super) fn variable(&self, key: &str) -> Option<VariableView> {
        let facts = self.variables.get(key)?;
        let refers = |entry: &Entry| entry.references.values().any(|name| name == key);
        let used = self.entries.iter().filter(|(_, entry)| refers(entry)).map(|(id, _)| id.to_string());
        Some(VariableView {
            key: key.to_owned(),
            created_at: UnixTime::from_millis(facts.created_at).to_string(),
            updated_at: UnixTime::from_millis(facts.updated_at).to_string(),
            created_by_subject: facts.created_by.clone(),
            used_by: used.collect(),
        })
    }
}

/// Takes the secret away from a connection that is no longer what it was.
pub(super) fn withdraw(live: &LiveConnection) -> Retired {
    live.swap(Err(SecretUnreadable::Withdrawn), None)
}

/// Mode, header or parameter, and prefix, as the API names them.
fn auth(auth: &Auth, document: &Document) -> (&'static str, String, String) {
    match auth {
        Auth::Header { name, prefix } => {
            let stored = document.auth_mode.as_deref();
            let like_bearer = *name == http::header::AUTHORIZATION && prefix == "Bearer ";
            let bearer = stored.map_or(like_bearer, |mode| mode == "bearer" || mode.is_empty());
            let mode = if bearer { "bearer" } else { "header_key" };
            let shown = given(&document.auth_header_name).map_or_else(|| canonical(name), str::to_owned);
            (mode, shown, prefix.clone())
        }
        Auth::Query { param } => ("query_param", param.clone(), String::new()),
        Auth::Basic { .. } | Auth::BasicPair => ("basic", String::new(), String::new()),
        Auth::Path { template } => ("path", String::new(), template.to_string()),
        Auth::None => ("none", String::new(), String::new()),
    }
}

/// `x-api-key` as `X-Api-Key`, which is how people write it.
fn canonical(name: &http::HeaderName) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.as_str().split('-').map(capital).collect::<Vec<_>>().join("-")
}

fn date(millis: Option<i64>) -> Option<String> {
    millis.map(|millis| UnixTime::from_millis(millis).to_string())
}
