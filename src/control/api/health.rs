//! Health and metrics, for probes and scrapers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};

use super::Route;
use super::refusal::{Kind, Refusal};
use crate::control::{ControlPlane, Metrics};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/health", get(|| async { healthy("health") })),
        Route::new("/health/live", get(|| async { healthy("liveness") })),
        Route::new("/health/ready", get(ready)),
        Route::new("/metrics", get(metrics)),
    ]
}

/// Ready is who can ask the database, and is not about to stop.
async fn ready(State(plane): State<Arc<ControlPlane>>) -> Result<Json<Value>, Refusal> {
    if *plane.stopping().borrow() {
        return Err(Refusal::new(Kind::NotReady, "the control plane is stopping"));
    }
    match plane.store.ping().await {
        Ok(()) => Ok(healthy("readiness")),
        Err(fault) => {
            tracing::warn!(%fault, "the control plane is not ready");
            let sentence = "the control plane is not ready: it waits for its database";
            Err(Refusal::new(Kind::NotReady, sentence).retry(1))
        }
    }
}

async fn metrics(State(plane): State<Arc<ControlPlane>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], plane.metrics.render())
}

fn healthy(check: &'static str) -> Json<Value> {
    Json(json!({ "status": "ok", "check": check }))
}
