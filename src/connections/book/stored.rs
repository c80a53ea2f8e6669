//! A connection as the vault keeps it: the texts that the API took, which mean the same to a later version.

use std::collections::{BTreeMap, BTreeSet};

use http::header;
use serde::{Deserialize, Serialize};

use super::BookFault;
use crate::clock::UnixTime;
use crate::connections::fields;
use crate::connections::{
    Auth, BaseUrl, Connection, ConnectionPatch, Endpoint, NewConnection, Patch, Protocol, SecretInput,
    SecretSource, Status, ToolPolicyDocument,
};
use crate::names::{ConnectionId, SecretName};

/// The name of the secret that is injected, where nothing names another.
pub(super) const DEFAULT_SECRET: &str = "api_key";
/// The secret that stands before the injected one in basic authentication.
pub(super) const USERNAME: &str = "username";

/// A connection's settings. A field that is left out has its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    name: Option<String>,
    protocol: Option<String>,
    base_url: String,
    path_prefix: Option<String>,
    pub(super) auth_mode: Option<String>,
    pub(super) auth_header_name: Option<String>,
    auth_prefix: Option<String>,
    pub(super) auth_secret_key: Option<String>,
    status: Option<String>,
    rotation_interval_days: Option<u32>,
    pub(super) mcp_transport: Option<String>,
    pub(super) mcp_endpoint: Option<String>,
    pub(super) mcp_tool_policy: Option<ToolPolicyDocument>,
    pub(super) mcp_subject_tool_policies: Option<BTreeMap<String, ToolPolicyDocument>>,
}

/// What has happened to a connection, the configuration's included.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    pub(super) created_at: Option<i64>,
    pub(super) updated_at: Option<i64>,
    pub(super) tested_at: Option<i64>,
    pub(super) test_passed: Option<bool>,
    pub(super) test_http_status: Option<u16>,
    pub(super) test_error: Option<String>,
    pub(super) rotated_at: Option<i64>,
    pub(super) rotated_by: Option<String>,
    pub(super) rotation_reason: Option<String>,
    pub(super) secret_version: u64,
}

/// Secrets on their way in; without a value, to be removed.
pub(super) type NewSecrets = BTreeMap<String, Option<SecretInput>>;

impl Facts {
    pub(super) fn secrets_set(&mut self, now: UnixTime) {
        self.rotated_at = Some(now.millis());
        self.secret_version = self.secret_version.saturating_add(1);
    }
}

impl Document {
    /// What the API took, and its secrets.
    pub(super) fn new(new: NewConnection) -> (String, Self, NewSecrets) {
        let document = Self {
            name: new.name,
            protocol: new.protocol,
            base_url: new.base_url,
            path_prefix: new.path_prefix,
            auth_mode: new.auth_mode,
            auth_header_name: new.auth_header_name,
            auth_prefix: new.auth_prefix,
            auth_secret_key: new.auth_secret_key,
            status: new.status,
            rotation_interval_days: new.rotation_interval_days,
            mcp_transport: new.mcp_transport,
            mcp_endpoint: new.mcp_endpoint,
            mcp_tool_policy: new.mcp_tool_policy,
            mcp_subject_tool_policies: new.mcp_subject_tool_policies,
        };
        let secrets = new.secrets.into_iter().map(|(name, secret)| (name, Some(secret))).collect();
        (new.id, document, secrets)
    }

    /// The same with a change, and the secrets that the change names.
    pub(super) fn patched(mut self, patch: ConnectionPatch) -> Result<(Self, NewSecrets), BookFault> {
        match patch.base_url {
            Patch::Keep => {}
            Patch::Set(url) => self.base_url = url,
            Patch::Reset => return Err(invalid("base_url", "has no default, so it cannot be null")),
        }
        apply(&mut self.name, patch.name);
        apply(&mut self.protocol, patch.protocol);
        apply(&mut self.path_prefix, patch.path_prefix);
        apply(&mut self.auth_mode, patch.auth_mode);
        apply(&mut self.auth_header_name, patch.auth_header_name);
        apply(&mut self.auth_prefix, patch.auth_prefix);
        apply(&mut self.auth_secret_key, patch.auth_secret_key);
        apply(&mut self.status, patch.status);
        apply(&mut self.rotation_interval_days, patch.rotation_interval_days);
        apply(&mut self.mcp_transport, patch.mcp_transport);
        apply(&mut self.mcp_endpoint, patch.mcp_endpoint);
        apply(&mut self.mcp_tool_policy, patch.mcp_tool_policy);
        apply(&mut self.mcp_subject_tool_policies, patch.mcp_subject_tool_policies);
        Ok((self, patch.secrets))
    }

