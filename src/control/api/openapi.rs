//! `/openapi.json`: this API, for tools. It is written by hand, a part for each resource, and put together here; tests
//! hold it to the routes.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value};

use super::Route;

/// The parts. The first holds what the others refer to.
const PARTS: [&str; 8] = [
    include_str!("openapi/base.json"),
    include_str!("openapi/auth.json"),
    include_str!("openapi/services.json"),
    include_str!("openapi/claims.json"),
    include_str!("openapi/public.json"),
    include_str!("openapi/pairing.json"),
    include_str!("openapi/webhooks.json"),
    include_str!("openapi/usage.json"),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::api::every_path;

    #[test]
    fn parts_are_json_and_none_takes_another_s_place() {
        let mut seen = BTreeSet::new();
        for part in PARTS {
            let part: Value = serde_json::from_str(part).unwrap();
            for list in ["/paths", "/components/schemas"] {
                for name in part.pointer(list).and_then(Value::as_object).into_iter().flat_map(Map::keys) {
                    assert!(seen.insert(format!("{list} {name}")), "{list} {name} stands in two parts");
                }
            }
        }
    }

    #[test]
    fn document_names_every_route_and_no_other() {
        let document = document();
        let named: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(named, every_path().into_iter().map(|(path, _)| path).collect());
    }

    #[test]
    fn document_names_what_each_query_may_hold_and_nothing_else() {
        let document = document();
        for (path, known) in every_path() {
            let operations = document["paths"][path].as_object().unwrap().values();
            let parameters = operations.filter_map(|operation| operation["parameters"].as_array()).flatten();
            let named: BTreeSet<&str> = parameters
                .filter(|parameter| parameter["in"] == "query")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            assert_eq!(named, known.iter().copied().collect(), "{path}");
        }
    }

    #[test]
    fn document_is_of_this_version_and_its_references_lead_somewhere() {
        let document = document();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(target)) = fields.get("$ref") {
                        let place = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(place).is_some(), "{target} leads nowhere");
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
    }
}
