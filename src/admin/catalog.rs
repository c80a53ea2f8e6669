//! `/api/admin/service-catalog`: the templates of connections.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use serde_json::json;

use super::Handles;
use super::answer::Json;
use super::audit::{Caller, Line};
use super::body::Raw;
use super::refusal::Refusal;
use crate::connections::{Catalog, Drain};

pub(super) async fn get(State(handles): State<Handles>) -> Result<Json<Catalog>, Refusal> {
    Ok(Json(Arc::unwrap_or_clone(handles.ask(|book| book.catalog()).await?)))
}

pub(super) async fn put(
    State(handles): State<Handles>,
    Extension(caller): Extension<Caller>,
    Raw(body): Raw,
) -> Result<Json<Catalog>, Refusal> {
    let put = handles.change(caller, "service_catalog.put", move |book, line| {
        *line = Line::of("service-catalog");
        let catalog = Catalog::from_json(&body)?;
        line.before(&keys(&book.catalog()));
        let stored = book.set_catalog(catalog)?;
        line.after(&keys(&stored));
        Ok((stored, Drain::default()))
    });
    Ok(Json(Arc::unwrap_or_clone(put.await?)))
}

fn keys(catalog: &Catalog) -> serde_json::Value {
    let keys: Vec<&str> = catalog.services.iter().map(|template| template.key.as_str()).collect();
    json!({ "services": keys })
}
