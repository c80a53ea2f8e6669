//! Environment variables known in the field: each stands in for a setting of the file.

use super::fault::{Fault, FaultKind};
use super::sentence::holds;
use super::tree::{Key, Node, Place, Value};

/// A variable, the setting that it overrides, and what it takes.
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// The setting's path; `listeners[0]` and `providers[]` are the first listener and every provider.
    pub(super) setting: &'static str,
    takes: Takes,
}

#[derive(Clone, Copy)]
enum Takes {
    /// Text as the setting takes it.
    Text,
    /// `true`, `false` and their like.
    Flag,
    /// Whole seconds.
    Seconds,
    /// Whole days.
    Days,
    /// Whole bytes.
    Bytes,
    /// Items between commas.
    List,
    /// The secret itself: the setting becomes a reference to the variable.
    Secret,
    /// As `Seconds`, and only where the file says nothing.
    DefaultSeconds,
}

const fn variable(name: &'static str, setting: &'static str, takes: Takes) -> Variable {
    Variable { name, setting, takes }
}

/// Where two variables set the same thing, the first one that is set counts.
pub(super) const VARIABLES: &[Variable] = &[
    variable("GATEWAY_ADDR", "listeners[0].address", Takes::Text),
    variable("GATEWAY_DATA_DIR", "data_dir", Takes::Text),
    variable("SIGILUM_REGISTRY_URL", "control_plane.url", Takes::Text),
    variable("SIGILUM_API_URL", "control_plane.url", Takes::Text),
    variable("SIGILUM_SERVICE_API_KEY", "control_plane.service_api_key", Takes::Secret),
    variable("GATEWAY_SIGILUM_NAMESPACE", "identity.namespace", Takes::Text),
    variable("SIGILUM_NAMESPACE", "identity.namespace", Takes::Text),
    variable("GATEWAY_SIGILUM_HOME", "identity.home", Takes::Text),
    variable("SIGILUM_HOME", "identity.home", Takes::Text),
    variable("GATEWAY_ALLOWED_ORIGINS", "admin.allowed_origins", Takes::List),
    variable("GATEWAY_TRUSTED_PROXY_CIDRS", "trusted_proxies", Takes::List),
    variable("GATEWAY_LOG_PROXY_REQUESTS", "telemetry.log.proxy_requests", Takes::Flag),
    variable("GATEWAY_AUTO_REGISTER_CLAIMS", "control_plane.auto_register_claims", Takes::Flag),
    variable("GATEWAY_ADMIN_ACCESS_MODE", "admin.access", Takes::Text),
    variable("GATEWAY_ADMIN_TOKEN", "admin.token", Takes::Secret),
    variable("GATEWAY_ADMIN_TIMEOUT_SECONDS", "admin.timeout", Takes::Seconds),
    variable("GATEWAY_MASTER_KEY", "vault.master_key", Takes::Secret),
    variable("GATEWAY_SERVICE_CATALOG_FILE", "service_catalog", Takes::Text),
    variable("GATEWAY_ROTATION_ENFORCEMENT", "rotation.enforcement", Takes::Text),
    variable("GATEWAY_ROTATION_GRACE_DAYS", "rotation.grace", Takes::Days),
    variable("GATEWAY_MAX_REQUEST_BODY_BYTES", "limits.body.max", Takes::Bytes),
    variable("SIGILUM_TIMESTAMP_TOLERANCE_SECONDS", "verification.created_tolerance", Takes::Seconds),
    variable("SIGILUM_NONCE_TTL_SECONDS", "replay.window", Takes::Seconds),
    variable("GATEWAY_SHUTDOWN_TIMEOUT_SECONDS", "shutdown.drain", Takes::Seconds),
    variable("GATEWAY_PROXY_TIMEOUT_SECONDS", "providers[].timeouts.read", Takes::DefaultSeconds),
    variable(
        "GATEWAY_CLAIM_REGISTRATION_RATE_LIMIT_PER_MINUTE",
        "limits.claim_registrations_per_minute",
        Takes::Text,
    ),
    variable("GATEWAY_CLAIMS_CACHE_TTL_SECONDS", "control_plane.claims.max_staleness", Takes::Seconds),
    variable("GATEWAY_CLAIMS_CACHE_REFRESH_SECONDS", "control_plane.claims.refresh", Takes::Seconds),
    variable("GATEWAY_CLAIMS_CACHE_MAX_APPROVED", "control_plane.claims.max_entries", Takes::Text),
];

/// Variables of what is not there yet.
pub(super) const LATER: &[&str] = &[
    "GATEWAY_MCP_TIMEOUT_SECONDS",
    "GATEWAY_MCP_TOOL_CALL_RATE_LIMIT_PER_MINUTE",
    "GATEWAY_MCP_CIRCUIT_BREAKER_FAILURES",
    "GATEWAY_MCP_CIRCUIT_BREAKER_COOLDOWN_SECONDS",
    "GATEWAY_MCP_DISCOVERY_CACHE_TTL_SECONDS",
    "GATEWAY_MCP_DISCOVERY_STALE_IF_ERROR_SECONDS",
    "GATEWAY_ALLOW_UNSIGNED_PROXY",
    "GATEWAY_ALLOW_UNSIGNED_CONNECTIONS",
];

