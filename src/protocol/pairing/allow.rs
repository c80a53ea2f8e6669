//! The allow list: which requests to a gateway's admin API may come over a pairing, and in which form.

use std::collections::BTreeMap;

use http::Method;
use serde_json::Value;

use super::sealing::{Secrets, is_variable};
use super::{Command, CommandRefusal, MOST_BODY_BYTES};
use crate::names::{ConnectionId, RequestId};

/// A command that may be executed. Only [`allow`] makes one, and what it holds is what was looked at: its body is the
/// parsed one, written anew, so that two readers cannot take it for two different things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    request_id: RequestId,
    method: Method,
    path: String,
    headers: BTreeMap<String, String>,
    body: Option<Body>,
}

#[derive(Clone, PartialEq, Eq)]
struct Body(String);

impl Allowed {
    /// Its id.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path, with the query where there is one.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The headers, their names in lower case.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// The body's text.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        self.body.as_ref().map(|body| body.0.as_str())
    }

    /// As it goes over the socket.
    #[must_use]
    pub fn into_command(self) -> Command {
        Command {
            request_id: self.request_id.to_string(),
            method: self.method.to_string(),
            path: self.path,
            headers: self.headers,
            body: self.body.map(|body| body.0),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Takes a command that may pass.
///
/// # Errors
/// The first thing that may not.
pub fn allow(command: Command) -> Result<Allowed, CommandRefusal> {
    let Command { request_id, method, path, headers, body } = command;
    let request_id = request_id.parse().map_err(CommandRefusal::RequestId)?;
    let (plain, query) = match path.split_once('?') {
        Some((plain, query)) => (plain, Some(query)),
        None => (path.as_str(), None),
    };
    let route = ROUTES.iter().find(|route| route.is(&method, plain)).ok_or(CommandRefusal::Route)?;
    if query.is_some_and(|query| !(route.refreshes && matches!(query, "refresh=auto" | "refresh=force"))) {
        return Err(CommandRefusal::Query);
    }
    let headers = headers.into_iter().map(header).collect::<Result<_, _>>()?;
    let body = match body.filter(|body| !body.is_empty()) {
        Some(body) => Some(route.take(&body)?),
        None => None,
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| CommandRefusal::Route)?;
    Ok(Allowed { request_id, method, path, headers, body })
}

/// One route: what it takes, and where secrets stand in it.
struct Route {
    method: &'static str,
    path: &'static str,
    fields: &'static [&'static str],
    secrets: Secrets,
    refreshes: bool,
}

const CONNECTION: &[&str] = &[
    "id",
    "name",
    "protocol",
    "base_url",
    "path_prefix",
    "auth_mode",
    "auth_header_name",
    "auth_prefix",
    "auth_secret_key",
    "secrets",
    "status",
    "rotation_interval_days",
    "mcp_transport",
    "mcp_endpoint",
    "mcp_tool_policy",
    "mcp_subject_tool_policies",
];
const ROTATION: &[&str] = &["secrets", "rotated_by", "rotation_reason"];
const TEST: &[&str] = &["method", "test_path", "headers", "body"];
const VARIABLE: &[&str] = &["key", "value", "created_by_subject"];
const SERVICE_KEY: &[&str] = &["key"];
const CATALOG: &[&str] = &["version", "services"];

const fn bare(method: &'static str, path: &'static str) -> Route {
    Route { method, path, fields: &[], secrets: Secrets::None, refreshes: false }
}

const fn with(
    method: &'static str,
    path: &'static str,
    fields: &'static [&'static str],
    secrets: Secrets,
) -> Route {
    Route { method, path, fields, secrets, refreshes: false }
}

