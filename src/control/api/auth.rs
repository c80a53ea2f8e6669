//! `/v1/auth`: who an owner is, and the end of a session or of all of it. How owners log in is not here yet; their tokens
//! come from `sigilum auth login` and `sigilum api owner create`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use super::owner::{COOKIE, Owner};
use super::refusal::{Kind, Refusal};
use super::{Route, audit};
use crate::control::{ClaimEvent, ControlPlane};
use crate::protocol::did::Did;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/v1/auth/me", get(me)),
        Route::new("/v1/auth/logout", post(logout)),
        Route::new("/v1/auth/account", delete(delete_account)),
    ]
}

async fn me(State(plane): State<Arc<ControlPlane>>, owner: Owner) -> Result<Json<Value>, Refusal> {
    let namespace = plane.store.namespace(&owner.namespace).await?.ok_or_else(|| gone(&owner))?;
    Ok(Json(json!({
        "id": owner.id,
        "email": owner.email,
        "namespace": owner.namespace.as_str(),
        "did": Did::of(&owner.namespace).to_string(),
        "created_at": namespace.created_at.to_string(),
        "settings": namespace.settings,
        "token": {
            "issued_at": owner.token.issued_at.to_string(),
            "expires_at": owner.token.expires_at.to_string(),
        },
    })))
}

/// Clears the cookie. The token itself holds until its end, since nothing is kept of it here.
async fn logout(State(plane): State<Arc<ControlPlane>>, _: Owner) -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, no_cookie(&plane))])
}

async fn delete_account(
    State(plane): State<Arc<ControlPlane>>,
    owner: Owner,
) -> Result<impl IntoResponse, Refusal> {
    let revoked = plane.store.delete_namespace(&owner.namespace, plane.clock.now()).await?;
    plane.metrics.claims(ClaimEvent::Revoked, revoked);
    audit::changed(&owner, "namespace.delete", &owner.namespace, "");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, no_cookie(&plane))]))
}

/// What the owner's namespace became meanwhile.
pub(super) fn gone(owner: &Owner) -> Refusal {
    Refusal::new(Kind::NamespaceNotFound, format!("there is no namespace {} any more", owner.namespace))
}

fn no_cookie(plane: &ControlPlane) -> HeaderValue {
    let https = plane.config.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
    let secure = if https { "; Secure" } else { "" };
    let text = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
