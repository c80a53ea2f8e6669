//! Callers that sign (RFC 9421), and of these the ones with a service API key.

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::body;
use super::frame::{Asker, bearer, who_asks};
use super::refusal::{Kind, Refusal};
use crate::control::ControlPlane;
use crate::control::domain::api_key::{ApiKey, NotAnApiKey};
use crate::control::domain::service;
use crate::control::nonces::Share;
use crate::control::rates::Caller;
use crate::json;
use crate::names::{ApiKeyId, Namespace, ServiceSlug};
use crate::protocol::{
    Agent, BodyHash, Freshness, Message, Uncached, VerifiedSignature, origin, received_uri, verify,
};

/// A request whose signature holds, whose nonce is new, and whose body is the one that was signed.
#[derive(Debug)]
pub(super) struct Signed {
    verified: VerifiedSignature,
    /// The body, whole.
    pub(super) body: Bytes,
}

impl Signed {
    /// The agent whose key signed.
    pub(super) fn agent(&self) -> &Agent {
        self.verified.agent()
    }

    /// The body as JSON, read strictly.
    ///
    /// # Errors
    /// When it is no JSON, or no `T`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        Ok(json::read(&self.body)?)
    }
}

impl FromRequest<Arc<ControlPlane>> for Signed {
    type Rejection = Refusal;

    async fn from_request(request: Request, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let asker = who_asks(&parts)?;
        // Anybody can sign with a key of their own making, so it is the address that counts.
        plane.rates.count_address(asker.client)?;
        let verified = prove(plane, &parts, &asker, &body)?;
        complete(plane, verified, body, Share::Strangers).await
    }
}

/// A signed request with a service API key that is good.
#[derive(Debug)]
pub(super) struct ServiceCaller {
    /// The request.
    pub(super) signed: Signed,
    /// Who holds the key.
    pub(super) caller: service::ServiceCaller,
    /// The key's SHA-256, to look again whether it is still good.
    pub(super) key_sha256: String,
}

impl ServiceCaller {
    /// Holds the caller to what its key opens.
    ///
    /// # Errors
    /// When the key is another service's.
    pub(super) fn opens(&self, slug: &ServiceSlug) -> Result<(), Refusal> {
        opens(&self.caller, slug)
    }
}

impl FromRequest<Arc<ControlPlane>> for ServiceCaller {
    type Rejection = Refusal;

    async fn from_request(request: Request, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        service_caller(request, plane, Caller::Key).await
    }
}

/// The same, of one who tells of usage.
#[derive(Debug)]
pub(super) struct UsageTeller(pub(super) ServiceCaller);

impl FromRequest<Arc<ControlPlane>> for UsageTeller {
    type Rejection = Refusal;

    async fn from_request(request: Request, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        service_caller(request, plane, Caller::Usage).await.map(Self)
    }
}

/// Who asks whether a claim holds, with a signature.
pub(super) enum Verifier {
    /// The holder of the service API key that came with it.
    Service(Box<service::ServiceCaller>),
    /// None came: somebody who says to be of this namespace.
    Signer(Namespace),
}

impl FromRequest<Arc<ControlPlane>> for Verifier {
    type Rejection = Refusal;

    async fn from_request(request: Request, plane: &Arc<ControlPlane>) -> Result<Self, Refusal> {
        if request.headers().contains_key(header::AUTHORIZATION) {
            let caller = ServiceCaller::from_request(request, plane).await?.caller;
            return Ok(Self::Service(Box::new(caller)));
        }
        let signed = Signed::from_request(request, plane).await?;
        Ok(Self::Signer(signed.agent().namespace.clone()))
    }
}