/// `{id}` is a connection's id, `{key}` a variable's name.
const ROUTES: [Route; 18] = [
    bare("GET", "/health"),
    bare("GET", "/health/live"),
    bare("GET", "/health/ready"),
    bare("GET", "/api/admin/connections"),
    with("POST", "/api/admin/connections", CONNECTION, Secrets::ByName("secrets")),
    bare("GET", "/api/admin/connections/{id}"),
    with("PATCH", "/api/admin/connections/{id}", CONNECTION, Secrets::ByName("secrets")),
    bare("DELETE", "/api/admin/connections/{id}"),
    with("POST", "/api/admin/connections/{id}/rotate", ROTATION, Secrets::ByName("secrets")),
    with("POST", "/api/admin/connections/{id}/test", TEST, Secrets::KnownHeaders("headers")),
    Route { refreshes: true, ..bare("POST", "/api/admin/connections/{id}/discover") },
    bare("GET", "/api/admin/credential-variables"),
    with("POST", "/api/admin/credential-variables", VARIABLE, Secrets::In("value")),
    bare("DELETE", "/api/admin/credential-variables/{key}"),
    bare("GET", "/api/admin/service-catalog"),
    with("PUT", "/api/admin/service-catalog", CATALOG, Secrets::None),
    bare("GET", "/api/admin/service-api-keys/{id}"),
    with("PUT", "/api/admin/service-api-keys/{id}", SERVICE_KEY, Secrets::In("key")),
];

impl Route {
    /// Methods are compared as they are (RFC 9110 §9.1).
    fn is(&self, method: &str, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        self.method == method
            && loop {
                match (own.next(), asked.next()) {
                    (None, None) => break true,
                    (Some("{id}"), Some(id)) if id.parse::<ConnectionId>().is_ok() => {}
                    (Some("{key}"), Some(key)) if is_variable(key) => {}
                    (Some(own), Some(asked)) if own == asked => {}
                    _ => break false,
                }
            }
    }

    fn take(&self, text: &str) -> Result<Body, CommandRefusal> {
        if text.len() > MOST_BODY_BYTES {
            return Err(CommandRefusal::BodyTooLarge { found: text.len(), most: MOST_BODY_BYTES });
        }
        let body: Value = serde_json::from_str(text).map_err(|_| CommandRefusal::BodyInvalid)?;
        let fields = body.as_object().ok_or(CommandRefusal::BodyInvalid)?;
        if self.fields.is_empty() && !fields.is_empty() {
            return Err(CommandRefusal::BodyNotTaken);
        }
        if fields.keys().any(|name| !self.fields.contains(&name.as_str())) {
            return Err(CommandRefusal::Field { known: self.fields });
        }
        if let Some(refusal) = self.secrets.refusal(&body) {
            return Err(refusal);
        }
        Ok(Body(body.to_string()))
    }
}

/// The longest value of a header.
const LONGEST_HEADER: usize = 256;

