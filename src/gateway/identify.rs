//! Second stage: who signed this request?

use pingora_proxy::Session;

use super::accept::Message;
use super::plane::Gateway;
use super::refusal::Refusal;
use crate::clock::UnixTime;
use crate::protocol::{self, VerifiedSignature};

pub(super) fn identify(
    gateway: &Gateway,
    session: &Session,
    message: &Message,
    now: UnixTime,
) -> Result<VerifiedSignature, Refusal> {
    let request = session.req_header();
    let message = protocol::Message {
        method: request.method.as_str(),
        target_uri: &message.target_uri,
        headers: &request.headers,
        has_body: message.has_body,
    };
    Ok(protocol::verify(&message, gateway.freshness(), now, gateway.certificates())?)
}
