//! `POST /v1/test/seed`: approved claims for tests. It is there only where it was switched on, in a local or test
//! environment, for a caller on this machine with the token; for everybody else there is no such route.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::Route;
use super::body::{Sent, parsed};
use super::frame::who_asks;
use super::refusal::{Kind, Refusal};
use crate::control::{ControlConfig, ControlPlane, Environment};

/// Where the token stands.
const TOKEN: &str = "x-sigilum-test-seed-token";
/// Entries of each list at most.
const ENTRIES: usize = 1_000;

/// The route, where it may be.
pub(super) fn routes(config: &ControlConfig) -> Vec<Route> {
    let possible = config.test_seed.is_some() && config.environment != Environment::Production;
    if possible { vec![Route::new("/v1/test/seed", post(seed))] } else { Vec::new() }
}

/// A caller on this machine who has the token.
struct Seeder;

impl FromRequestParts<Arc<ControlPlane>> for Seeder {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let asker = who_asks(parts)?;
        let sent = parts.headers.get(TOKEN).map(|token| token.as_bytes()).unwrap_or_default();
        let holds =
            plane.config.test_seed.as_ref().is_some_and(|token| token.expose().as_bytes().ct_eq(sent).into());
        if asker.near && holds {
            return Ok(Self);
        }
        // Nobody tries tokens out faster than anything else.
        plane.rates.count_address(asker.client)?;
        Err(Refusal::new(Kind::NotFound, "there is no such route"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seeds {
    #[serde(default)]
    upserts: Vec<Seed>,
    #[serde(default)]
    deletes: Vec<Seed>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    namespace: String,
    service: String,
    public_key: String,
}

async fn seed(
    State(plane): State<Arc<ControlPlane>>,
    _: Seeder,
    Sent(seeds): Sent<Seeds>,
) -> Result<Json<Value>, Refusal> {
    for (name, list) in [("upserts", &seeds.upserts), ("deletes", &seeds.deletes)] {
        if list.len() > ENTRIES {
            return Err(Refusal::field(name, &format_args!("takes at most {ENTRIES} entries")));
        }
    }
    let all = seeds.upserts.iter().map(|seed| (seed, true));
    for (seed, approved) in all.chain(seeds.deletes.iter().map(|seed| (seed, false))) {
        let namespace = parsed("namespace", &seed.namespace)?;
        let service = parsed("service", &seed.service)?;
        let key = parsed("public_key", &seed.public_key)?;
        plane.store.seed_claim(&namespace, &service, &key, approved, plane.clock.now()).await?;
    }
    Ok(Json(json!({ "upserted": seeds.upserts.len(), "deleted": seeds.deletes.len() })))
}
