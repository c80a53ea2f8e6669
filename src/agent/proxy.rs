//! One request's way through the agent: admitted, read, signed, sent, and the answer streamed back.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use url::Url;

use super::admission::Admission;
use super::refusal::Refusal;
use super::{Signer, Target, headers, root_cause};
use crate::clock::Clock;

/// How long a client may send nothing of a body that it has begun.
const BODY_STALL: Duration = Duration::from_secs(60);

/// The body of an answer, streamed.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, reqwest::Error>;

/// What every request needs.
pub(super) struct Proxy {
    pub(super) signer: Signer,
    pub(super) target: Target,
    pub(super) admission: Admission,
    /// For requests, over HTTP/1.1 or 2.
    pub(super) client: reqwest::Client,
    /// For WebSockets, over HTTP/1.1.
    pub(super) upgrading: reqwest::Client,
    pub(super) max_body_bytes: usize,
    pub(super) keep_authorization: bool,
    /// Requests under way.
    pub(super) under_way: Arc<Semaphore>,
    /// Bytes of bodies in memory, over all requests.
    pub(super) in_memory: Semaphore,
    pub(super) clock: Clock,
}

impl Proxy {
    /// Answers one request. A refusal is an answer too.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let (mut head, body) = request.into_parts();
        let upgrade = head.extensions.remove::<OnUpgrade>();
        match self.forward(&head, body, upgrade).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!(%refusal, "refused");
                let answer = refusal.answer(&head.headers, self.clock.now());
                answer.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
            }
        }
    }

    async fn forward(
        &self,
        head: &http::request::Parts,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        self.admission.admit(&head.method, &head.uri, &head.headers)?;
        let permit = Arc::clone(&self.under_way).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let path_and_query = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let url = self.target.url(path_and_query)?;
        let websocket = upgrade.filter(|_| headers::asks_for_websocket(&head.headers));
        let (body, _room) = self.read(body).await?;

        let mut request = self.signed(&head.method, url, &head.headers, body)?;
        let Some(websocket) = websocket else {
            let response = self.client.execute(request).await.map_err(|error| self.unreachable(&error))?;
            return Ok(streamed(response, permit));
        };
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        let response = self.upgrading.execute(request).await.map_err(|error| self.unreachable(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            Ok(switched(response, websocket, permit))
        } else {
            Ok(streamed(response, permit))
        }
    }

    /// The whole body, because its digest is signed in the headers that go before it; and the room that it takes,
    /// to be held until it is sent.
    async fn read(&self, mut body: Incoming) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Refusal> {
        let mut whole = BytesMut::new();
        let mut room: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) =
            tokio::time::timeout(BODY_STALL, body.frame()).await.map_err(|_| Refusal::BodyStalled)?
        {
            let frame = frame.map_err(|_| Refusal::BodyBroken)?;
            // Trailers are left out: nothing signs them.
            let Some(data) = frame.data_ref() else { continue };
            if whole.len().saturating_add(data.len()) > self.max_body_bytes {
                return Err(Refusal::BodyTooLarge(self.max_body_bytes));
            }
            let bytes = u32::try_from(data.len()).map_err(|_| Refusal::BodyTooLarge(self.max_body_bytes))?;
            let more = self.in_memory.try_acquire_many(bytes).map_err(|_| Refusal::Overloaded)?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            whole.extend_from_slice(data);
        }
        Ok((whole.freeze(), room))
    }

    fn signed(
        &self,
        method: &Method,
        url: Url,
        from_client: &HeaderMap,
        body: Bytes,
    ) -> Result<reqwest::Request, Refusal> {
        let mut all = headers::of_request(from_client, self.keep_authorization);
        all.extend(self.signer.sign(method.as_str(), url.as_str(), &body)?);
        let mut request = reqwest::Request::new(method.clone(), url);
        *request.headers_mut() = all;
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Refusal {
        let cause = root_cause(error);
        tracing::warn!(gateway = %self.target.gateway(), %cause, "the gateway cannot be reached");
        Refusal::Unreachable { gateway: self.target.gateway().to_string(), cause }
    }
}

/// The answer as it comes, frame by frame; the request counts as under way until the last one.
fn streamed(response: reqwest::Response, permit: OwnedSemaphorePermit) -> Response<AnswerBody> {
    let (head, body) = http::Response::<reqwest::Body>::from(response).into_parts();
    let body = body.map_frame(move |frame| {
        let _held = &permit;
        frame
    });
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = headers::of_response(&head.headers);
    answer
}

/// Both sides have agreed to a WebSocket: from here on bytes are copied both ways.
fn switched(
    response: reqwest::Response,
    client: OnUpgrade,
    permit: OwnedSemaphorePermit,
) -> Response<AnswerBody> {
    let mut answer = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let mut all = headers::of_response(response.headers());
    all.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    all.insert(UPGRADE, HeaderValue::from_static("websocket"));
    *answer.headers_mut() = all;
    tokio::spawn(async move {
        let _held = permit;
        let (Ok(client), Ok(mut gateway)) = tokio::join!(client, response.upgrade()) else {
            tracing::debug!("the connection did not become a WebSocket");
            return;
        };
        let mut client = TokioIo::new(client);
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut gateway).await {
            tracing::debug!(%error, "the WebSocket ended early");
        }
    });
    answer
}
