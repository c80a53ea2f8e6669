//! The audit log: a line for each change, with who made it, what it was, and how things stood before and after.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::access::Way;
use crate::names::RequestId;

/// The target of audit lines, which are shown whatever the log's level is.
const TARGET: &str = "sigilum::audit";
/// Dates that every change moves, and what is too long for a line.
const LEFT_OUT: [&str; 3] = ["created_at", "updated_at", "mcp_discovery"];

/// Who asked, and by which request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Where the request came from.
    pub(super) peer: IpAddr,
    /// Why it was let in.
    pub(super) way: Way,
    /// The request's id.
    pub(super) request_id: RequestId,
}

/// What is said of one change. It takes views only, and no view holds a secret.
#[derive(Debug, Default)]
pub(super) struct Line {
    target: String,
    secrets: Vec<String>,
    before: Value,
    after: Value,
}

impl Line {
    /// Of a change of this thing.
    pub(super) fn of(target: impl ToString) -> Self {
        Self { target: target.to_string(), ..Self::default() }
    }

    /// How it stood before.
    pub(super) fn before(&mut self, view: &impl Serialize) {
        self.before = serde_json::to_value(view).unwrap_or_default();
    }

    /// How it stands now.
    pub(super) fn after(&mut self, view: &impl Serialize) {
        self.after = serde_json::to_value(view).unwrap_or_default();
    }

    /// The names of the secrets that were set or removed.
    pub(super) fn secrets(&mut self, names: impl IntoIterator<Item = String>) {
        self.secrets.extend(names);
    }

    /// Writes it.
    pub(super) fn write(&self, caller: &Caller, action: &'static str, drained: bool) {
        let (before, after) = differing(&self.before, &self.after);
        tracing::info!(
            target: TARGET,
            action,
            outcome = "done",
            thing = %self.target,
            request_id = %caller.request_id,
            peer = %caller.peer,
            way = caller.way.as_str(),
            secrets = self.secrets.join(","),
            old_secret_in_use = !drained,
            before = %before,
            after = %after,
            "admin change"
        );
    }
}

/// Says that a change was refused. `route` is the route's own form, never what the client sent.
pub(super) fn refused(
    request_id: &RequestId,
    peer: IpAddr,
    method: &axum::http::Method,
    route: &str,
    code: &str,
) {
    tracing::warn!(target: TARGET, outcome = "refused", %request_id, %peer, %method, route, code, "admin change");
}

/// Says that a secret came as it is over a network.
pub(super) fn unsealed(caller: &Caller) {
    tracing::warn!(
        target: TARGET,
        request_id = %caller.request_id,
        peer = %caller.peer,
        "a secret came from another machine unsealed, so whoever carried it could read it; rotate it at the provider, and seal the next one"
    );
}

/// What differs between two objects; of a thing that came or went, all that is set.
fn differing(before: &Value, after: &Value) -> (Value, Value) {
    let empty = Map::new();
    let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let only = |one: &Map<String, Value>, other: &Map<String, Value>| {
        let differs = |(name, value): &(&String, &Value)| {
            !LEFT_OUT.contains(&name.as_str()) && other.get(*name).unwrap_or(&Value::Null) != *value
        };
        let kept = one.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone()));
        Value::Object(kept.collect())
    };
    (only(old, new), only(new, old))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn line_has_only_what_differs() {
        let before = json!({"name": "a", "status": "active", "updated_at": "1"});
        let after = json!({"name": "b", "status": "active", "updated_at": "2"});
        assert_eq!(differing(&before, &after), (json!({"name": "a"}), json!({"name": "b"})));
        assert_eq!(
            differing(&Value::Null, &json!({"name": "b", "problem": null})),
            (json!({}), json!({"name": "b"}))
        );
    }
}
