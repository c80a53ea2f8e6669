//! `/api/admin/connections/{id}/test`: one request to the upstream, with the secret that the gateway would inject.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::{Id, Perhaps};
use super::excerpt::excerpt;
use super::refusal::Refusal;
use super::target::Target;
use crate::connections::{
    Book, BookFault, Connection, Credential, LiveConnection, Place, TestOutcome, fields,
};
use crate::names::ConnectionId;

/// For the whole test.
const WITHIN: Duration = Duration::from_secs(10);
/// Read of an answer; more of it says no more.
const MOST_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 32;
const LONGEST_PATH: usize = 2048;

/// What to send. What is left out comes from the catalog's template, else it is `GET /`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    method: Option<String>,
    test_path: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    body: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    status: &'static str,
    http_status: Option<u16>,
    duration_ms: u64,
    /// What went wrong, as one sentence.
    error: Option<String>,
    /// The beginning of an answer that is no success, the secret masked.
    excerpt: Option<String>,
    method: String,
    test_path: String,
}

pub(super) async fn test(
    State(handles): State<Handles>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    Perhaps(asked): Perhaps<Asked>,
) -> Result<Json<Outcome>, Refusal> {
    let (live, request) = handles
        .ask({
            let id = id.clone();
            move |book| prepare(book, &id, asked)
        })
        .await??;
    // It is recorded also where nobody waits for the answer any more.
    let whole = tokio::spawn(async move {
        let began = handles.clock.instant();
        let answer = match tokio::time::timeout(WITHIN, send(&live, &request)).await {
            Ok(answer) => answer,
            Err(_) => Answer::fault(format!("the upstream did not answer within {} s", WITHIN.as_secs())),
        };
        let duration = handles.clock.instant().saturating_duration_since(began);
        record(&handles, &caller, id, &answer).await?;
        Ok(Json(Outcome {
            status: if answer.error.is_none() { "pass" } else { "fail" },
            http_status: answer.status,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            error: answer.error,
            excerpt: answer.excerpt,
            method: request.method.to_string(),
            test_path: request.path,
        }))
    });
    whole.await.map_err(|_| Refusal::Internal)?
}

async fn record(
    handles: &Handles,
    caller: &Caller,
    id: ConnectionId,
    answer: &Answer,
) -> Result<(), Refusal> {
    let outcome = TestOutcome {
        passed: answer.error.is_none(),
        http_status: answer.status,
        error: answer.error.clone(),
    };
    let mut line = Line::of(&id);
    line.after(&json!({ "passed": outcome.passed, "http_status": outcome.http_status }));
    line.write(caller, "connection.test", true);
    handles.ask(move |book| book.record_test(&id, outcome)).await??;
    Ok(())
}

/// The request, every part of it checked.
struct Request {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<String>,
}

fn prepare(book: &Book, id: &ConnectionId, asked: Asked) -> Result<(Arc<LiveConnection>, Request), Refusal> {
    let live = book.live().into_iter().find(|live| live.config().id == *id);
    let live = live.ok_or_else(|| BookFault::NotFound(id.clone()))?;
    let catalog = book.catalog();
    let base_url =
        live.config().endpoints.first().map(|endpoint| endpoint.url.to_string()).unwrap_or_default();
    let template = catalog.template(id.as_str()).or_else(|| {
        catalog.services.iter().find(|template| template.base_url.trim_end_matches('/') == base_url)
    });
    let known = template.and_then(|template| template.test.clone());
    // Of a path that was asked for, the template knows nothing.
    let known = known.filter(|_| asked.test_path.is_none()).unwrap_or_default();
    let method = asked.method.or_else(|| Some(known.method).filter(|method| !method.is_empty()));
    let path = asked.test_path.or_else(|| Some(known.path).filter(|path| !path.is_empty()));
    let body = asked.body.or(known.body);
    let mut headers = headers(known.headers)?;
    headers.extend(self::headers(asked.headers.unwrap_or_default())?);
    if body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let request = Request {
        method: parse_method(method.as_deref().unwrap_or("GET"))?,
        path: parse_path(path.unwrap_or_else(|| "/".to_owned()))?,
        headers,
        body,
    };
    Ok((live, request))
}

fn parse_method(text: &str) -> Result<Method, Refusal> {
    match text {
        "GET" => Ok(Method::GET),
        "HEAD" => Ok(Method::HEAD),
        "OPTIONS" => Ok(Method::OPTIONS),
        "POST" => Ok(Method::POST),
        _ => Err(Refusal::field("method", "takes GET, HEAD, OPTIONS or POST")),
    }
}

