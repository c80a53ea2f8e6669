//! Calls of a gateway's admin API.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use super::super::{Exit, Failure, Io};
use crate::agent::{client as http_client, is_loopback_host, root_cause};
use crate::secret::SecretString;

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-sigilum-admin-token");
const TOKEN_VARIABLE: &str = "GATEWAY_ADMIN_TOKEN";
/// A whole call. A connection test takes 10 s at the most, and a rekey of a full vault some more.
const CALL: Duration = Duration::from_secs(60);

/// How the gateway lets us in.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Access {
    /// The file with the admin token [default: the variable GATEWAY_ADMIN_TOKEN, where it is set]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    admin_token_file: Option<PathBuf>,
    /// Trust the CAs in this PEM file, in place of the system's
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    cacert: Option<PathBuf>,
}

pub(in crate::cli) const HEADING: &str = "Which gateway";

/// A gateway's admin API.
pub(in crate::cli) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    runtime: Runtime,
}

impl Client {
    /// Of the gateway at `url`. Nothing is asked yet.
    pub(in crate::cli) fn new(url: &str, access: &Access, io: &mut Io<'_>) -> Result<Self, Failure> {
        let base = base(url)?;
        let token = token(access)?;
        let ca =
            access.cacert.as_deref().map(std::fs::read).transpose().context("the CA file cannot be read")?;
        let http = http_client(&base, ca.as_deref(), false)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Self { http, base, token, runtime };
        if client.token.is_some() && client.is_remote() && client.base.scheme() == "http" {
            writeln!(io.err, "warning: the admin token goes unencrypted to {}", client.origin())?;
        }
        Ok(client)
    }

    /// Whether it is on another machine, as far as its name tells.
    pub(in crate::cli) fn is_remote(&self) -> bool {
        !self.base.host_str().is_some_and(is_loopback_host)
    }

    /// Whether what it says could be another's word.
    pub(super) fn is_unproven(&self) -> bool {
        self.is_remote() && self.base.scheme() == "http"
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    pub(in crate::cli) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None)
    }

    pub(in crate::cli) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body))
    }

    /// The answer's JSON; null where it has no body.
    pub(in crate::cli) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = self.http.request(method, url).timeout(CALL);
        if let Some(token) = &self.token {
            request = request.header(TOKEN_HEADER, token.clone());
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answered = self.runtime.block_on(async {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
        });
        let (status, bytes) = answered.map_err(|error| self.unreachable(&error))?;
        if status.is_success() && bytes.is_empty() {
            return Ok(Value::Null);
        }
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        match json {
            Some(json) if status.is_success() => Ok(json),
            Some(json) => Err(refusal(status, &json)),
            None => Err(Failure::new(
                Exit::Failed,
                anyhow::anyhow!("{} answered {status} without JSON: it is no admin listener", self.origin()),
            )),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = if error.is_timeout() { "it took too long".to_owned() } else { root_cause(error) };
        let sentence = anyhow::anyhow!("gateway admin not reachable at {}: {cause}", self.origin());
        Failure::new(Exit::NotReachable, sentence)
            .hint("start the gateway with `sigilum gateway start`, or name it with --gateway-admin-url URL")
    }
}

fn base(text: &str) -> Result<Url, Failure> {
    let wrong = || {
        Failure::usage(
            "the gateway's admin URL must be http or https with a host, without user, query and fragment",
        )
        .hint("write it as http://127.0.0.1:38101")
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain && url.has_host() && matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(wrong()) }
}

fn token(access: &Access) -> Result<Option<HeaderValue>, Failure> {
    let text = match &access.admin_token_file {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .with_context(|| format!("the token file {} cannot be read", path.display()))?,
        ),
        None => std::env::var(TOKEN_VARIABLE).ok().filter(|text| !text.trim().is_empty()),
    };
    let Some(text) = text else { return Ok(None) };
    let token = SecretString::new(text).context("the admin token")?;
    let mut value = HeaderValue::from_str(token.expose())
        .map_err(|_| anyhow::anyhow!("the admin token holds a character outside ASCII"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A refusal as the gateway said it, every fault of a configuration with it.
fn refusal(status: StatusCode, json: &Value) -> Failure {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let mut sentence = match (text("error"), text("code")) {
        (Some(error), Some(code)) => format!("{error} ({code})"),
        _ => format!("the gateway answered {status}"),
    };
    for fault in json.get("faults").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| match fault.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        sentence.push_str(&format!(
            "\n  {}:{}: {}: {}",
            part("source"),
            part("line"),
            part("path"),
            part("message")
        ));
    }
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NotAuthorized,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, anyhow::anyhow!(sentence));
    match text("code") {
        Some("ADMIN_TOKEN_REQUIRED" | "ADMIN_TOKEN_OR_LOOPBACK_REQUIRED") => {
            failure.hint("set GATEWAY_ADMIN_TOKEN, or name a file with --admin-token-file")
        }
        Some("CONNECTION_NOT_FOUND") => failure.hint("`sigilum connection list` shows those that there are"),
        Some("NOT_FOUND") => failure.hint("is that the admin listener? It is at port 38101 by default"),
        _ => failure,
    }
}