/// Counting is cheaper than to prove a signature and to ask the database, so it comes first: by the key where that is
/// known, else by the address. A key that turns out to be good is counted too.
async fn service_caller(
    request: Request,
    plane: &Arc<ControlPlane>,
    counted: fn(ApiKeyId) -> Caller,
) -> Result<ServiceCaller, Refusal> {
    let (parts, body) = request.into_parts();
    let asker = who_asks(&parts)?;
    let key_sha256 = service_key(&parts).map(|key| key.sha256());
    let known = key_sha256.as_ref().ok().and_then(|sha256| plane.rates.known(sha256));
    match &known {
        Some(key) => plane.rates.count(counted(key.clone()))?,
        None => plane.rates.count_address(asker.client)?,
    }
    let verified = prove(plane, &parts, &asker, &body)?;
    let key_sha256 = key_sha256?;
    let caller = look_up(plane, &key_sha256).await?;
    if known.is_none() {
        plane.rates.count(counted(caller.key.clone()))?;
    }
    let signed = complete(plane, verified, body, Share::Owner(&caller.service.owner)).await?;
    Ok(ServiceCaller { signed, caller, key_sha256 })
}

/// Holds the holder of a key to what the key opens.
///
/// # Errors
/// When the key is another service's.
pub(super) fn opens(caller: &service::ServiceCaller, slug: &ServiceSlug) -> Result<(), Refusal> {
    if caller.all_services || caller.service.slug == *slug {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::KeyForbidden,
        format!("this service API key opens the service {} alone", caller.service.slug),
    ))
}

/// Who holds the key with this SHA-256.
async fn look_up(plane: &ControlPlane, key_sha256: &str) -> Result<service::ServiceCaller, Refusal> {
    let caller = plane.store.caller_of_key(key_sha256, plane.clock.now()).await?;
    plane.rates.remember(key_sha256, caller.as_ref().map(|caller| &caller.key));
    caller.ok_or_else(|| Refusal::new(Kind::KeyInvalid, "the service API key is not one that is in force"))
}

/// The service API key that was sent.
fn service_key(parts: &Parts) -> Result<ApiKey, Refusal> {
    let key = bearer(&parts.headers)?.ok_or_else(|| {
        Refusal::new(Kind::KeyRequired, "a service API key is needed, as Authorization: Bearer sk_live_…")
    })?;
    key.parse().map_err(|fault: NotAnApiKey| Refusal::new(Kind::KeyInvalid, fault.to_string()))
}

/// Rows 1 to 9 of the verification order.
fn prove(
    plane: &ControlPlane,
    parts: &Parts,
    asker: &Asker,
    body: &Body,
) -> Result<VerifiedSignature, Refusal> {
    let target_uri = target_uri(plane, parts, asker)?;
    let message = Message {
        method: parts.method.as_str(),
        target_uri: &target_uri,
        headers: &parts.headers,
        has_body: !body.is_end_stream(),
    };
    Ok(verify(&message, Freshness::default(), plane.clock.now(), &Uncached)?)
}

/// Rows 11 and 12: the nonce, and then the body.
async fn complete(
    plane: &ControlPlane,
    verified: VerifiedSignature,
    body: Body,
    share: Share<'_>,
) -> Result<Signed, Refusal> {
    let namespace = &verified.agent().namespace;
    plane.nonces.note(&plane.store, namespace, &verified, share, plane.clock.now()).await?;
    let body = body::whole(body, plane).await?;
    let mut hash = BodyHash::default();
    hash.update(&body);
    if verified.content_digest().is_some_and(|digest| !digest.matches(&hash)) {
        return Err(crate::protocol::Refusal::ContentDigestMismatch.into());
    }
    Ok(Signed { verified, body })
}

/// The absolute URI that the client requested: of the public URL where there is one, else as `Host` says, or a trusted
/// proxy.
pub(super) fn target_uri(plane: &ControlPlane, parts: &Parts, asker: &Asker) -> Result<String, Refusal> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if let Some(public) = &plane.config.public_url {
        return Ok(format!("{}{path}", public.origin().ascii_serialization()));
    }
    let wrong =
        || Refusal::new(Kind::RequestInvalid, "there must be one Host, of a host and at the most a port");
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(wrong()) };
    let own_host = host.to_str().map_err(|_| wrong())?;
    let said = origin(&parts.headers, asker.peer, |address| plane.trusts(address))?;
    received_uri(said.https.unwrap_or(false), said.host.unwrap_or(own_host), path).ok_or_else(wrong)
}
