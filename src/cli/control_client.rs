//! Calls of a control plane's API with an owner token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;
use zeroize::Zeroizing;

use super::{Exit, Failure, Io};
use crate::agent::{client as http_client, is_loopback_host, root_cause};
use crate::clock::UnixTime;
use crate::secret::SecretString;

/// A whole call.
const CALL: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes: a page of 1,000 claims has less than 1 MiB.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

pub(super) const HEADING: &str = "Which control plane";

/// Which control plane is called, and with what.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ControlArgs {
    /// Where the control plane is [default: the local stack's, else the mode's]
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub(super) api_url: Option<String>,
    /// The file with the owner token [default: the variable SIGILUM_OWNER_TOKEN, else what `auth login` stored]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(super) token_file: Option<PathBuf>,
    /// Trust the CAs in this PEM file for the control plane, in place of the system's
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(super) api_cacert: Option<PathBuf>,
}

/// A control plane, and an owner who calls it.
pub(super) struct Control {
    http: reqwest::Client,
    base: Url,
    bearer: HeaderValue,
    runtime: Runtime,
}

/// What the control plane refused, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(super) struct Refused {
    /// The status of the answer.
    pub(super) status: StatusCode,
    sentence: String,
}

impl Control {
    /// Of the control plane at `base`. Nothing is asked yet.
    pub(super) fn new(
        base: Url,
        token: &SecretString,
        cacert: Option<&Path>,
        io: &mut Io<'_>,
    ) -> Result<Self, Failure> {
        let ca = cacert.map(std::fs::read).transpose().context("the CA file cannot be read")?;
        let http = http_client(&base, ca.as_deref(), false)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut bearer = HeaderValue::from_str(&text)
            .map_err(|_| anyhow::anyhow!("the owner token holds a character outside ASCII"))?;
        bearer.set_sensitive(true);
        let control = Self { http, base, bearer, runtime };
        let here = control.base.host_str().is_some_and(is_loopback_host);
        if !here && control.base.scheme() == "http" {
            writeln!(io.err, "warning: the owner token goes unencrypted to {}", control.origin())?;
        }
        Ok(control)
    }

    pub(super) fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Failure> {
        self.call(Method::GET, path, query, None)
    }

    pub(super) fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, &[], Some(body))
    }

    pub(super) fn patch(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call(Method::PATCH, path, &[], Some(body))
    }

    /// The answer's JSON; null where it has no body. `path` is the segments below the base URL.
    fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request =
            self.http.request(method, url).timeout(CALL).header(AUTHORIZATION, self.bearer.clone());
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let (status, bytes) = self.runtime.block_on(self.answer(request.build()?))?;
        if status.is_success() && bytes.is_empty() {
            return Ok(Value::Null);
        }
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(json) if status.is_success() => Ok(json),
            Ok(json) => Err(refusal(status, &json)),
            Err(_) => Err(Failure::from(anyhow::anyhow!(
                "{} answered {status} without JSON: it is no control plane",
                self.origin()
            ))
            .hint("name the control plane with --api-url URL")),
        }
    }

    async fn answer(&self, request: Request) -> Result<(StatusCode, Vec<u8>), Failure> {
        let unreachable = |error: reqwest::Error| self.unreachable(&error);
        let mut answer = self.http.execute(request).await.map_err(unreachable)?;
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&part);
            if bytes.len() > LONGEST_ANSWER {
                let sentence = "{} answered with more than 16 MiB: it is no control plane";
                return Err(anyhow::anyhow!(sentence.replace("{}", &self.origin())).into());
            }
        }
        Ok((answer.status(), bytes))
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = if error.is_timeout() { "it took too long".to_owned() } else { root_cause(error) };
        let sentence = anyhow::anyhow!("the control plane at {} cannot be reached: {cause}", self.origin());
        Failure::new(Exit::NotReachable, sentence)
            .hint("start the local stack with `sigilum up`, or name the control plane with --api-url URL")
    }
}

/// A refusal as the control plane said it.
fn refusal(status: StatusCode, json: &Value) -> Failure {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let sentence = match (text("error"), text("code")) {
        (Some(error), Some(code)) => format!("{error} ({code})"),
        _ => format!("the control plane answered {status}"),
    };
    let refused = Refused { status, sentence };
    match status {
        StatusCode::UNAUTHORIZED => Failure::new(Exit::NotAuthorized, refused)
            .hint("the owner token does not hold there; get another one with `sigilum auth login`"),
        StatusCode::FORBIDDEN => Failure::new(Exit::NotAuthorized, refused),
        _ => refused.into(),
    }
}

/// A text of an object; empty where it is not there.
pub(super) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A time without its milliseconds.
pub(super) fn seconds(at: &str) -> String {
    at.parse::<UnixTime>().map_or_else(|_| at.to_owned(), |at| UnixTime::from_secs(at.secs()).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusal_keeps_the_control_plane_s_words() {
        let failure =
            refusal(StatusCode::NOT_FOUND, &json!({ "error": "there is no claim", "code": "NOT_FOUND" }));
        assert!(failure.is(|refused: &Refused| refused.status == StatusCode::NOT_FOUND
            && refused.to_string() == "there is no claim (NOT_FOUND)"));
        let odd = refusal(StatusCode::BAD_GATEWAY, &json!([]));
        assert!(odd.is(|refused: &Refused| refused.to_string().ends_with("answered 502 Bad Gateway")));
    }
}
