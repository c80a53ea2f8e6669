//! A control plane that is just large enough: it proves each request's signature and key, gives pages of claims
//! and takes claims.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sigilum::clock::{Clock, UnixTime};
use sigilum::connections::SecretSource;
use sigilum::names::Namespace;
use sigilum::protocol::{BodyHash, Freshness, Identity, Message, Uncached, verify};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::sync::{Notify, watch};

use super::pushed::{Pushed, Streaming};

/// When all of these tests begin.
pub const START: UnixTime = UnixTime::from_secs(1_800_000_000);

/// What the server does with a request that it has proven.
#[derive(Clone)]
pub enum Behaviour {
    /// As a control plane does.
    Serve,
    /// This status and an error envelope, whatever is asked.
    Refuse(u16),
    /// A redirect to another server.
    Redirect(SocketAddr),
    /// 200 and so many bytes of JSON's white space.
    Spaces(usize),
    /// 200 and this text.
    Text(&'static str),
    /// The first page again and again, with more to come.
    Stuck,
    /// Another cursor with each page.
    Restless,
    /// Only the claims and the usage of this service; the others are refused.
    Only(&'static str),
    /// No answer until [`Server::release`].
    Hold,
    /// The answer of this moment, at [`Server::release`].
    HoldAnswer,
}

/// A request that was proven.
#[derive(Clone, Debug)]
pub struct Seen {
    pub target: String,
    pub headers: HeaderMap,
    pub body: Value,
    /// The namespace that signed.
    pub namespace: Namespace,
}

struct Shared {
    clock: Clock,
    address: SocketAddr,
    key: Mutex<String>,
    /// Services that another key opens.
    own_keys: Mutex<HashMap<String, String>>,
    /// Services that are not there.
    gone: Mutex<HashSet<String>>,
    by_claim: AtomicBool,
    pushed: Arc<Pushed>,
    behaviour: Mutex<Behaviour>,
    claims: Mutex<Vec<Value>>,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
    released: watch::Sender<bool>,
}

/// The server, gone with all its connections when dropped.
pub struct Server {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
    keys: TempDir,
}

impl Server {
    /// On a free port of the loopback.
    pub fn start(clock: &Clock) -> Self {
        Self::listen(clock, Nobody::there())
    }

    /// Where nobody listened until now.
    pub fn listen(clock: &Clock, Nobody(socket): Nobody) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = socket.local_addr().unwrap();
        let listener = {
            let _inside = runtime.enter();
            socket.listen(1024).unwrap()
        };
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            address,
            key: Mutex::new("sk_live_first".to_owned()),
            own_keys: Mutex::default(),
            gone: Mutex::default(),
            by_claim: AtomicBool::new(false),
            pushed: Arc::new(Pushed::new(clock)),
            behaviour: Mutex::new(Behaviour::Serve),
            claims: Mutex::default(),
            seen: Mutex::default(),
            arrived: Notify::new(),
            released: watch::Sender::new(false),
        });
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let server = Self { shared, runtime: Some(runtime), keys: tempfile::tempdir().unwrap() };
        server.write_key("sk_live_first");
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub fn url(&self) -> url::Url {
        format!("http://{}/", self.address()).parse().unwrap()
    }

    /// The file with the service API key that the gateway uses.
    pub fn key_source(&self) -> SecretSource {
        SecretSource::File(self.keys.path().join("key"))
    }

    pub fn write_key(&self, key: &str) {
        std::fs::write(self.keys.path().join("key"), key).unwrap();
    }

    /// From now on only this key is good.
    pub fn accept_key(&self, key: &str) {
        key.clone_into(&mut self.shared.key.lock().unwrap());
    }

    /// This service is opened by this key, and by no other.
    pub fn give_key(&self, service: &str, key: &str) {
        self.shared.own_keys.lock().unwrap().insert(service.to_owned(), key.to_owned());
    }

    /// This service is not there any more; nobody was told of the end of its claims.
    pub fn delete(&self, service: &str) {
        self.shared.gone.lock().unwrap().insert(service.to_owned());
    }

    /// Pages name the claim after which the next one begins.
    pub fn page_by_claim(&self) {
        self.shared.by_claim.store(true, Ordering::SeqCst);
    }

    /// What requests for a stream get; a 404 until this is called. Pages name the next claim from then on.
    pub fn stream(&self, streaming: Streaming) {
        self.page_by_claim();
        self.shared.pushed.stream(streaming);
    }

    /// Ends all streams that are open.
    pub fn cut(&self) {
        self.shared.pushed.cut();
    }

