//! Owners: who comes with an owner token.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::frame::{Asker, bearer, who_asks};
use super::origin;
use super::refusal::{Kind, Refusal};
use crate::control::ControlPlane;
use crate::control::rates::Caller;
use crate::control::token::OwnerToken;
use crate::names::Namespace;

/// The cookie that carries an owner token.
pub(super) const COOKIE: &str = "sigilum_session";

/// An owner who is still one, proven by an owner token in `Authorization: Bearer`, or in the session cookie; with the
/// cookie a request that may change something must come from a page that is allowed to.
#[derive(Debug)]
pub(super) struct Owner {
    /// The owner's id.
    pub(super) id: String,
    /// Its e-mail address.
    pub(super) email: String,
    /// The one namespace that it acts for.
    pub(super) namespace: Namespace,
    /// What the token says.
    pub(super) token: OwnerToken,
    /// By which request.
    pub(super) asker: Asker,
}

impl Owner {
    /// Holds the owner to its own namespace.
    ///
    /// # Errors
    /// When this is another's.
    pub(super) fn acts_for(&self, namespace: &Namespace) -> Result<(), Refusal> {
        if *namespace == self.namespace {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::NamespaceForbidden,
            format!("this owner token is for the namespace {}, and for no other", self.namespace),
        ))
    }
}

impl FromRequestParts<Arc<ControlPlane>> for Owner {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let asker = who_asks(parts)?;
        let token = match presented(parts, plane) {
            Ok(token) => token,
            Err(refusal) => {
                plane.rates.count_address(asker.client)?;
                return Err(refusal);
            }
        };
        plane.rates.count(Caller::Owner(token.namespace.clone()))?;
        let owner = plane.store.owner(&token.subject).await?;
        match owner {
            Some(owner) if owner.namespace == token.namespace => {
                Ok(Self { id: owner.id, email: owner.email, namespace: owner.namespace, token, asker })
            }
            _ => Err(Refusal::new(
                Kind::TokenInvalid,
                "the owner of this token, or its namespace, is no longer there; log in anew",
            )),
        }
    }
}

/// The token that was sent, proven.
fn presented(parts: &Parts, plane: &ControlPlane) -> Result<OwnerToken, Refusal> {
    let by_header = bearer(&parts.headers)?;
    let Some(token) = by_header.or_else(|| cookie(&parts.headers)) else {
        return Err(Refusal::new(
            Kind::TokenRequired,
            "an owner token is needed, as Authorization: Bearer; `sigilum auth login` makes one",
        ));
    };
    if by_header.is_none() && !parts.method.is_safe() && !origin::may_act(&plane.config, &parts.headers) {
        return Err(Refusal::new(
            Kind::OriginForbidden,
            "with the session cookie, requests that change something need an Origin that is allowed (SIGILUM_API_ALLOWED_ORIGINS)",
        ));
    }
    Ok(plane.config.token_key.prove(token, plane.clock.now())?)
}

/// The session cookie's value. Of several the first counts, which browsers send for the more exact path.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value.trim_matches('"')))
}