/// A path with an optional query, which never leads out of the connection's base path.
fn parse_path(text: String) -> Result<String, Refusal> {
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    let plain = query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>'));
    let sound =
        text.len() <= LONGEST_PATH && plain && text.starts_with('/') && fields::path_prefix(path).is_ok();
    if sound {
        Ok(text)
    } else {
        let takes =
            "takes a path of up to 2,048 characters such as /v1/models?limit=1, without . and .. in it";
        Err(Refusal::field("test_path", takes))
    }
}

fn headers(named: BTreeMap<String, String>) -> Result<HeaderMap, Refusal> {
    if named.len() > MOST_HEADERS {
        return Err(Refusal::field("headers", format!("holds more than {MOST_HEADERS}")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        let name = fields::header_name(&name).map_err(|fault| Refusal::field("headers", fault))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| Refusal::field(&format!("headers.{name}"), "takes one line of printable text"))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What the upstream said.
struct Answer {
    status: Option<u16>,
    error: Option<String>,
    excerpt: Option<String>,
}

impl Answer {
    fn fault(sentence: String) -> Self {
        Self { status: None, error: Some(sentence), excerpt: None }
    }
}

async fn send(live: &LiveConnection, request: &Request) -> Answer {
    match exchange(live, request).await {
        Ok(answer) => answer,
        Err(sentence) => Answer::fault(sentence),
    }
}

async fn exchange(live: &LiveConnection, request: &Request) -> Result<Answer, String> {
    let credential = live.credential()?;
    let target = Target::resolve(live.config()).await?;
    let url = format!("{}{}", target.origin(), path(live.config(), credential.as_deref(), &request.path));
    let mut headers = request.headers.clone();
    if let Some(Place::Header(name, value)) = credential.as_deref().map(Credential::place) {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(header::HOST, target.host_header()?);
    headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("sigilum-connection-test"));
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let client = target.client().await?;
    let mut sending = client.request(request.method.clone(), url).headers(headers);
    if let Some(body) = &request.body {
        sending = sending.body(body.clone());
    }
    // The error's own text holds the URL, and that perhaps the secret.
    let mut answer =
        sending.send().await.map_err(|error| format!("the upstream cannot be asked: {}", cause(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(Answer { status: Some(status.as_u16()), error: None, excerpt: None });
    }
    let mut body = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        body.extend_from_slice(&part);
        if body.len() >= MOST_BYTES {
            break;
        }
    }
    let error = match status.is_redirection() {
        true => format!("the upstream redirects ({status}), which is not followed; is base_url right?"),
        false => format!("the upstream answered {status}"),
    };
    let excerpt = excerpt(&body, credential.as_deref());
    Ok(Answer { status: Some(status.as_u16()), error: Some(error), excerpt })
}

/// Path and query as the data plane would send them, the secret in it where it goes there.
fn path(config: &Connection, credential: Option<&Credential>, test_path: &str) -> String {
    let base = config.endpoints.first().map_or("", |endpoint| endpoint.url.path());
    let prefix = &config.path_prefix;
    match credential.map(Credential::place) {
        Some(Place::Path(part)) => format!("{base}{prefix}{}{test_path}", part.expose()),
        Some(Place::Query(name, pair)) => {
            let (path, query) = test_path.split_once('?').unwrap_or((test_path, ""));
            let kept = query.split('&').filter(|part| !part.is_empty() && !names(part, name));
            let query: Vec<&str> = kept.chain([pair.expose()]).collect();
            format!("{base}{prefix}{path}?{}", query.join("&"))
        }
        _ => format!("{base}{prefix}{test_path}"),
    }
}

/// Whether a part of a query is this parameter, however it is encoded.
fn names(part: &str, name: &str) -> bool {
    url::form_urlencoded::parse(part.as_bytes()).next().is_some_and(|(found, _)| found == name)
}

fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { "it took too long".to_owned() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_leads_out_of_the_base_path_is_refused() {
        for wrong in ["", "v1", "/a/../b", "/%2e%2e/b", "/a#b", "/a b", "/a?b c", "//host/x", "/\\host"] {
            assert!(parse_path(wrong.to_owned()).is_err(), "{wrong}");
        }
        for right in ["/", "/v1/models", "/v1/models?limit=1&after=a/b"] {
            assert!(parse_path(right.to_owned()).is_ok(), "{right}");
        }
    }

    #[test]
    fn header_that_steers_the_exchange_is_refused() {
        for name in ["Host", "content-length", "Transfer-Encoding", "connection", "sigilum-subject", "a b"] {
            assert!(headers([(name.to_owned(), "x".to_owned())].into()).is_err(), "{name}");
        }
        assert!(headers([("x-a".to_owned(), "x\r\ny".to_owned())].into()).is_err());
        assert!(headers([("anthropic-version".to_owned(), "2023-06-01".to_owned())].into()).is_ok());
    }
}
