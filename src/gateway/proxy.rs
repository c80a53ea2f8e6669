//! Pingora's view of the gateway: each of its phases is handed on to a stage.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::accept::{self, Accepted, Message};
use super::exchange::Exchange;
use super::plane::Gateway;
use super::refusal::Refusal;
use super::{answer, authorize, body, fail, identify, record, relay};

impl Gateway {
    /// The way of a request until it may leave: accept, identify, authorize, and its body as far as it can be proven.
    async fn admit(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
    ) -> std::result::Result<Admitted, Refusal> {
        let message = match accept::accept(self, session, exchange)? {
            Accepted::Local(answer) => return Ok(Admitted::Local(answer)),
            Accepted::Admin => return Ok(Admitted::Admin),
            Accepted::Proxy(message) => message,
        };
        self.prove(session, exchange, &message).await?;
        Ok(Admitted::Forward)
    }

    async fn prove(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        message: &Message,
    ) -> std::result::Result<(), Refusal> {
        let route = exchange.route.clone().ok_or(Refusal::Internal)?;
        let now = exchange.received();
        let verified = identify::identify(self, session, message, now)?;
        let method = session.req_header().method.clone();
        let permit = authorize::authorize(self, exchange, &route, &verified, method.as_str(), now).await;
        let digest = verified.content_digest().cloned();
        exchange.verified = Some(verified);
        exchange.permit = Some(permit?);
        if let Err(unreadable) = route.provider.credential() {
            tracing::warn!(connection = %route.provider.config().id, "{unreadable}");
            return Err(Refusal::SecretUnreadable);
        }
        let before = self.clock().instant();
        exchange.body = body::receive(
            session,
            digest.as_ref(),
            message.has_body,
            &self.config().limits,
            route.provider.config().unverified_stream,
            self.clock(),
        )
        .await?;
        exchange.times.body_wait = self.clock().instant().saturating_duration_since(before);
        Ok(())
    }
}

enum Admitted {
    Local(accept::Local),
    Admin,
    Forward,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::begin(self.clock(), self.request_ids(), None)
    }

    /// None: nothing between the stages and the wire.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        match self.admit(session, exchange).await {
            Ok(Admitted::Forward) => Ok(false),
            Ok(Admitted::Local(local)) => answer::health(self, session, exchange, local).await.map(|()| true),
            Ok(Admitted::Admin) => answer::hand_over(self, session, exchange).await.map(|()| true),
            Err(refusal) => answer::refuse(session, refusal, exchange).await.map(|()| true),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        relay::peer(self, session, exchange).await
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        relay::request(exchange, request)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        part: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        relay::request_body(self, session, exchange, part, end)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        relay::response(self, session, exchange, head)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        part: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<Option<Duration>> {
        relay::response_body(self, exchange, part, end).map(|()| None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut http::HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<()> {
        relay::response_trailers(exchange, trailers)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        error: Box<Error>,
    ) -> Box<Error> {
        fail::connecting(self, exchange, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        fail::proxying(session, exchange, error, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        fail::answer(session, error, exchange).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        record::record(self, session, exchange, error.is_some());
    }

    /// The decision log says it, without what a request holds.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
