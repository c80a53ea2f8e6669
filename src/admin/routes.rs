//! The admin routes, and who is let in to them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, Response, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post, put};
use axum::{Extension, Router};

use super::access::{Guard, Way};
use super::audit::{self, Caller};
use super::refusal::Refusal;
use super::{
    Handles, catalog, connections, gateway, openapi, pairing, probe, service_keys, variables, vault,
};
use crate::names::RequestId;
use crate::telemetry::Metrics;

/// Who asks, before it is known whether they are let in.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) peer: IpAddr,
    pub(super) request_id: RequestId,
    /// Set where the pairing's bridge asks, which is let in by its own allow list.
    pub(super) way: Option<Way>,
}

/// Open to whoever can connect, since probes know neither a token nor our host names.
fn open() -> Vec<(&'static str, MethodRouter<Handles>)> {
    vec![
        ("/health", get(|| async { healthy("health") })),
        ("/health/live", get(|| async { healthy("liveness") })),
        ("/health/ready", get(ready)),
    ]
}

/// Guarded by the rules of access.
fn guarded() -> Vec<(&'static str, MethodRouter<Handles>)> {
    vec![
        ("/metrics", get(metrics)),
        ("/openapi.json", get(openapi::get)),
        ("/api/admin/connections", get(connections::list).post(connections::create)),
        (
            "/api/admin/connections/{id}",
            get(connections::get).patch(connections::update).delete(connections::delete),
        ),
        ("/api/admin/connections/{id}/rotate", post(connections::rotate)),
        ("/api/admin/connections/{id}/test", post(probe::test)),
        ("/api/admin/connections/{id}/discover", post(connections::discover)),
        ("/api/admin/credential-variables", get(variables::list).post(variables::set)),
        ("/api/admin/credential-variables/{key}", axum::routing::delete(variables::delete)),
        ("/api/admin/service-catalog", get(catalog::get).put(catalog::put)),
        ("/api/admin/service-api-keys/{id}", put(service_keys::put).get(service_keys::get)),
        ("/api/admin/gateway", get(gateway::get)),
        ("/api/admin/reload", post(gateway::reload)),
        ("/api/admin/pairing", get(pairing::get).post(pairing::pair).delete(pairing::stop)),
        ("/api/admin/vault/rekey", post(vault::rekey)),
    ]
}

/// The whole table.
pub(super) fn routes(guard: Arc<Guard>, handles: Handles) -> Router {
    let table = |routes: Vec<(&'static str, MethodRouter<Handles>)>| {
        routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
    };
    table(guarded())
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed })
        .route_layer(middleware::from_fn_with_state(guard, admit))
        .merge(table(open()).method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed }))
        .fallback(|| async { Refusal::NotFound })
        .with_state(handles)
}

/// Lets in whom the rules let in, and writes down every change that is refused.
async fn admit(
    State(guard): State<Arc<Guard>>,
    Extension(asker): Extension<Asker>,
    route: MatchedPath,
    request: Request,
    next: Next,
) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let method = head.method.clone();
    let Asker { peer, request_id, way } = asker;
    let response = match way.map_or_else(|| guard.admit(&head, peer), Ok) {
        Err(refusal) => refusal.into_response(),
        Ok(way) => {
            let caller = Caller { peer, way, request_id: request_id.clone() };
            head.extensions.insert(caller);
            next.run(Request::from_parts(head, body)).await
        }
    };
    if let Some(refusal) = response.extensions().get::<Refusal>()
        && ![Method::GET, Method::HEAD].contains(&method)
    {
        audit::refused(&request_id, peer, &method, route.as_str(), refusal.code());
    }
    response
}

async fn metrics(State(handles): State<Handles>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], handles.metrics.render())
}

async fn ready(State(handles): State<Handles>) -> Result<impl IntoResponse, Refusal> {
    (handles.ready)().map_err(Refusal::NotReady)?;
    Ok(healthy("readiness"))
}

fn healthy(check: &'static str) -> impl IntoResponse {
    let body = format!(r#"{{"status":"ok","check":"{check}"}}"#);
    ([(header::CONTENT_TYPE, "application/json")], body)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn document_names_every_route_and_no_other() {
        let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let named: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let table: BTreeSet<&str> = open().iter().chain(&guarded()).map(|(path, _)| *path).collect();
        assert_eq!(named, table);
    }
}