    /// Every cursor given so far leads nowhere.
    pub fn forget_cursors(&self) {
        self.shared.pushed.new_epoch();
    }

    /// Approves a claim: it is in the pages and in the stream.
    pub fn approve(&self, claim: Value) {
        let mut claims = self.shared.claims.lock().unwrap();
        claims.push(claim.clone());
        self.shared.pushed.push("claim.approved", claim);
    }

    /// Revokes it.
    pub fn revoke(&self, claim: &Value) {
        let mut claims = self.shared.claims.lock().unwrap();
        claims.retain(|other| other["claim_id"] != claim["claim_id"]);
        let (claim_id, service) = (&claim["claim_id"], &claim["service"]);
        self.shared.pushed.push("claim.revoked", json!({ "claim_id": claim_id, "service": service }));
    }

    /// Sends an event that changes no page.
    pub fn push(&self, name: &str, data: Value) {
        self.shared.pushed.push(name, data);
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    pub fn set_claims(&self, claims: Vec<Value>) {
        *self.shared.claims.lock().unwrap() = claims;
    }

    /// The proven requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Comes back when a request is held.
    pub async fn arrived(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.shared.arrived.notified()).await.unwrap();
    }

    /// Ends the server with all its connections, and keeps its port from others.
    pub fn stop(&mut self) -> Nobody {
        let runtime = self.runtime.take().unwrap();
        // A runtime may not be waited for inside another one.
        std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(30))).join().unwrap();
        Nobody::at(self.address())
    }

    /// Answers the requests that are held.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A port that is taken, and at which nobody listens: connections to it are refused.
pub struct Nobody(TcpSocket);

impl Nobody {
    pub fn there() -> Self {
        Self::at(([127, 0, 0, 1], 0).into())
    }

    fn at(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        Self(socket)
    }

    pub fn url(&self) -> url::Url {
        format!("http://{}/", self.0.local_addr().unwrap()).parse().unwrap()
    }
}

/// The identity of `namespace` whose key comes from `seed`.
pub fn identity(namespace: &str, seed: u32) -> Identity {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    Identity::create(&namespace.parse().unwrap(), bytes, START)
}

async fn answer(State(shared): State<Arc<Shared>>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    match prove(&shared, &parts.method, &parts.uri, &parts.headers, &body) {
        Ok(seen) => shared.seen.lock().unwrap().push(seen),
        Err(code) => return envelope(StatusCode::UNAUTHORIZED, code),
    }
    let behaviour = shared.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Refuse(status) => envelope(StatusCode::from_u16(status).unwrap(), "NO_LUCK"),
        Behaviour::Redirect(to) => {
            let location = format!("http://{to}{}", parts.uri);
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
        }
        Behaviour::Spaces(bytes) => Body::from(vec![b' '; bytes]).into_response(),
        Behaviour::Text(text) => text.into_response(),
        Behaviour::Hold => {
            shared.arrived.notify_one();
            shared.released.subscribe().wait_for(|released| *released).await.unwrap();
            serve(&shared, &parts, &behaviour)
        }
        Behaviour::HoldAnswer => {
            let answer = serve(&shared, &parts, &behaviour);
            shared.arrived.notify_one();
            shared.released.subscribe().wait_for(|released| *released).await.unwrap();
            answer
        }
        Behaviour::Serve | Behaviour::Stuck | Behaviour::Restless | Behaviour::Only(_) => {
            serve(&shared, &parts, &behaviour)
        }
    }
}

fn envelope(status: StatusCode, code: &str) -> Response {
    (status, json!({ "error": "no", "code": code }).to_string()).into_response()
}

/// The signature over the very URL and body, and the key.
fn prove(
    shared: &Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Seen, &'static str> {
    let target = format!("http://{}{uri}", shared.address);
    let message =
        Message { method: method.as_str(), target_uri: &target, headers, has_body: !body.is_empty() };
    let freshness =
        Freshness { created_tolerance: Duration::from_secs(300), future_skew: Duration::from_secs(30) };
    let verified =
        verify(&message, freshness, shared.clock.now(), &Uncached).map_err(|refusal| refusal.code())?;
    let mut hash = BodyHash::default();
    hash.update(body);
    if verified.content_digest().is_some_and(|digest| !digest.matches(&hash)) {
        return Err("DIGEST");
    }
    let own = shared.own_keys.lock().unwrap();
    let known =
        own.values().chain(std::iter::once(&*shared.key.lock().unwrap())).any(|key| *key == bearer(headers));
    if !known {
        return Err("KEY_INVALID");
    }
    Ok(Seen {
        target: uri.to_string(),
        headers: headers.clone(),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        namespace: verified.agent().namespace.clone(),
    })
}

