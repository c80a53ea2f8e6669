//! The service catalog: how known providers authenticate, and a harmless request that tests a key.

mod built_in;

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use super::{BaseUrl, fields};
use crate::names::{ConnectionId, SecretName};

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
        static BUILT_IN: LazyLock<Catalog> = LazyLock::new(built_in::catalog);
        &BUILT_IN
    }

    /// Reads a catalog from JSON of at most 1 MiB, every template in it checked.
    ///
    /// # Errors
    /// The first fault in it.
    pub fn from_json(json: &[u8]) -> Result<Self, CatalogFault> {
        if json.len() > LARGEST_BYTES {
            return Err(CatalogFault::TooLarge { what: "bytes", most: LARGEST_BYTES });
        }
        let catalog: Self =
            serde_json::from_slice(json).map_err(|error| CatalogFault::Unreadable(error.to_string()))?;
        catalog.check()?;
        Ok(catalog)
    }

    /// As [`Catalog::from_json`] reads it.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, CatalogFault> {
        let json = serde_json::to_vec(self).map_err(|error| CatalogFault::Unreadable(error.to_string()))?;
        // Also one that was put together by hand is one that can be read again.
        Self::from_json(&json).map(|_| json)
    }

    fn check(&self) -> Result<(), CatalogFault> {
        if self.version != VERSION {
            return Err(CatalogFault::Version(self.version));
        }
        if self.services.len() > MOST_SERVICES {
            return Err(CatalogFault::TooLarge { what: "services", most: MOST_SERVICES });
        }
        let mut keys = HashSet::new();
        for (index, template) in self.services.iter().enumerate() {
            let fault = |(field, problem)| CatalogFault::Template { index, field, problem };
            template.check().map_err(fault)?;
            if !keys.insert(template.key.as_str()) {
                return Err(fault(("key", "stands already in an earlier service".to_owned())));
            }
        }
        Ok(())
    }

    /// The template of this key.
    #[must_use]
    pub fn template(&self, key: &str) -> Option<&Template> {
        self.services.iter().find(|template| template.key == key)
    }
}

const VERSION: u32 = 1;
const LARGEST_BYTES: usize = 1024 * 1024;
const MOST_SERVICES: usize = 500;

type Problem = (&'static str, String);

impl Template {
    fn check(&self) -> Result<(), Problem> {
        let at = |field: &'static str| move |fault: String| (field, fault);
        self.key.parse::<ConnectionId>().map_err(|fault| at("key")(fault.to_string()))?;
        fields::display_name(&self.name).map_err(|fault| at("name")(fault.to_string()))?;
        if !["http", "mcp"].contains(&self.protocol.as_str()) {
            return Err(("protocol", "takes http or mcp".to_owned()));
        }
        let url: BaseUrl = filled_in(&self.base_url)
            .parse()
            .map_err(|_| at("base_url")("takes a URL such as https://api.example.com".to_owned()))?;
        if url.is_link_local() {
            return Err(("base_url", "leads to a link-local or metadata address".to_owned()));
        }
        fields::path_prefix(&self.path_prefix).map_err(|fault| at("path_prefix")(fault.to_string()))?;
        self.check_auth()?;
        for field in &self.credential_fields {
            field.key.parse::<SecretName>().map_err(|fault| at("credential_fields")(fault.to_string()))?;
            fields::display_name(&field.label).map_err(|fault| at("credential_fields")(fault.to_string()))?;
        }
        self.test.as_ref().map_or(Ok(()), TestRequest::check)
    }

    fn check_auth(&self) -> Result<(), Problem> {
        let of = |field: &'static str, checked: Result<(), fields::FieldFault>| {
            checked.map_err(|fault| (field, fault.to_string()))
        };
        let header = |name: &str| of("auth_header_name", fields::header_name(name).map(drop));
        let prefix = || of("auth_prefix", fields::header_prefix(&self.auth_prefix).map(drop));
        let named = !self.auth_header_name.is_empty();
        match self.auth_mode.as_str() {
            "bearer" if named => header(&self.auth_header_name).and_then(|()| prefix()),
            "bearer" => prefix(),
            "header_key" => header(&self.auth_header_name).and_then(|()| prefix()),
            "query_param" if named => {
                of("auth_header_name", fields::query_param(&self.auth_header_name).map(drop))
            }
            "path" => of("auth_prefix", self.auth_prefix.parse::<fields::PathTemplate>().map(drop)),
            "query_param" | "basic" | "none" => Ok(()),
            _ => Err(("auth_mode", "takes bearer, header_key, query_param, basic, path or none".to_owned())),
        }?;
        let asked = self.credential_fields.iter().any(|field| field.key == self.auth_secret_key);
        if self.auth_mode == "none" || asked {
            Ok(())
        } else {
            Err(("auth_secret_key", "names none of the credential_fields".to_owned()))
        }
    }
}

