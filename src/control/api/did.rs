//! DIDs: `/.well-known/did/{did}` gives the document, `/1.0/identifiers/{did}` the result of its resolution (W3C DID
//! Resolution, HTTPS binding).

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::Route;
use super::frame::Anyone;
use super::refusal::{Kind, Refusal};
use super::signed::target_uri;
use crate::clock::UnixTime;
use crate::control::ControlPlane;
use crate::control::store::DidState;
use crate::protocol::DidDocument;
use crate::protocol::did::{Did, DidFault};

/// The media type of our documents.
const DOCUMENT: &str = "application/did+ld+json";
/// The media type of a resolution's result.
const RESOLUTION: &str = "application/ld+json;profile=\"https://w3id.org/did-resolution\"";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/.well-known/did/{did}", get(document)),
        Route::new("/1.0/identifiers/{did}", get(resolution)),
    ]
}

/// What became of a DID.
enum Resolved {
    Document { document: Box<DidDocument>, created: UnixTime, updated: UnixTime },
    Deactivated,
    NotFound,
    Invalid(DidFault),
}

/// The DID of the path, resolved.
struct Resolution(Resolved);

impl FromRequestParts<Arc<ControlPlane>> for Resolution {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let Anyone(asker) = Anyone::from_request_parts(parts, plane).await?;
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, plane).await else {
            return Ok(Self(Resolved::Invalid(DidFault::Method)));
        };
        let did: Did = match text.parse() {
            Ok(did) => did,
            Err(fault) => return Ok(Self(Resolved::Invalid(fault))),
        };
        Ok(Self(match plane.store.did_state(did.namespace()).await? {
            DidState::Unknown => Resolved::NotFound,
            DidState::Deactivated => Resolved::Deactivated,
            DidState::Active { keys, created_at, updated_at } => {
                let here = target_uri(plane, parts, &asker)?;
                let origin = here.match_indices('/').nth(2).and_then(|(end, _)| here.get(..end));
                let endpoint = format!("{}/v1/namespaces/{}", origin.unwrap_or(&here), did.namespace());
                let document = Box::new(DidDocument::new(&did, &keys, endpoint));
                Resolved::Document { document, created: created_at, updated: updated_at }
            }
        }))
    }
}

async fn document(
    _: State<Arc<ControlPlane>>,
    Resolution(resolved): Resolution,
) -> Result<Response, Refusal> {
    match resolved {
        Resolved::Document { document, .. } => Ok(told(StatusCode::OK, DOCUMENT, &json!(document))),
        Resolved::Deactivated => Err(Refusal::new(
            Kind::DidDeactivated,
            "the namespace of this DID is gone; its keys stand for nothing any more",
        )),
        Resolved::NotFound => Err(Refusal::new(Kind::DidNotFound, "no namespace has this DID")),
        Resolved::Invalid(fault) => Err(Refusal::new(Kind::DidInvalid, fault.to_string())),
    }
}

async fn resolution(_: State<Arc<ControlPlane>>, Resolution(resolved): Resolution) -> Response {
    let failed = |error: &str| json!({ "error": error });
    let (status, document, resolution, metadata) = match resolved {
        Resolved::Document { document, created, updated } => {
            let whole_second = |at: UnixTime| UnixTime::from_secs(at.secs()).to_string();
            (
                StatusCode::OK,
                json!(document),
                json!({ "contentType": DOCUMENT }),
                json!({ "created": whole_second(created), "updated": whole_second(updated) }),
            )
        }
        Resolved::Deactivated => (StatusCode::GONE, Value::Null, json!({}), json!({ "deactivated": true })),
        Resolved::NotFound => (StatusCode::NOT_FOUND, Value::Null, failed("notFound"), json!({})),
        Resolved::Invalid(_) => (StatusCode::BAD_REQUEST, Value::Null, failed("invalidDid"), json!({})),
    };
    let result = json!({
        "didDocument": document,
        "didResolutionMetadata": resolution,
        "didDocumentMetadata": metadata,
    });
    told(status, RESOLUTION, &result)
}

fn told(status: StatusCode, content_type: &'static str, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body.to_string()).into_response()
}
