//! What is made of an exchange that broke: a retry, an answer, or nothing where the client is gone.

use pingora_core::{Error, ErrorSource, ErrorType, RetryType};
use pingora_proxy::{FailToProxy, Session};

use super::exchange::Exchange;
use super::plane::Gateway;
use super::refusal::{Refusal, UpstreamFault};
use super::reject;

/// Nothing was sent: any request may be tried again, within its attempts and the budget.
pub(super) fn connecting(gateway: &Gateway, exchange: &Exchange, mut error: Box<Error>) -> Box<Error> {
    if let Some(endpoint) = &exchange.endpoint {
        endpoint.shun(gateway.clock().instant());
    }
    error.set_retry(may_retry(exchange));
    error
}

/// Something may have been sent: tried again is only an idempotent request whose kept connection was stale, and one of
/// which an HTTP/2 upstream says that it did nothing with it (RFC 9113 §8.7).
pub(super) fn proxying(
    session: &Session,
    exchange: &Exchange,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let unanswered = exchange.fault.is_none()
        && *error.esource() == ErrorSource::Upstream
        && exchange.times.upstream_head.is_none();
    let stale = reused && session.req_header().method.is_idempotent();
    let untouched = error.retry == RetryType::Decided(true)
        && matches!(error.etype(), ErrorType::H2Error | ErrorType::H2Downgrade);
    let repeatable = (stale || untouched) && !session.as_ref().retry_buffer_truncated();
    error.set_retry(unanswered && repeatable && may_retry(exchange));
    error
}

fn may_retry(exchange: &Exchange) -> bool {
    exchange.route.as_ref().is_some_and(|route| route.provider.upstream.retries().allows(exchange.attempts))
}

/// Answers, where an answer can still be given.
pub(super) async fn answer(session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
    let Some(refusal) = exchange.fault.take().or_else(|| classify(error, exchange.body.is_whole())) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let error_code = reject::verdict(&refusal).status.as_u16();
    // A client that is gone cannot be answered.
    let _ = super::answer::refuse(session, refusal, exchange).await;
    FailToProxy { error_code, can_reuse_downstream: false }
}

/// `None`: the client broke off. `body_is_whole`: the upstream has had all that it needs to answer.
fn classify(error: &Error, body_is_whole: bool) -> Option<Refusal> {
    use ErrorType as E;
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, E::ReadTimedout) => Some(Refusal::BodyTimeout),
        (ErrorSource::Downstream, E::InvalidHTTPHeader) => {
            Some(Refusal::Malformed("the request holds fields that cannot be forwarded"))
        }
        // Pingora's own name for it.
        (ErrorSource::Downstream, E::Custom("InvalidChunk")) => {
            Some(Refusal::Malformed("the chunks of the request body are malformed"))
        }
        (ErrorSource::Downstream, _) => None,
        (ErrorSource::Upstream, E::ReadTimedout) if !body_is_whole => Some(Refusal::BodyTimeout),
        (
            ErrorSource::Upstream,
            E::ConnectTimedout | E::ReadTimedout | E::WriteTimedout | E::TLSHandshakeTimedout,
        ) => Some(Refusal::UpstreamTimeout),
        (ErrorSource::Upstream, etype) => Some(Refusal::Upstream(class(etype))),
        (_, _) => Some(Refusal::Internal),
    }
}

fn class(etype: &ErrorType) -> UpstreamFault {
    use ErrorType as E;
    match etype {
        E::ConnectRefused | E::ConnectNoRoute | E::ConnectError | E::SocketError => UpstreamFault::Connect,
        E::TLSHandshakeFailure | E::InvalidCert | E::HandshakeError => UpstreamFault::Tls,
        E::ReadError | E::WriteError | E::ConnectionClosed => UpstreamFault::Reset,
        E::InvalidHTTPHeader | E::H1Error | E::H2Error | E::InvalidH2 | E::H2Downgrade => {
            UpstreamFault::Protocol
        }
        _ => UpstreamFault::Other,
    }
}