impl TestRequest {
    fn check(&self) -> Result<(), Problem> {
        let problem = |problem: &str| Err(("test", problem.to_owned()));
        if self.method.parse::<Method>().is_err() {
            return problem("method takes an HTTP method such as GET");
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let plain = self.path.chars().all(|c| c.is_ascii_graphic() && c != '#');
        if !plain || !self.path.starts_with('/') || fields::path_prefix(path).is_err() {
            return problem("path takes a path such as /v1/models");
        }
        let fits = |(name, value): (&String, &String)| {
            name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok()
        };
        if !self.headers.iter().all(fits) {
            return problem("headers takes headers by name");
        }
        Ok(())
    }
}

/// A base URL with every `{…}` in it replaced by a word.
fn filled_in(url: &str) -> String {
    let mut filled = String::with_capacity(url.len());
    let mut inside = false;
    for c in url.chars() {
        match c {
            '{' if !inside => {
                filled.push_str("example");
                inside = true;
            }
            '}' if inside => inside = false,
            _ if inside => {}
            c => filled.push(c),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_catalog_is_one_that_can_be_read() {
        let built_in = Catalog::built_in();
        assert!(built_in.services.len() >= 15);
        let json = serde_json::to_vec(built_in).unwrap();
        assert_eq!(&Catalog::from_json(&json).unwrap(), built_in);
    }

    #[test]
    fn every_built_in_template_says_how_to_test_a_key() {
        for template in &Catalog::built_in().services {
            assert!(template.test.is_some() || template.protocol == "mcp", "{}", template.key);
            assert!(template.credential_fields.iter().any(|field| field.secret), "{}", template.key);
        }
    }

    #[test]
    fn faulty_template_is_refused_with_its_place_and_field() {
        let changed = |change: &dyn Fn(&mut Template)| {
            let mut catalog = Catalog { version: 1, services: Catalog::built_in().services[..2].to_vec() };
            change(&mut catalog.services[1]);
            match Catalog::from_json(&serde_json::to_vec(&catalog).unwrap()) {
                Err(CatalogFault::Template { index, field, .. }) => Some((index, field)),
                Ok(_) => None,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(changed(&|_| {}), None);
        assert_eq!(changed(&|template| template.key = "openai".into()), Some((1, "key")));
        assert_eq!(
            changed(&|template| template.base_url = "http://169.254.169.254".into()),
            Some((1, "base_url"))
        );
        assert_eq!(changed(&|template| template.auth_mode = "magic".into()), Some((1, "auth_mode")));
        assert_eq!(
            changed(&|template| template.auth_header_name = "Host".into()),
            Some((1, "auth_header_name"))
        );
        assert_eq!(
            changed(&|template| template.auth_secret_key = "other".into()),
            Some((1, "auth_secret_key"))
        );
        let upwards =
            TestRequest { method: "GET".into(), path: "/../admin".into(), ..TestRequest::default() };
        assert_eq!(changed(&|template| template.test = Some(upwards.clone())), Some((1, "test")));
    }

    #[test]
    fn unknown_fields_and_versions_are_refused() {
        let unknown = Catalog::from_json(br#"{"version":1,"services":[],"extra":1}"#).unwrap_err();
        assert!(matches!(unknown, CatalogFault::Unreadable(_)));
        assert_eq!(Catalog::from_json(br#"{"version":2,"services":[]}"#), Err(CatalogFault::Version(2)));
    }
}