fn bearer(headers: &HeaderMap) -> String {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.strip_prefix("Bearer ").unwrap_or_default().to_owned()
}

impl Shared {
    /// Whether the key of this request opens all of these services.
    fn opens(&self, headers: &HeaderMap, services: &[String]) -> bool {
        let own = self.own_keys.lock().unwrap();
        let (common, given) = (self.key.lock().unwrap().clone(), bearer(headers));
        services.iter().all(|service| *own.get(service).unwrap_or(&common) == given)
    }
}

fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

fn serve(shared: &Shared, parts: &axum::http::request::Parts, behaviour: &Behaviour) -> Response {
    let query = parts.uri.query().unwrap_or_default();
    let services = values(query, "service");
    if !shared.opens(&parts.headers, &services) {
        return envelope(StatusCode::FORBIDDEN, "SERVICE_NOT_YOURS");
    }
    if services.iter().any(|service| shared.gone.lock().unwrap().contains(service)) {
        return envelope(StatusCode::NOT_FOUND, "SERVICE_NOT_FOUND");
    }
    match (parts.method.as_str(), parts.uri.path().trim_start_matches("/base")) {
        ("POST", "/v1/claims") => {
            let id = format!("cl_{}", shared.seen.lock().unwrap().len());
            let answer = json!({ "claim_id": id, "status": "pending", "service": "openai",
                "message": "ask the owner", "approve_url": format!("https://example.com/claims/{id}") });
            (StatusCode::CREATED, answer.to_string()).into_response()
        }
        ("POST", "/v1/usage/events") => usage(shared, behaviour),
        ("GET", "/v1/namespaces/claims") => page(shared, query, behaviour),
        ("GET", "/v1/namespaces/claims/stream") => {
            shared.pushed.answer(services, &values(query, "since").concat())
        }
        _ => envelope(StatusCode::NOT_FOUND, "NOT_FOUND"),
    }
}

/// Of the request that was seen last, which tests that ask for this send one after the other.
fn usage(shared: &Shared, behaviour: &Behaviour) -> Response {
    let told = shared.seen.lock().unwrap().last().unwrap().body["events"].clone();
    let others = |only: &str| told.as_array().unwrap().iter().any(|event| event["service"] != only);
    if matches!(behaviour, Behaviour::Only(only) if others(only)) {
        return envelope(StatusCode::FORBIDDEN, "SERVICE_NOT_YOURS");
    }
    (StatusCode::ACCEPTED, "{}").into_response()
}

fn page(shared: &Shared, query: &str, behaviour: &Behaviour) -> Response {
    let value = |name: &str| values(query, name).pop();
    let (service, after) = (value("service").unwrap(), value("after"));
    let offset: usize = value("offset").map_or(0, |offset| offset.parse().unwrap());
    let limit: usize = value("limit").unwrap().parse().unwrap();
    if matches!(behaviour, Behaviour::Only(only) if *only != service) {
        return envelope(StatusCode::FORBIDDEN, "SERVICE_NOT_YOURS");
    }
    let all = shared.claims.lock().unwrap();
    let mut claims: Vec<&Value> = all.iter().filter(|claim| claim["service"] == *service).collect();
    let by_claim = shared.by_claim.load(Ordering::SeqCst);
    let id = |claim: &Value| claim["claim_id"].as_str().unwrap().to_owned();
    if by_claim {
        claims.sort_by_key(|claim| id(claim));
        claims.retain(|claim| after.as_ref().is_none_or(|after| id(claim) > *after));
    }
    let stuck = matches!(behaviour, Behaviour::Stuck);
    let shown: Vec<&&Value> = claims.iter().skip(if stuck { 0 } else { offset }).take(limit).collect();
    let cursor = match behaviour {
        Behaviour::Restless => shared.seen.lock().unwrap().len().to_string(),
        _ => shared.pushed.cursor(),
    };
    let has_more = stuck || offset + shown.len() < claims.len();
    let mut pagination =
        json!({ "limit": limit, "offset": offset, "total": claims.len(), "has_more": has_more });
    if let (true, true, Some(last)) = (by_claim, has_more, shown.last()) {
        pagination["next"] = json!(id(last));
    }
    json!({ "claims": shown, "pagination": pagination, "cursor": cursor }).to_string().into_response()
}
