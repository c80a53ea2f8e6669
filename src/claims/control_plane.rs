//! Calls to the control plane: signed by the gateway's identity, with the service API key as bearer.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use url::Url;

use super::Services;
use super::page::error_code;
use crate::clock::Clock;
use crate::connections::SecretUnreadable;
use crate::names::ConnectionId;
use crate::protocol::{ContentDigest, Identity, SignFault, Unsigned, sign};

/// Why the control plane could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFault {
    /// The base URL holds what it may not, or lacks what it must have.
    #[error(
        "the control plane's URL must be http or https with a host, without user, query or fragment; {0} is not"
    )]
    BaseUrl(String),
    /// No HTTP client could be made: on this system the roots of trust cannot be loaded.
    #[error("no HTTP client can be made: {0}")]
    Client(String),
    /// The service API key cannot be read.
    #[error("the service API key of {service}: {fault}")]
    Key {
        /// The service it is for.
        service: ConnectionId,
        /// Why not.
        fault: SecretUnreadable,
    },
    /// No service API key is set for this service.
    #[error(
        "no service API key is set for {0}; set control_plane.service_api_key, or PUT /api/admin/service-api-keys/{0}"
    )]
    NoKey(ConnectionId),
    /// The service API key cannot stand in a header.
    #[error("the service API key of {0} holds a character outside ASCII; it must be the key alone")]
    KeyCharacter(ConnectionId),
    /// The request cannot be signed.
    #[error("the request to the control plane cannot be signed: {0}")]
    Sign(#[from] SignFault),
    /// The system gives no random bytes for a nonce.
    #[error("the system gives no random bytes")]
    Random,
    /// No answer came.
    #[error("the control plane at {base} cannot be reached: {cause}")]
    Unreachable {
        /// Its base URL.
        base: String,
        /// What the system says.
        cause: String,
    },
    /// The answer is larger than any answer may be.
    #[error("the control plane's answer has more than {most_bytes} bytes")]
    TooLarge {
        /// The limit.
        most_bytes: usize,
    },
}

/// A whole call, its body included.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// The connection alone, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Between two pieces of a stream: a feed that is alive sends a heartbeat every 5 s, and who reads it gives up before this.
const SILENCE: Duration = Duration::from_secs(20);
/// The body of an answer. A page of 500 claims has about 200 KB.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The signed client of the control plane: every call carries the gateway's signature, and a service API key as bearer.
///
/// Answers are read to their end, at most 16 MiB within 10 s; redirects are not followed. Failures of the way there
/// are [`CallFault`]s; a status is for the caller to judge. Cheap to share behind an `Arc`, one for each room that
/// calls: connections are pooled within one.
pub(crate) struct ControlPlane {
    http: reqwest::Client,
    /// Without a limit on the whole call.
    streams: reqwest::Client,
    base: Url,
    identity: Arc<Identity>,
    clock: Clock,
    services: Services,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    /// Its status, whatever it is.
    pub(crate) status: StatusCode,
    /// Its whole body.
    pub(crate) body: Vec<u8>,
    /// When the control plane wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    /// Whether the same call, signed anew, may be answered otherwise in a while.
    pub(crate) fn is_passing(&self) -> bool {
        is_passing(self.status, error_code(&self.body).as_deref())
    }
}

/// Whether a refusal is no lasting one. A control plane refuses what was signed before it started, as seen before: the
/// next call is signed anew.
pub(super) fn is_passing(status: StatusCode, code: Option<&str>) -> bool {
    status.is_server_error()
        || matches!(status.as_u16(), 408 | 425 | 429)
        || code == Some("AUTH_REPLAY_DETECTED")
}

impl ControlPlane {
    /// The one at `base`, called with the keys of `services` and signed by `identity`.
    ///
    /// # Errors
    /// When `base` is no base URL, or the system has no roots of trust for HTTPS.
    pub(crate) fn new(
        base: Url,
        services: Services,
        identity: Arc<Identity>,
        clock: Clock,
    ) -> Result<Self, CallFault> {
        let plain = base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        if !plain || !base.has_host() || !matches!(base.scheme(), "http" | "https") {
            return Err(CallFault::BaseUrl(without_user(base)));
        }
        let https = base.scheme() == "https";
        let http = built(client(https).timeout(CALL))?;
        let streams = built(client(https).read_timeout(SILENCE))?;
        Ok(Self { http, streams, base, identity, clock, services })
    }