    /// The connection that this describes.
    pub(super) fn connection(&self, id: &ConnectionId) -> Result<Connection, BookFault> {
        let mut connection = Connection::named(id.clone());
        if let Some(name) = given(&self.name) {
            connection.name = field("name", fields::display_name(name))?;
        }
        connection.protocol = match given(&self.protocol) {
            None | Some("http") => Protocol::Http,
            Some("mcp") => Protocol::Mcp,
            Some(_) => return Err(invalid("protocol", "takes http or mcp")),
        };
        let url: BaseUrl = self.base_url.parse().map_err(|_| {
            invalid(
                "base_url",
                "takes a URL such as https://api.example.com/base, without user, query and fragment",
            )
        })?;
        if url.is_link_local() {
            return Err(invalid(
                "base_url",
                "leads to a link-local or metadata address; only a provider of the configuration file with allow_link_local may",
            ));
        }
        connection.endpoints = vec![Endpoint { url, weight: 1 }];
        if let Some(prefix) = &self.path_prefix {
            connection.path_prefix = field("path_prefix", fields::path_prefix(prefix))?;
        }
        connection.auth = self.auth()?;
        connection.secret = (connection.auth != Auth::None).then_some(SecretSource::Store);
        connection.status = match given(&self.status) {
            None | Some("active") => Status::Active,
            Some("disabled") => Status::Disabled,
            Some(_) => return Err(invalid("status", "takes active or disabled")),
        };
        connection.rotation_interval_days = match self.rotation_interval_days.unwrap_or(0) {
            days if days <= MOST_DAYS => days,
            _ => {
                return Err(invalid("rotation_interval_days", "takes a whole number of days from 0 to 3650"));
            }
        };
        self.check_mcp()?;
        Ok(connection)
    }

    /// What is injected.
    pub(super) fn auth(&self) -> Result<Auth, BookFault> {
        let (header, prefix) = (given(&self.auth_header_name), self.auth_prefix.as_deref());
        let named = || header.map(|name| field("auth_header_name", fields::header_name(name))).transpose();
        let prefixed =
            || prefix.map(|prefix| field("auth_prefix", fields::header_prefix(prefix))).transpose();
        let mode = given(&self.auth_mode).unwrap_or("bearer");
        let only = |allowed: &[&str]| {
            let found =
                [("auth_header_name", header), ("auth_prefix", prefix.filter(|prefix| !prefix.is_empty()))];
            match found.iter().find(|(name, value)| value.is_some() && !allowed.contains(name)) {
                Some((name, _)) => {
                    Err(invalid(name, &format!("has no meaning with auth_mode {mode}; leave it out")))
                }
                None => Ok(()),
            }
        };
        match mode {
            "bearer" => Ok(Auth::Header {
                name: named()?.unwrap_or(header::AUTHORIZATION),
                prefix: prefixed()?.unwrap_or_else(|| "Bearer ".to_owned()),
            }),
            "header_key" => Ok(Auth::Header {
                name: named()?.ok_or_else(|| {
                    invalid("auth_header_name", "is needed with auth_mode header_key, such as X-Api-Key")
                })?,
                prefix: prefixed()?.unwrap_or_default(),
            }),
            "query_param" => {
                only(&["auth_header_name"])?;
                let param = field("auth_header_name", fields::query_param(header.unwrap_or("api_key")))?;
                Ok(Auth::Query { param })
            }
            "basic" => only(&[]).map(|()| Auth::BasicPair),
            "path" => {
                only(&["auth_prefix"])?;
                let template = prefix.unwrap_or_default().parse();
                Ok(Auth::Path { template: field("auth_prefix", template)? })
            }
            "none" => only(&[]).map(|()| Auth::None),
            _ => Err(invalid("auth_mode", "takes bearer, header_key, query_param, basic, path or none")),
        }
    }

