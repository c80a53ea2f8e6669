//! `/openapi.json`: this API, for tools. It is written by hand, a part for each resource, and put together here; tests
//! hold it to the routes.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value};

use super::Route;

/// The parts. The first holds what the others refer to.
const PARTS: [&str; 6] = [
    include_str!("openapi/base.json"),
    include_str!("openapi/auth.json"),
    include_str!("openapi/services.json"),
    include_str!("openapi/claims.json"),
    include_str!("openapi/public.json"),
    include_str!("openapi/pairing.json"),
];

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/openapi.json", get(whole))]
}

async fn whole() -> impl IntoResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}

/// The document: the parts' objects, one laid into the other.
fn document() -> Value {
    let mut whole = Value::Object(Map::new());
    for part in PARTS {
        // A part that is no JSON is found by the tests.
        lay(&mut whole, serde_json::from_str(part).unwrap_or_default());
    }
    whole
}

fn lay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                lay(below.entry(name).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}
