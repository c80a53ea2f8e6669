//! Commands, executed by the admin router.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::admin::Admin;
use crate::clock::Clock;
use crate::envelope::Envelope;
use crate::names::RequestId;
use crate::protocol::pairing::{Allowed, Command, MOST_BODY_BYTES, Reply, allow};

/// What of an answer's head is worth telling.
const TOLD: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::LOCATION, header::ALLOW, HeaderName::from_static("x-request-id")];

/// Executes a command if the allow list takes it.
pub(super) async fn execute(admin: &Admin, clock: &Clock, command: Command) -> Reply {
    let id = command.request_id.clone();
    match allow(command) {
        Ok(allowed) => answered(admin, clock, allowed).await,
        Err(refusal) => {
            tracing::warn!(code = refusal.code(), "a command of the paired control plane was refused");
            refused(id, clock, refusal.status(), refusal.code(), &refusal.to_string())
        }
    }
}

/// The reply to a command that is not executed.
pub(super) fn refused(request_id: String, clock: &Clock, status: u16, code: &str, sentence: &str) -> Reply {
    // An id that can name no request names none in the envelope either.
    let named = request_id.parse().unwrap_or_else(|_| RequestId::from_random([0; 16]));
    let envelope = Envelope {
        error: sentence,
        code,
        reason: None,
        claim: None,
        request_id: &named,
        timestamp: clock.now(),
    };
    Reply {
        request_id,
        status,
        headers: BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]),
        body: String::from_utf8(envelope.to_json()).ok(),
        error: Some(sentence.to_owned()),
    }
}

async fn answered(admin: &Admin, clock: &Clock, command: Allowed) -> Reply {
    let id = command.request_id().to_string();
    let Some(request) = request(&command) else {
        return refused(id, clock, 403, "COMMAND_NOT_ALLOWED", "the command can be no request");
    };
    let (head, body) = admin.answer_paired(request).await.into_parts();
    match Limited::new(body, MOST_BODY_BYTES).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            Reply {
                request_id: id,
                status: head.status.as_u16(),
                headers: told(&head.headers),
                body: (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned()),
                error: None,
            }
        }
        Err(fault) if fault.is::<LengthLimitError>() => {
            let sentence =
                format!("the answer is larger than the {MOST_BODY_BYTES} bytes that a pairing relays");
            refused(id, clock, 502, "GATEWAY_RESPONSE_TOO_LARGE", &sentence)
        }
        Err(_) => {
            refused(id, clock, 500, "INTERNAL", "the gateway failed at this request; its log may say more")
        }
    }
}

/// The command as a request; its own id, unless the owner gave one.
fn request(command: &Allowed) -> Option<Request<Body>> {
    let mut request = Request::builder().method(command.method()).uri(command.path());
    for (name, value) in command.headers() {
        request = request.header(name, value);
    }
    let mut request = request.body(Body::from(command.body().unwrap_or_default().to_owned())).ok()?;
    let headers = request.headers_mut();
    if command.body().is_some() {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let id = HeaderValue::from_str(command.request_id().as_str()).ok()?;
    headers.entry("x-request-id").or_insert(id);
    Some(request)
}

fn told(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |name: &HeaderName| Some((name.to_string(), headers.get(name)?.to_str().ok()?.to_owned()));
    TOLD.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The allow list knows the fields of bodies. This holds it to the admin API's own description of them.
    #[test]
    fn every_field_that_the_admin_api_takes_may_come_over_a_pairing() {
        let document: Value = serde_json::from_str(include_str!("../admin/openapi.json")).unwrap();
        let mut seen = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            let concrete = path.replace("{id}", "open-ai").replace("{key}", "KEY");
            for (method, operation) in methods.as_object().unwrap() {
                let mut schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                if let Some(target) = schema["$ref"].as_str() {
                    schema = document.pointer(target.trim_start_matches('#')).unwrap();
                }
                let command = |body: Option<Value>| Command {
                    request_id: "req_12345678".into(),
                    method: method.to_uppercase(),
                    path: concrete.clone(),
                    headers: BTreeMap::new(),
                    body: body.map(|body| body.to_string()),
                };
                if allow(command(None)).is_err() {
                    continue;
                }
                for name in schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys()) {
                    seen += 1;
                    let refusal = allow(command(Some(json!({ name.as_str(): null })))).err();
                    let secret = refusal.as_ref().is_none_or(|refusal| refusal.code() == "SECRET_NOT_SEALED");
                    assert!(secret, "{method} {path}: {name}: {refusal:?}");
                }
            }
        }
        assert!(seen > 40, "only {seen} fields were tried");
    }
}