    /// Settles which secret is injected, `names` being those that there are.
    pub(super) fn settle_secret(&mut self, names: &BTreeSet<SecretName>) -> Result<(), BookFault> {
        let basic = given(&self.auth_mode) == Some("basic");
        let candidates: Vec<&str> =
            names.iter().map(SecretName::as_str).filter(|name| !(basic && *name == USERNAME)).collect();
        match given(&self.auth_secret_key).map(str::to_owned) {
            Some(key) => {
                field("auth_secret_key", key.parse::<SecretName>().map_err(|error| error.to_string()))?;
                if !names.is_empty() && !names.iter().any(|name| name.as_str() == key) {
                    let there = candidates.join(", ");
                    return Err(invalid(
                        "auth_secret_key",
                        &format!("names no secret of this connection; it has {there}"),
                    ));
                }
            }
            None => {
                self.auth_secret_key = Some(match candidates.as_slice() {
                    [] => DEFAULT_SECRET.to_owned(),
                    [only] => (*only).to_owned(),
                    several => {
                        let several = several.join(", ");
                        return Err(invalid(
                            "auth_secret_key",
                            &format!("is needed, since there are several secrets: {several}"),
                        ));
                    }
                });
            }
        }
        Ok(())
    }

    /// The name of the secret that is injected.
    pub(super) fn secret_key(&self) -> &str {
        given(&self.auth_secret_key).unwrap_or(DEFAULT_SECRET)
    }

    fn check_mcp(&self) -> Result<(), BookFault> {
        if given(&self.mcp_transport).is_some_and(|transport| transport != "streamable_http") {
            return Err(invalid("mcp_transport", "takes streamable_http"));
        }
        if let Some(endpoint) = given(&self.mcp_endpoint) {
            field("mcp_endpoint", fields::path_prefix(endpoint))?;
        }
        for policy in self.mcp_tool_policy.iter() {
            check_policy("mcp_tool_policy", policy)?;
        }
        let policies = self.mcp_subject_tool_policies.iter().flatten();
        if policies.clone().count() > MOST_SUBJECTS {
            return Err(invalid("mcp_subject_tool_policies", "has policies for at most 1000 subjects"));
        }
        for (subject, policy) in policies {
            if !(1..=256).contains(&subject.chars().count()) || subject.chars().any(char::is_control) {
                return Err(invalid(
                    "mcp_subject_tool_policies",
                    "takes subjects of 1 to 256 printable characters",
                ));
            }
            check_policy("mcp_subject_tool_policies", policy)?;
        }
        Ok(())
    }
}

const MOST_DAYS: u32 = 3650;
const MOST_SUBJECTS: usize = 1000;
const MOST_PATTERNS: usize = 1000;

fn check_policy(name: &str, policy: &ToolPolicyDocument) -> Result<(), BookFault> {
    let patterns = policy.allowlist.iter().chain(&policy.denylist);
    if patterns.clone().count() > MOST_PATTERNS {
        return Err(invalid(name, "lists at most 1000 tools"));
    }
    let fits = |pattern: &String| {
        (1..=128).contains(&pattern.len()) && pattern.chars().all(|c| c.is_ascii_graphic())
    };
    if patterns.into_iter().all(fits) {
        Ok(())
    } else {
        Err(invalid(name, "takes tools' names of 1 to 128 visible ASCII characters"))
    }
}

fn apply<T>(field: &mut Option<T>, patch: Patch<T>) {
    match patch {
        Patch::Keep => {}
        Patch::Reset => *field = None,
        Patch::Set(value) => *field = Some(value),
    }
}

/// What a form leaves empty is not given.
pub(super) fn given(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

pub(super) fn invalid(field: &str, problem: &str) -> BookFault {
    BookFault::Invalid { field: field.to_owned(), problem: problem.to_owned() }
}

fn field<T, E: ToString>(name: &str, parsed: Result<T, E>) -> Result<T, BookFault> {
    parsed.map_err(|fault| invalid(name, &fault.to_string()))
}
