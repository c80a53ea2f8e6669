//! The demo's provider: an echo that wants a key, in the form of OpenAI's API.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::secret::SecretString;

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Between two events, so that a stream is seen to be one.
const PAUSE: Duration = Duration::from_millis(30);
const MODEL: &str = "sigilum-echo";
/// 2026-01-01, the birthday of the demo's only model.
const CREATED: i64 = 1_767_225_600;
const REDACTED: &str = "[redacted]";

/// An echo that runs until it is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    with_key: AtomicU64,
    without_key: AtomicU64,
}

struct Provider {
    key: SecretString,
    counts: Arc<Counts>,
}

impl Echo {
    /// Starts on a free loopback port. Requests must bear `key` as `Authorization: Bearer …`, else they are answered
    /// 401 in OpenAI's form; `key` itself never stands in an answer. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start(key: SecretString) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let router = router(Arc::new(Provider { key, counts: Arc::clone(&counts) }));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the echo provider stopped");
            }
        });
        Ok(Self { address, counts, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came with the right key.
    #[must_use]
    pub fn requests_with_key(&self) -> u64 {
        self.counts.with_key.load(Ordering::Relaxed)
    }

    /// How many requests came without it, or with another.
    #[must_use]
    pub fn requests_without_key(&self) -> u64 {
        self.counts.without_key.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(provider: Arc<Provider>) -> Router {
    Router::new()
        .route("/echo", any(echo))
        .route("/echo/{*path}", any(echo))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .route("/sse", get(events))
        .fallback(async || openai_error(StatusCode::NOT_FOUND, "unknown_url", "there is no such page here"))
        .layer(from_fn_with_state(Arc::clone(&provider), require_key))
        .with_state(provider)
}

async fn require_key(State(provider): State<Arc<Provider>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let right =
        given.strip_prefix(b"Bearer ").is_some_and(|key| key.ct_eq(provider.key.expose().as_bytes()).into());
    if right {
        provider.counts.with_key.fetch_add(1, Ordering::Relaxed);
        return next.run(request).await;
    }
    provider.counts.without_key.fetch_add(1, Ordering::Relaxed);
    let message = "Incorrect API key provided, or none; this provider wants its key as a bearer token";
    openai_error(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}

/// What came in, with nothing in it that is the key.
async fn echo(State(provider): State<Arc<Provider>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else { return too_large() };
    let clean = |text: &str| text.replace(provider.key.expose(), REDACTED);
    json_response(
        StatusCode::OK,
        &json!({
            "method": head.method.as_str(),
            "path": clean(head.uri.path()),
            "query": head.uri.query().map(clean),
            "headers": header_object(&head.headers, clean),
            "body": clean(&String::from_utf8_lossy(&body)),
        }),
    )
}

/// Values of one name are joined with commas (RFC 9110 §5.3).
fn header_object(headers: &HeaderMap, clean: impl Fn(&str) -> String) -> Map<String, Value> {
    let mut object = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| match *name {
            AUTHORIZATION => REDACTED.to_owned(),
            _ => clean(&String::from_utf8_lossy(value.as_bytes())),
        });
        object.insert(name.as_str().to_owned(), values.collect::<Vec<_>>().join(", ").into());
    }
    object
}

async fn models() -> Response {
    let model = json!({"id": MODEL, "object": "model", "created": CREATED, "owned_by": "sigilum"});
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

/// OpenAI's chat completions: the answer repeats the last message of the user.
async fn chat(State(provider): State<Arc<Provider>>, request: Request) -> Response {
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY_BYTES).await else { return too_large() };
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return openai_error(StatusCode::BAD_REQUEST, "invalid_json", "the body is not JSON");
    };
    let Some(said) = last_user_text(&asked) else {
        return openai_error(
            StatusCode::BAD_REQUEST,
            "missing_messages",
            "messages holds no message of the user",
        );
    };
    let answer = format!("You said: {}", said.replace(provider.key.expose(), REDACTED));
    if asked.get("stream").and_then(Value::as_bool) == Some(true) {
        return event_stream(completion_chunks(&answer));
    }
    let tokens = [said, answer.as_str()].map(|text| text.split_whitespace().count());
    json_response(
        StatusCode::OK,
        &json!({
            "id": "chatcmpl-echo",
            "object": "chat.completion",
            "created": CREATED,
            "model": MODEL,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": answer, "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "usage": {
                "prompt_tokens": tokens[0],
                "completion_tokens": tokens[1],
                "total_tokens": tokens.iter().sum::<usize>(),
            },
        }),
    )
}

/// A content is a text, or a list of parts of which the first text counts.
fn last_user_text(asked: &Value) -> Option<&str> {
    let of_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    let message = asked.get("messages")?.as_array()?.iter().rev().find(of_user)?;
    match message.get("content")? {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter().find_map(|part| part.get("text")?.as_str()),
        _ => None,
    }
}

/// A chunk for the role, one for each word, one for the end, and the mark that nothing follows.
fn completion_chunks(answer: &str) -> Vec<String> {
    let chunk = |delta: Value, finish_reason: Option<&str>| {
        json!({
            "id": "chatcmpl-echo",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
        })
        .to_string()
    };
    let mut chunks = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    chunks.extend(answer.split_inclusive(' ').map(|word| chunk(json!({"content": word}), None)));
    chunks.push(chunk(json!({}), Some("stop")));
    chunks.push("[DONE]".to_owned());
    chunks
}

async fn events() -> Response {
    event_stream((1..=5).map(|number| json!({"number": number}).to_string()).collect())
}

/// Server-sent events, each after a pause.
fn event_stream(events: Vec<String>) -> Response {
    let paced = stream::iter(events).then(async |data| {
        tokio::time::sleep(PAUSE).await;
        Ok::<_, Infallible>(Bytes::from(format!("data: {data}\n\n")))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(paced)).into_response()
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn too_large() -> Response {
    openai_error(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "the body is larger than 1 MiB, or broke off",
    )
}

fn openai_error(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    json_response(status, &json!({"error": error}))
}
