//! What the admin API shows of connections. No view ever holds a secret.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ToolPolicyDocument;

/// A connection as the API shows it. Dates are RFC 3339 in UTC, null where a thing never happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConnectionView {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// `http` or `mcp`.
    pub protocol: &'static str,
    /// The base URL; of a connection with several endpoints, the first one's.
    pub base_url: String,
    /// Every endpoint's base URL, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Between the base URL's path and the rest.
    pub path_prefix: String,
    /// `bearer`, `header_key`, `query_param`, `basic`, `path` or `none`.
    pub auth_mode: &'static str,
    /// The header, or the query parameter; empty where there is none.
    pub auth_header_name: String,
    /// What stands before the secret; of `path`, the template.
    pub auth_prefix: String,
    /// The name of the secret that is injected.
    pub auth_secret_key: String,
    /// The names of its secrets in the vault.
    pub credential_keys: Vec<String>,
    /// By the name of a secret, the variable that it refers to.
    pub credential_variables: BTreeMap<String, String>,
    /// `active` or `disabled`.
    pub status: &'static str,
    /// When it was made; null for the configuration's.
    pub created_at: Option<String>,
    /// When it was last changed.
    pub updated_at: Option<String>,
    /// When it was last tested.
    pub last_tested_at: Option<String>,
    /// `pass` or `fail`.
    pub last_test_status: Option<&'static str>,
    /// What the upstream answered.
    pub last_test_http_status: Option<u16>,
    /// What went wrong.
    pub last_test_error: Option<String>,
    /// When a secret was last replaced.
    pub last_rotated_at: Option<String>,
    /// Who did it.
    pub last_rotated_by: Option<String>,
    /// Why.
    pub last_rotation_reason: Option<String>,
    /// After how many days it is to be replaced; 0: never.
    pub rotation_interval_days: u32,
    /// When that is.
    pub next_rotation_due_at: Option<String>,
    /// How often its secrets were set, from 1; 0 where the vault has none.
    pub secret_version: u64,
    /// Of MCP connections.
    pub mcp_transport: Option<String>,
    /// Of MCP connections: the endpoint's path.
    pub mcp_endpoint: Option<String>,
    /// Of MCP connections.
    pub mcp_tool_policy: Option<ToolPolicyDocument>,
    /// Of MCP connections.
    pub mcp_subject_tool_policies: Option<BTreeMap<String, ToolPolicyDocument>>,
    /// What the last discovery found, as it was recorded.
    pub mcp_discovery: Option<serde_json::Value>,
    /// `config` (the YAML) or `vault`.
    pub source: &'static str,
    /// Whether the API cannot change it.
    pub read_only: bool,
    /// Whether the YAML stands before a connection of the vault with the same id.
    pub shadows_stored: bool,
    /// Why its requests are answered with `SECRET_UNREADABLE`, as a sentence: which variable is missing, say.
    pub problem: Option<String>,
}

/// A shared credential variable: its name and dates, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VariableView {
    /// Its name, as in `{{OPENAI_API_KEY}}`.
    pub key: String,
    /// When it was first set.
    pub created_at: String,
    /// When it was last set.
    pub updated_at: String,
    /// Who made it.
    pub created_by_subject: Option<String>,
    /// The connections that refer to it.
    pub used_by: Vec<String>,
}

/// Whether a service has an API key at the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceKeyView {
    /// Whether it has one in the vault.
    pub has_key: bool,
    /// Its first characters, for recognition; nothing where it is short.
    pub key_prefix: Option<String>,
}