/// Variables that open the proxy to unsigned requests; in enterprise mode they are refused.
pub(super) const UNSIGNED: [&str; 2] = ["GATEWAY_ALLOW_UNSIGNED_PROXY", "GATEWAY_ALLOW_UNSIGNED_CONNECTIONS"];

/// A variable's value; an empty one counts as not set, which is how compose files leave them.
pub(super) fn value(env: super::Environment<'_>, name: &str) -> Option<String> {
    env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether a text switches something off.
pub(super) fn is_off(text: &str) -> bool {
    flag(text) == Some(false)
}

/// Puts the variables that are set into the tree, in place of what stands there.
pub(super) fn overlay(root: &mut Node, env: super::Environment<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for variable in VARIABLES {
        if done.contains(&variable.setting) {
            continue;
        }
        let Some(text) = value(env, variable.name) else { continue };
        done.push(variable.setting);
        match variable.node(&text) {
            Ok(node) => variable.put(root, node),
            Err(message) => {
                faults.push(Place::Variable(variable.name).fault("", FaultKind::Error, message));
            }
        }
    }
    faults
}

impl Variable {
    /// What the file would say.
    fn node(&self, text: &str) -> Result<Node, String> {
        let place = Place::Variable(self.name);
        let scalar = |text: String| Node::new(place, Value::Text(text));
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match self.takes {
            Takes::Text => Ok(scalar(text.to_owned())),
            Takes::Secret => Ok(scalar(format!("env:{}", self.name))),
            Takes::Flag => match flag(text) {
                Some(flag) => Ok(scalar(flag.to_string())),
                None => Err(holds("true or false", text)),
            },
            Takes::Seconds | Takes::DefaultSeconds if digits => Ok(scalar(format!("{text}s"))),
            Takes::Seconds | Takes::DefaultSeconds => {
                Err(holds("a whole number of seconds, such as 300", text))
            }
            Takes::Days if digits => Ok(scalar(format!("{text}d"))),
            Takes::Days => Err(holds("a whole number of days, such as 7", text)),
            Takes::Bytes if digits => Ok(scalar(format!("{text}B"))),
            Takes::Bytes => Err(holds("a whole number of bytes, such as 1048576", text)),
            Takes::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(Node::new(place, Value::List(items.map(|item| scalar(item.to_owned())).collect())))
            }
        }
    }

    fn put(&self, root: &mut Node, node: Node) {
        let only_default = matches!(self.takes, Takes::DefaultSeconds);
        if let Some(rest) = self.setting.strip_prefix("providers[].") {
            if let Some(Value::List(providers)) = field(root, "providers").map(|node| &mut node.value) {
                for provider in
                    providers.iter_mut().filter(|provider| matches!(provider.value, Value::Map(_)))
                {
                    put(provider, rest, node.clone(), only_default);
                }
            }
        } else {
            put(root, self.setting, node, only_default);
        }
    }
}

/// A flag's value; `None` where it is neither on nor off.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn field<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(fields) => fields.iter_mut().find(|(name, _)| name.text == key).map(|(_, node)| node),
        _ => None,
    }
}

/// Puts `node` at `path` under `at`, making the sections on the way. Where something else than a section
/// stands in the way, all stays as it is: the reader reports that.
fn put(at: &mut Node, path: &str, node: Node, only_default: bool) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    let (key, first) = step.strip_suffix("[0]").map_or((step, false), |key| (key, true));
    if matches!(at.value, Value::Null) {
        at.value = Value::Map(Vec::new());
    }
    let Value::Map(fields) = &mut at.value else { return };
    if !fields.iter().any(|(name, _)| name.text == key) {
        let name = Key { text: key.to_owned(), place: node.place };
        fields.push((name, Node::new(node.place, Value::Null)));
    }
    let Some((_, mut slot)) =
        fields.iter_mut().find(|(name, _)| name.text == key).map(|(name, slot)| (name, slot))
    else {
        return;
    };
    if first {
        if matches!(slot.value, Value::Null) {
            slot.value = Value::List(Vec::new());
        }
        let Value::List(items) = &mut slot.value else { return };
        if items.is_empty() {
            items.push(Node::new(node.place, Value::Null));
        }
        let Some(item) = items.first_mut() else { return };
        slot = item;
    }
    match rest {
        Some(rest) => put(slot, rest, node, only_default),
        None if matches!(slot.value, Value::Null) => *slot = node,
        None if only_default => {}
        None => {
            let shadowed = std::mem::replace(slot, node);
            slot.shadowed = Some(Box::new(shadowed));
        }
    }
}