    /// The value of `Authorization` for this service. The key is read now, so that one that was rotated in its file or
    /// stored anew is used from then on.
    ///
    /// # Errors
    /// When no key is set, or it cannot be read or stand in a header.
    pub(crate) async fn bearer(&self, service: &ConnectionId) -> Result<HeaderValue, CallFault> {
        let (services, id) = (self.services.clone(), service.clone());
        let unreadable = |fault| CallFault::Key { service: service.clone(), fault };
        // A file may lie on a slow disk; a worker thread must not wait for it.
        let key = match tokio::task::spawn_blocking(move || services.key(&id)).await {
            Ok(read) => read.map_err(unreadable)?.ok_or_else(|| CallFault::NoKey(service.clone()))?,
            Err(_) => return Err(self.unreachable("the gateway is stopping".to_owned())),
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| CallFault::KeyCharacter(service.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// GET of `path` below the base URL, with this query.
    ///
    /// # Errors
    /// When no whole answer came, or the request could not be signed.
    pub(crate) async fn get(
        &self,
        path: &str,
        query: &str,
        bearer: &HeaderValue,
    ) -> Result<Answer, CallFault> {
        let mut url = self.url(path);
        url.set_query(Some(query));
        let headers = self.headers("GET", &url, None, bearer)?;
        self.read(self.http.get(url).headers(headers)).await
    }

    /// GET of `path` below the base URL, whose answer has no end: only its head is awaited. `None`: it has not come within
    /// 10 s.
    ///
    /// # Errors
    /// When the control plane cannot be reached, or the request could not be signed.
    pub(crate) async fn open(
        &self,
        path: &str,
        query: &str,
        bearer: &HeaderValue,
    ) -> Result<Option<reqwest::Response>, CallFault> {
        let mut url = self.url(path);
        url.set_query(Some(query));
        let mut headers = self.headers("GET", &url, None, bearer)?;
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        match tokio::time::timeout(CALL, self.streams.get(url).headers(headers).send()).await {
            Ok(answered) => answered.map(Some).map_err(|error| self.no_answer(error)),
            Err(_) => Ok(None),
        }
    }

    /// POST of a JSON `body` to `path` below the base URL, with `more` headers.
    ///
    /// # Errors
    /// When no whole answer came, or the request could not be signed.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: Vec<u8>,
        more: &[(HeaderName, HeaderValue)],
        bearer: &HeaderValue,
    ) -> Result<Answer, CallFault> {
        let url = self.url(path);
        let mut headers = self.headers("POST", &url, Some(ContentDigest::of(&body)), bearer)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(more.iter().cloned());
        self.read(self.http.post(url).headers(headers).body(body)).await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn headers(
        &self,
        method: &str,
        url: &Url,
        content_digest: Option<ContentDigest>,
        bearer: &HeaderValue,
    ) -> Result<HeaderMap, CallFault> {
        let nonce = nonce()?;
        let unsigned = Unsigned {
            method,
            uri: url.as_str(),
            content_digest,
            subject: None,
            agent_id: None,
            nonce: &nonce,
            now: self.clock.now(),
        };
        let mut headers: HeaderMap = sign(&self.identity, &unsigned)?.into_iter().collect();
        headers.insert(AUTHORIZATION, bearer.clone());
        Ok(headers)
    }

    async fn read(&self, request: reqwest::RequestBuilder) -> Result<Answer, CallFault> {
        let mut response = request.send().await.map_err(|error| self.no_answer(error))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.no_answer(error))? {
            if part.len() > MOST_BYTES - body.len() {
                return Err(CallFault::TooLarge { most_bytes: MOST_BYTES });
            }
            body.extend_from_slice(&part);
        }
        Ok(Answer { status, body, retry_after })
    }

    /// The innermost cause says the most: "connection refused" rather than "error sending request".
    fn no_answer(&self, error: reqwest::Error) -> CallFault {
        if error.is_timeout() { self.too_late() } else { self.unreachable(innermost(error)) }
    }

    fn too_late(&self) -> CallFault {
        self.unreachable(format!("no answer within {} s", CALL.as_secs()))
    }

    fn unreachable(&self, cause: String) -> CallFault {
        CallFault::Unreachable { base: self.base.to_string(), cause }
    }
}

/// `Retry-After` in seconds; a date there is not looked at.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// What lies at the bottom of a fault, without the URL.
pub(super) fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// 32 hexadecimal digits that nobody has used and nobody can guess.
pub(super) fn nonce() -> Result<String, CallFault> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|_| CallFault::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// Redirects are not followed: they would carry the key to where the configuration does not lead.
fn client(https: bool) -> reqwest::ClientBuilder {
    // An error says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .user_agent(concat!("sigilum/", env!("CARGO_PKG_VERSION")));
    // Without TLS a system that has no roots of trust will do.
    if https { builder } else { builder.tls_certs_only([]) }
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, CallFault> {
    builder.build().map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        CallFault::Client(cause)
    })
}

/// A password never goes into an error.
fn without_user(mut url: Url) -> String {
    // An error says that this URL can have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_what_was_signed_before_the_control_plane_started_is_no_lasting_one() {
        let answer = |code: &str| Answer {
            status: StatusCode::FORBIDDEN,
            body: format!(r#"{{"error":"no","code":"{code}"}}"#).into_bytes(),
            retry_after: None,
        };
        assert!(answer("AUTH_REPLAY_DETECTED").is_passing());
        assert!(!answer("SERVICE_KEY_INVALID").is_passing());
    }
}
