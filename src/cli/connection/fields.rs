//! The fields of a connection as flags.

use serde_json::{Map, Value, json};

use super::super::Failure;

/// What is left out gets its default, or stays.
#[derive(Debug, clap::Args)]
pub(super) struct Fields {
    /// Its name for people
    #[arg(long)]
    name: Option<String>,
    /// http or mcp
    #[arg(long)]
    protocol: Option<String>,
    /// Where it leads, such as https://api.example.com
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Stands between the base URL's path and the rest, such as /v1
    #[arg(long, value_name = "PATH")]
    path_prefix: Option<String>,
    /// bearer, header_key, query_param, basic, path or none
    #[arg(long, value_name = "MODE")]
    auth_mode: Option<String>,
    /// The header, or the query parameter, that the secret goes into
    #[arg(long, value_name = "NAME")]
    auth_header_name: Option<String>,
    /// What stands before the secret
    #[arg(long, value_name = "TEXT")]
    auth_prefix: Option<String>,
    /// Which of several secrets is injected
    #[arg(long, value_name = "KEY")]
    auth_secret_key: Option<String>,
    /// active or disabled
    #[arg(long)]
    status: Option<String>,
    /// After how many days the secret is to be replaced; 0: never
    #[arg(long, value_name = "DAYS")]
    rotation_interval_days: Option<u32>,
    /// The path of the MCP endpoint below the base URL
    #[arg(long, value_name = "PATH")]
    mcp_endpoint: Option<String>,
}

impl Fields {
    /// Those that were given, as the API takes them.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let texts = [
            ("name", &self.name),
            ("protocol", &self.protocol),
            ("base_url", &self.base_url),
            ("path_prefix", &self.path_prefix),
            ("auth_mode", &self.auth_mode),
            ("auth_header_name", &self.auth_header_name),
            ("auth_prefix", &self.auth_prefix),
            ("auth_secret_key", &self.auth_secret_key),
            ("status", &self.status),
            ("mcp_endpoint", &self.mcp_endpoint),
        ];
        let given =
            texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?))));
        let days = self.rotation_interval_days.map(|days| ("rotation_interval_days".to_owned(), json!(days)));
        given.chain(days).collect()
    }
}

/// The fields of the catalog's template `key`, which flags may replace.
pub(super) fn of_template(catalog: &Value, key: &str) -> Result<Map<String, Value>, Failure> {
    const TAKEN: [&str; 8] = [
        "name",
        "protocol",
        "base_url",
        "path_prefix",
        "auth_mode",
        "auth_header_name",
        "auth_prefix",
        "mcp_endpoint",
    ];
    let services = catalog.get("services").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |service: &Value| service.get("key").and_then(Value::as_str).map(str::to_owned);
    let Some(template) = services.iter().find(|service| named(service).as_deref() == Some(key)) else {
        let known: Vec<String> = services.iter().filter_map(named).collect();
        return Err(Failure::usage(format!("the gateway's catalog has no template {key:?}"))
            .hint(format!("it has {}", known.join(", "))));
    };
    let filled = |value: &&Value| value.as_str().is_some_and(|text| !text.is_empty());
    let fields = TAKEN.iter().filter_map(|name| {
        let value = template.get(*name).filter(filled)?;
        Some(((*name).to_owned(), value.clone()))
    });
    let mut fields: Map<String, Value> = fields.collect();
    // A part that is the user's own cannot be guessed.
    if fields.get("base_url").and_then(Value::as_str).is_some_and(|url| url.contains('{')) {
        fields.remove("base_url");
    }
    Ok(fields)
}