fn header((name, value): (String, String)) -> Result<(String, String), CommandRefusal> {
    let name = name.to_ascii_lowercase();
    let known = ["accept", "content-type", "x-request-id"].contains(&name.as_str());
    let visible = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if known && visible && (1..=LONGEST_HEADER).contains(&value.len()) {
        Ok((name, value))
    } else {
        Err(CommandRefusal::Header { most: LONGEST_HEADER })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(method: &str, path: &str, body: Option<&str>) -> Command {
        Command {
            request_id: "req_12345678".into(),
            method: method.into(),
            path: path.into(),
            headers: BTreeMap::new(),
            body: body.map(Into::into),
        }
    }

    fn refused(method: &str, path: &str, body: Option<&str>) -> CommandRefusal {
        let refusal = allow(command(method, path, body)).unwrap_err();
        assert!(!refusal.to_string().contains("canary"), "{refusal}");
        refusal
    }

    #[test]
    fn every_route_of_the_list_passes_and_none_beside_it() {
        let listed = |method: &str, path: &str| allow(command(method, path, None)).is_ok();
        let paths: Vec<String> = ROUTES
            .iter()
            .map(|route| route.path.replace("{id}", "open-ai").replace("{key}", "OPENAI_API_KEY"))
            .collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "get", ""] {
            for (path, route) in paths.iter().zip(&ROUTES) {
                let named = ROUTES.iter().any(|known| known.method == method && known.path == route.path);
                assert_eq!(listed(method, path), named, "{method} {path}");
            }
        }
        for path in [
            "",
            "/",
            "/metrics",
            "/openapi.json",
            "/health/",
            "//health",
            "/health/live/x",
            "health",
            "/api/admin/gateway",
            "/api/admin/reload",
            "/api/admin/vault/rekey",
            "/api/admin/pairing",
            "/api/admin/connections/",
            "/api/admin/connections/../reload",
            "/api/admin/connections/%2e%2e",
            "/api/admin/connections/a%2fb",
            "/api/admin/connections/a/rotate/",
            "/api/admin/connections/A",
            "/api/admin/credential-variables/a-b",
            "/api/admin/connections#x",
            "http://other/api/admin/connections",
            "/API/admin/connections",
        ] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                assert_eq!(refused(method, path, None), CommandRefusal::Route, "{method} {path}");
            }
        }
    }

    #[test]
    fn query_is_taken_for_discover_alone() {
        let discover = "/api/admin/connections/a/discover";
        for query in ["refresh=auto", "refresh=force"] {
            let path = format!("{discover}?{query}");
            assert_eq!(allow(command("POST", &path, None)).unwrap().path(), path);
        }
        for query in ["", "refresh", "refresh=x", "refresh=auto&a=b", "a=b", "refresh=auto?"] {
            let path = format!("{discover}?{query}");
            assert_eq!(refused("POST", &path, None), CommandRefusal::Query, "{query}");
        }
        assert_eq!(refused("GET", "/api/admin/connections?refresh=auto", None), CommandRefusal::Query);
    }

    #[test]
    fn headers_beside_the_three_are_refused() {
        let with = |name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            allow(Command { headers, ..command("GET", "/health", None) }).map(|allowed| allowed.headers)
        };
        let lower = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        assert_eq!(with("Content-Type", "application/json"), Ok(lower));
        for (name, value) in [
            ("authorization", "Bearer canary"),
            ("x-sigilum-admin-token", "canary"),
            ("host", "canary"),
            ("cookie", "canary"),
            ("accept ", "a"),
            ("accept", ""),
            ("accept", "a\r\nhost: b"),
            ("accept", &"a".repeat(257)),
        ] {
            assert_eq!(with(name, value), Err(CommandRefusal::Header { most: 256 }), "{name}");
        }
    }

    #[test]
    fn body_is_an_object_of_the_route_s_fields_and_passes_as_it_was_read() {
        let path = "/api/admin/connections";
        let twice = r#"{"id":"a", "base_url":"https://x","id":"b"}"#;
        let allowed = allow(command("POST", path, Some(twice))).unwrap();
        assert_eq!(allowed.body(), Some(r#"{"id":"b","base_url":"https://x"}"#));
        for body in ["canary", "[]", "\"canary\"", "{", "null", &"[".repeat(10_000)] {
            assert_eq!(refused("POST", path, Some(body)), CommandRefusal::BodyInvalid);
        }
        let unknown = refused("POST", path, Some(r#"{"secret":"canary"}"#));
        assert_eq!(unknown, CommandRefusal::Field { known: CONNECTION });
        let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(MOST_BODY_BYTES));
        assert!(matches!(refused("POST", path, Some(&large)), CommandRefusal::BodyTooLarge { .. }));
        assert_eq!(refused("GET", path, Some(r#"{"a":1}"#)), CommandRefusal::BodyNotTaken);
        assert_eq!(allow(command("GET", path, Some(""))).unwrap().body(), None);
    }

    #[test]
    fn plain_secret_is_refused_wherever_a_secret_is_taken() {
        let by_name = json!({ "secrets": { "k": "canary" } }).to_string();
        for (method, path, body, field) in [
            ("POST", "/api/admin/connections", by_name.as_str(), "secrets"),
            ("PATCH", "/api/admin/connections/a", &by_name, "secrets"),
            ("POST", "/api/admin/connections/a/rotate", &by_name, "secrets"),
            ("POST", "/api/admin/credential-variables", r#"{"key":"A","value":"canary"}"#, "value"),
            ("PUT", "/api/admin/service-api-keys/abc", r#"{"key":"canary"}"#, "key"),
        ] {
            assert_eq!(refused(method, path, Some(body)), CommandRefusal::SecretNotSealed { field });
        }
        let (test, cookie) = ("/api/admin/connections/a/test", r#"{"headers":{"Cookie":"canary"}}"#);
        assert_eq!(refused("POST", test, Some(cookie)).code(), "COMMAND_NOT_ALLOWED");
    }

    #[test]
    fn request_id_that_can_be_none_is_refused() {
        let refusal = allow(Command { request_id: "a b".into(), ..command("GET", "/health", None) });
        assert!(matches!(refusal, Err(CommandRefusal::RequestId(_))));
    }
}
