//! What the admin API takes: connections, changes of them, and secrets on their way in. The field names are the
//! contract; [`Book`](super::Book) makes of the texts what they mean, and says which field is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeserializeDerive, Serialize};
use zeroize::Zeroizing;

use crate::protocol::sealed::Sealed;

/// A connection to be made. What is left out gets its default; an unknown field is an error.
#[derive(Debug, DeserializeDerive)]
#[serde(deny_unknown_fields)]
pub struct NewConnection {
    /// Its id, also the service that claims name.
    pub id: String,
    /// For people; the id where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    /// `http` (default) or `mcp`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// `https://host[:port][/base]`.
    pub base_url: String,
    /// Stands between the base URL's path and the rest, such as `/v1`.
    #[serde(default)]
    pub path_prefix: Option<String>,
    /// `bearer` (default), `header_key`, `query_param`, `basic`, `path` or `none`.
    #[serde(default)]
    pub auth_mode: Option<String>,
    /// The header of `bearer` (default `Authorization`) and `header_key` (needed), or the parameter of `query_param`
    /// (default `api_key`).
    #[serde(default)]
    pub auth_header_name: Option<String>,
    /// What stands before the secret: of `bearer` `Bearer ` by default, of `header_key` nothing, of `path` a template
    /// such as `/bot{secret}`.
    #[serde(default)]
    pub auth_prefix: Option<String>,
    /// The name of the secret that is injected; where there is only one, that one, else needed.
    #[serde(default)]
    pub auth_secret_key: Option<String>,
    /// The secrets by name. Of `basic`, a secret `username` stands before the one that `auth_secret_key` names; without
    /// it that one is `user:password` whole.
    #[serde(default, deserialize_with = "by_name")]
    pub secrets: BTreeMap<String, SecretInput>,
    /// `active` (default) or `disabled`.
    #[serde(default)]
    pub status: Option<String>,
    /// After how many days the secret is to be replaced; 0 or nothing: never.
    #[serde(default)]
    pub rotation_interval_days: Option<u32>,
    /// `streamable_http` (default).
    #[serde(default)]
    pub mcp_transport: Option<String>,
    /// The path of the MCP endpoint below the base URL, such as `/mcp`.
    #[serde(default)]
    pub mcp_endpoint: Option<String>,
    /// The tools that callers may use.
    #[serde(default)]
    pub mcp_tool_policy: Option<ToolPolicyDocument>,
    /// The same for single subjects.
    #[serde(default)]
    pub mcp_subject_tool_policies: Option<BTreeMap<String, ToolPolicyDocument>>,
}

/// A change of a connection: what is absent stays, what is null gets its default. The fields are those of
/// [`NewConnection`].
#[derive(Debug, Default, DeserializeDerive)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "each field is described at NewConnection")]
pub struct ConnectionPatch {
    pub name: Patch<String>,
    pub protocol: Patch<String>,
    /// It has no default, so null is refused.
    pub base_url: Patch<String>,
    pub path_prefix: Patch<String>,
    pub auth_mode: Patch<String>,
    pub auth_header_name: Patch<String>,
    pub auth_prefix: Patch<String>,
    pub auth_secret_key: Patch<String>,
    /// By name: a value sets that secret, null removes it, and one that is not named stays.
    #[serde(deserialize_with = "by_name")]
    pub secrets: BTreeMap<String, Option<SecretInput>>,
    pub status: Patch<String>,
    pub rotation_interval_days: Patch<u32>,
    pub mcp_transport: Patch<String>,
    pub mcp_endpoint: Patch<String>,
    pub mcp_tool_policy: Patch<ToolPolicyDocument>,
    pub mcp_subject_tool_policies: Patch<BTreeMap<String, ToolPolicyDocument>>,
}

/// What a change says of one field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// Nothing: it stays.
    #[default]
    Keep,
    /// Null: the default.
    Reset,
    /// A new value.
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Reset, Self::Set))
    }
}

/// New values for secrets that a connection has, or is to have.
#[derive(Debug, DeserializeDerive)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// By name, one at least; one that is not named stays.
    #[serde(deserialize_with = "by_name")]
    pub secrets: BTreeMap<String, SecretInput>,
    /// Who does it, at most 256 characters; kept and shown.
    #[serde(default)]
    pub rotated_by: Option<String>,
    /// Why, at most 1,024 characters; kept and shown.
    #[serde(default)]
    pub rotation_reason: Option<String>,
}

