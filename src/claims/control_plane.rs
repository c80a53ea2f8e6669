//! Calls to the control plane: signed by the gateway's identity, with the service API key as bearer.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use url::Url;

use crate::clock::Clock;
use crate::connections::{SecretSource, SecretUnreadable};
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
const CALL: Duration = Duration::from_secs(10);
/// The connection alone, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// The body of an answer. A page of 500 claims has about 200 KB.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What calls need: where, who signs, and with which keys.
pub(crate) struct ControlPlane {
    http: reqwest::Client,
    base: Url,
    identity: Arc<Identity>,
    clock: Clock,
    key: SecretSource,
    keys: HashMap<ConnectionId, SecretSource>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl ControlPlane {
    /// Of the keys, the one in `keys` goes before `key` for its service.
    pub(crate) fn new(
        base: Url,
        key: SecretSource,
        keys: HashMap<ConnectionId, SecretSource>,
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
        Ok(Self { http: client(base.scheme() == "https")?, base, identity, clock, key, keys })
    }

    /// Reads the service's API key now, so that one that was rotated in its file is used from then on.
    pub(crate) async fn bearer(&self, service: &ConnectionId) -> Result<HeaderValue, CallFault> {
        let source = self.keys.get(service).unwrap_or(&self.key).clone();
        let unreadable = |fault| CallFault::Key { service: service.clone(), fault };
        // A file may lie on a slow disk; a worker thread must not wait for it.
        let key = match tokio::task::spawn_blocking(move || source.read()).await {
            Ok(read) => read.map_err(unreadable)?,
            Err(_) => return Err(self.unreachable("the gateway is stopping".to_owned())),
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| CallFault::KeyCharacter(service.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// GET of `path` below the base URL.
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

    /// POST of a JSON `body` to `path` below the base URL, with `more` headers.
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
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.no_answer(error))? {
            if part.len() > MOST_BYTES - body.len() {
                return Err(CallFault::TooLarge { most_bytes: MOST_BYTES });
            }
            body.extend_from_slice(&part);
        }
        Ok(Answer { status, body })
    }

    /// The innermost cause says the most: "connection refused" rather than "error sending request".
    fn no_answer(&self, error: reqwest::Error) -> CallFault {
        if error.is_timeout() {
            return self.unreachable(format!("no answer within {} s", CALL.as_secs()));
        }
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        self.unreachable(cause.to_string())
    }

    fn unreachable(&self, cause: String) -> CallFault {
        CallFault::Unreachable { base: self.base.to_string(), cause }
    }
}

/// 32 hexadecimal digits that nobody has used and nobody can guess.
pub(super) fn nonce() -> Result<String, CallFault> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|_| CallFault::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

/// Redirects are not followed: they would carry the key to where the configuration does not lead.
fn client(https: bool) -> Result<reqwest::Client, CallFault> {
    // An error says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALL)
        .connect_timeout(CONNECT)
        .user_agent(concat!("sigilum/", env!("CARGO_PKG_VERSION")));
    // Without TLS a system that has no roots of trust will do.
    let builder = if https { builder } else { builder.tls_certs_only([]) };
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
