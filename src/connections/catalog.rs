//! The service catalog: how known providers authenticate, and a harmless request that tests a key.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Templates of connections, as `GET /api/admin/service-catalog` shows and `PUT` takes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The form's version: 1.
    pub version: u32,
    /// The templates, each with its own key.
    pub services: Vec<Template>,
}

/// How a provider's connections are made. Fields that mean the same as a connection's have its names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its key, also a good connection id, such as `openai`.
    pub key: String,
    /// For people.
    pub name: String,
    /// `http` or `mcp`.
    pub protocol: String,
    /// The base URL. Where it holds `{…}`, that part is the user's own, such as Azure's resource.
    pub base_url: String,
    /// As a connection's.
    #[serde(default)]
    pub path_prefix: String,
    /// As a connection's.
    pub auth_mode: String,
    /// As a connection's.
    #[serde(default)]
    pub auth_header_name: String,
    /// As a connection's.
    #[serde(default)]
    pub auth_prefix: String,
    /// Which of the credential fields is injected.
    #[serde(default)]
    pub auth_secret_key: String,
    /// What the user is asked for.
    #[serde(default)]
    pub credential_fields: Vec<CredentialField>,
    /// A request that changes nothing, to see whether a key works.
    #[serde(default)]
    pub test: Option<TestRequest>,
    /// Of MCP servers: the endpoint's path.
    #[serde(default)]
    pub mcp_endpoint: Option<String>,
    /// What a client must know, such as a header that it sends itself.
    #[serde(default)]
    pub note: Option<String>,
    /// Where the provider says so.
    #[serde(default)]
    pub docs_url: Option<String>,
}

/// One secret that a provider gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialField {
    /// The secret's name, such as `api_key`.
    pub key: String,
    /// For people.
    pub label: String,
    /// Whether it is to be hidden while it is typed.
    #[serde(default)]
    pub secret: bool,
    /// What one looks like.
    #[serde(default)]
    pub placeholder: Option<String>,
}

/// A request that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestRequest {
    /// Its method.
    pub method: String,
    /// Its path below base URL and prefix, with query.
    pub path: String,
    /// Headers that it needs besides the credential's.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    pub body: Option<String>,
}

/// Why a text is not a catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogFault {
    /// No JSON of a catalog.
    #[error("the catalog cannot be read: {0}")]
    Unreadable(String),
    /// A template that cannot be one.
    #[error("services[{index}].{field}: {problem}")]
    Template {
        /// Its place, from 0.
        index: usize,
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Another version of the form.
    #[error("version {0} of the catalog's form is not known; write 1")]
    Version(u32),
    /// Too large.
    #[error("a catalog has at most {most} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
    },
}

impl Catalog {
    /// The templates that this version brings.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Catalog> = LazyLock::new(|| Catalog { version: 1, services: Vec::new() });
        &BUILT_IN
    }

    /// Reads a catalog from JSON, every template in it checked.
    ///
    /// # Errors
    /// The first fault in it.
    pub fn from_json(json: &[u8]) -> Result<Self, CatalogFault> {
        let _ = json;
        unimplemented!()
    }

    /// The template of this key.
    #[must_use]
    pub fn template(&self, key: &str) -> Option<&Template> {
        self.services.iter().find(|template| template.key == key)
    }
}