/// A shared credential variable to be set.
#[derive(Debug, DeserializeDerive)]
#[serde(deny_unknown_fields)]
pub struct NewVariable {
    /// Its name: `^[A-Za-z_][A-Za-z0-9_]{0,127}$`.
    pub key: String,
    /// Its value; not itself a reference.
    pub value: SecretInput,
    /// Who made it, at most 256 characters; kept and shown.
    #[serde(default)]
    pub created_by_subject: Option<String>,
}

/// A secret on its way in: `"plain text"`, or `{"sealed": {…}}`. `Debug` shows nothing of it.
pub enum SecretInput {
    /// As it is, or a reference `{{VARIABLE}}`.
    Plain(Zeroizing<String>),
    /// Sealed to this gateway.
    Sealed(Sealed),
}

impl From<String> for SecretInput {
    fn from(text: String) -> Self {
        Self::Plain(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretInput([redacted])")
    }
}

impl<'de> Deserialize<'de> for SecretInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// What a visitor says of a plain value that it does not take: never the value, which may be the secret.
macro_rules! refuse_unseen {
    ($takes:expr, $($visit:ident: $plain:ty),+) => {
        $(fn $visit<E: de::Error>(self, _: $plain) -> Result<Self::Value, E> {
            Err(E::custom($takes))
        })+
    };
}

struct SecretVisitor;

const SECRET_TAKES: &str = "a secret is a text, or {\"sealed\": {…}}";

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_TAKES)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretInput, E> {
        Ok(SecretInput::Plain(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<SecretInput, E> {
        Ok(SecretInput::from(text))
    }

    refuse_unseen!(SECRET_TAKES, visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretInput, A::Error> {
        let sealed = match map.next_key::<String>()?.as_deref() {
            Some("sealed") => map.next_value()?,
            _ => return Err(de::Error::custom(SECRET_TAKES)),
        };
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(SecretInput::Sealed(sealed)),
            Some(_) => Err(de::Error::custom(SECRET_TAKES)),
        }
    }
}

/// Reads secrets by name.
fn by_name<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    deserializer.deserialize_any(ByNameVisitor(PhantomData))
}

struct ByNameVisitor<T>(PhantomData<T>);

const BY_NAME_TAKES: &str = "secrets is an object of secrets by name";

impl<'de, T: Deserialize<'de>> Visitor<'de> for ByNameVisitor<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BY_NAME_TAKES)
    }

    refuse_unseen!(BY_NAME_TAKES, visit_str: &str, visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut secrets = BTreeMap::new();
        while let Some((name, secret)) = map.next_entry::<String, T>()? {
            if secrets.insert(name, secret).is_some() {
                return Err(de::Error::custom("secrets names one of them twice"));
            }
        }
        Ok(secrets)
    }
}

/// Which tools of an MCP server may be used. Lists hold name patterns with `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, DeserializeDerive)]
#[serde(deny_unknown_fields, default)]
pub struct ToolPolicyDocument {
    /// Only these; empty: all.
    pub allowlist: Vec<String>,
    /// Never these.
    pub denylist: Vec<String>,
    /// So many at the most; 0: no limit.
    pub max_tools_exposed: u32,
}

/// What a test of a connection came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// Whether it passed.
    pub passed: bool,
    /// The upstream's status, where it answered.
    pub http_status: Option<u16>,
    /// What went wrong, as one sentence without secrets; cut after 1,024 characters.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_in_the_wrong_form_is_never_repeated() {
        for secrets in
            ["4711", "\"4711\"", "{\"k\":4711}", "{\"k\":[\"4711\"]}", "{\"k\":{\"4711\":1}}", "4711.5"]
        {
            let (rotation, patch) =
                (format!("{{\"secrets\":{secrets}}}"), format!("{{\"secrets\":{secrets}}}"));
            let faults = [
                serde_json::from_str::<Rotation>(&rotation).unwrap_err().to_string(),
                serde_json::from_str::<ConnectionPatch>(&patch).unwrap_err().to_string(),
            ];
            assert!(faults.iter().all(|fault| !fault.contains("4711")), "{faults:?}");
        }
    }

    #[test]
    fn change_tells_absent_from_null() {
        let patch: ConnectionPatch =
            serde_json::from_str(r#"{"name":null,"status":"active","secrets":{"a":null}}"#).unwrap();
        assert_eq!((patch.name, patch.protocol), (Patch::Reset, Patch::Keep));
        assert_eq!(patch.status, Patch::Set("active".to_owned()));
        assert!(matches!(patch.secrets.get("a"), Some(None)));
    }
}
