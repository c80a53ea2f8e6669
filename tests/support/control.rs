//! A real control plane in the test's own process: on a free port, over a SQLite file or another database, with helpers
//! that call it as owners, services and agents do. It runs on a runtime of its own, so that tests may block.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sigilum::clock::Clock;
use sigilum::control::store::{DatabaseUrl, Store};
use sigilum::control::{ControlConfig, ControlPlane, Environment, Limits, Sealer, TokenKey};
use sigilum::secret::SecretBytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::agent::{Agent, Draft, Signed};
use super::raw::{RawClient, Response};

/// What owner tokens are signed with.
pub const JWT_SECRET: [u8; 32] = [7; 32];

/// An owner, and its token.
#[derive(Debug, Clone)]
pub struct Owner {
    pub id: String,
    pub namespace: String,
    pub email: String,
    pub token: String,
}

/// A service with an API key.
#[derive(Debug, Clone)]
pub struct Service {
    pub id: String,
    pub slug: String,
    pub key_id: String,
    pub key: String,
}

/// The control plane; it stops when it is dropped.
pub struct Control {
    plane: Arc<ControlPlane>,
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    runtime: Option<Runtime>,
    served: Option<tokio::task::JoinHandle<()>>,
    directory: TempDir,
}

/// A configuration for tests: on a free port of the loopback, webhooks may go to private addresses, nothing is slow.
pub fn config(database: DatabaseUrl) -> ControlConfig {
    ControlConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        public_url: None,
        dashboard_url: None,
        database,
        token_key: TokenKey::new(SecretBytes::new(JWT_SECRET.to_vec())).unwrap(),
        sealer: Sealer::new(SecretBytes::new(vec![9; 32])).unwrap(),
        token_ttl: Duration::from_secs(7 * 24 * 3600),
        allowed_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        webhooks_to_private: true,
        environment: Environment::Test,
        test_seed: None,
        limits: Limits { requests_per_second: 10_000, ..Limits::default() },
        drain: Duration::from_secs(5),
    }
}

impl Control {
    /// Over a SQLite file of its own.
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Over a SQLite file of its own, with changes to the configuration.
    pub fn with(change: impl FnOnce(&mut ControlConfig)) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("sigilum.db");
        Self::begin(directory, DatabaseUrl::Sqlite(file), Clock::system(), change)
    }

    /// Over this SQLite file, which other processes of the test's making may have left.
    pub fn at(file: &Path) -> Self {
        Self::over(DatabaseUrl::Sqlite(file.to_owned()), |_| {})
    }

    /// Over this database: a replica, where it is PostgreSQL.
    pub fn over(database: DatabaseUrl, change: impl FnOnce(&mut ControlConfig)) -> Self {
        Self::begin(TempDir::new().unwrap(), database, Clock::system(), change)
    }

    /// Over a SQLite file of its own, by this clock.
    pub fn by(clock: Clock) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("sigilum.db");
        Self::begin(directory, DatabaseUrl::Sqlite(file), clock, |_| {})
    }

    fn begin(
        directory: TempDir,
        database: DatabaseUrl,
        clock: Clock,
        change: impl FnOnce(&mut ControlConfig),
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = config(database);
        change(&mut config);
        let bound =
            on(&runtime, async move { ControlPlane::open(config, clock).await.unwrap().bind().unwrap() });
        let (plane, address) = (Arc::clone(bound.plane()), bound.local_addr().unwrap());
        let shutdown = watch::Sender::new(false);
        let served = runtime.spawn(bound.serve(shutdown.subscribe()));
        Self { plane, address, shutdown, runtime: Some(runtime), served: Some(served), directory }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The origin, as the base URL of a gateway's configuration.
    pub fn url(&self) -> url::Url {
        format!("{}/", self.origin()).parse().unwrap()
    }

    pub fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    pub fn store(&self) -> &Store {
        &self.plane.store
    }

    /// A directory that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs this on the control plane's own runtime and waits for it; from any thread, also inside another runtime.
    pub fn call<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        on(self.runtime.as_ref().unwrap(), future)
    }

    /// Asks it to stop, without waiting for it.
    pub fn ask_to_stop(&self) {
        self.shutdown.send_replace(true);
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        if let Some(served) = self.served.take() {
            self.call(served).unwrap();
        }
    }

    /// An owner of this namespace, made where there is none, and a token of it.
    pub fn owner(&self, namespace: &str) -> Owner {
        self.owner_named(namespace, &format!("{namespace}@example.com"))
    }

    /// The owner with this address.
    pub fn owner_named(&self, namespace: &str, email: &str) -> Owner {
        let plane = Arc::clone(&self.plane);
        let (namespace, email) = (namespace.to_owned(), email.to_owned());
        self.call(async move {
            let now = plane.clock.now();
            let owner = plane.store.add_owner(&namespace.parse().unwrap(), &email, now).await.unwrap();
            let token = plane.config.token_key.issue(&owner, plane.config.token_ttl, now);
            Owner { id: owner.id, namespace, email, token: token.expose().to_owned() }
        })
    }

    /// A service of this owner with an API key of its own.
    pub fn service(&self, owner: &Owner, slug: &str) -> Service {
        let made = self.as_owner(owner, "POST", "/v1/services", Some(&json!({ "slug": slug })));
        assert_eq!(made.status, 201, "{}", made.text());
        let id = made.json()["id"].as_str().unwrap().to_owned();
        self.keyed(owner, &id, slug, &json!({}))
    }

    /// The same service with a key that opens all services of the owner.
    pub fn all_services_key(&self, owner: &Owner, service: &Service) -> Service {
        self.keyed(owner, &service.id, &service.slug, &json!({ "all_services": true }))
    }

    fn keyed(&self, owner: &Owner, id: &str, slug: &str, body: &Value) -> Service {
        let key = self.as_owner(owner, "POST", &format!("/v1/services/{id}/keys"), Some(body));
        assert_eq!(key.status, 201, "{}", key.text());
        let key = key.json();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        Service { id: id.to_owned(), slug: slug.to_owned(), key_id: text("id"), key: text("key") }
    }

    /// Sends a request with these headers, and a body of JSON or none.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Response {
        self.send(method, request(self.address, method, path, headers, body))
    }

    /// Sends these bytes on a connection of their own.
    pub fn send(&self, method: &str, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = RawClient::connect(self.address);
        client.send(bytes);
        client.response_to(method)
    }

    /// As this owner, by its token.
    pub fn as_owner(&self, owner: &Owner, method: &str, path: &str, body: Option<&Value>) -> Response {
        self.send(method, owner_request(self.address, owner, method, path, body))
    }

    /// A request of this agent, not yet signed.
    pub fn draft<'a>(
        &self,
        agent: &'a Agent,
        method: &'a str,
        origin: &'a str,
        target: &'a str,
    ) -> Draft<'a> {
        agent.request(method, origin, target)
    }

    /// A signed request, without a service API key.
    pub fn as_agent(&self, agent: &Agent, method: &str, target: &str, body: Option<&Value>) -> Response {
        let origin = self.origin();
        let draft = agent.request(method, &origin, target);
        let signed = match body {
            Some(body) => {
                draft.header("content-type", "application/json").body(body.to_string().as_bytes()).sign()
            }
            None => draft.sign(),
        };
        self.send(method, signed.to_bytes())
    }

    /// A signed request with this service API key, to be changed or sent.
    pub fn service_request(
        &self,
        agent: &Agent,
        key: &str,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Signed {
        service_request(self.address, agent, key, method, target, body)
    }

    /// A signed request with this service API key.
    pub fn as_service(
        &self,
        agent: &Agent,
        key: &str,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Response {
        self.send(method, self.service_request(agent, key, method, target, body).to_bytes())
    }

    /// What `agent` sends to ask for a claim on this service.
    pub fn submission(agent: &Agent, slug: &str) -> Value {
        let nonce = super::random().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        json!({
            "namespace": agent.namespace(), "public_key": agent.public_key(), "service": slug,
            "agent_ip": "203.0.113.7", "nonce": nonce,
        })
    }

    /// Asks for a claim, signed by the agent itself; gives its id.
    pub fn submit(&self, agent: &Agent, service: &Service) -> String {
        // What is signed in the second of the start is refused; the control plane answers from the next one on.
        self.ask("GET", "/health/live", &[], None);
        let asked = Self::submission(agent, &service.slug);
        let answer = self.as_service(agent, &service.key, "POST", "/v1/claims", Some(&asked));
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
        answer.json()["claim_id"].as_str().unwrap().to_owned()
    }

    /// Decides about a claim: `approve`, `reject` or `revoke`.
    pub fn decide(&self, owner: &Owner, claim: &str, decision: &str) -> Value {
        let answer = self.as_owner(owner, "POST", &format!("/v1/claims/{claim}/{decision}"), None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// A claim of `agent` on `service`, approved by the owner; gives its id.
    pub fn approved(&self, owner: &Owner, agent: &Agent, service: &Service) -> String {
        let claim = self.submit(agent, service);
        assert_eq!(self.decide(owner, &claim, "approve")["status"], "approved");
        claim
    }

    /// How many requests of this route it has answered well, streams when they began.
    pub fn requests(&self, route: &str) -> usize {
        let series = format!("sigilum_control_requests_total{{route=\"{route}\",status=\"2xx\"}} ");
        let text = self.plane.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
    }

    /// How many requests of this route it has answered, well or not, streams when they began.
    pub fn answers(&self, route: &str) -> usize {
        let series = format!("sigilum_control_requests_total{{route=\"{route}\",status=\"");
        let text = self.plane.metrics.render();
        let counts = text.lines().filter_map(|line| line.strip_prefix(&series)?.split_once(' '));
        counts.map(|(_, count)| count.parse::<usize>().unwrap()).sum()
    }

    /// Opens a stream of the feed; `query` as in `service=openai&since=…`.
    pub fn stream(&self, agent: &Agent, key: &str, query: &str) -> EventStream {
        let target = format!("/v1/namespaces/claims/stream?{query}");
        EventStream::open(self.address, &self.service_request(agent, key, "GET", &target, None))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One Server-Sent Event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// A stream of the feed, read event by event.
pub struct EventStream {
    client: RawClient,
    pub head: Response,
    text: String,
}

impl EventStream {
    /// Opens it at the control plane at this address.
    pub fn open(address: SocketAddr, request: &Signed) -> Self {
        let mut client = RawClient::connect(address);
        client.send(request.to_bytes());
        let head = client.head().expect("an answer");
        assert_eq!(head.status, 200, "{:?}", client.chunk());
        Self { client, head, text: String::new() }
    }

    /// The next event, heartbeats too; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let text: String = self.text.drain(..end + 2).collect();
                return Some(event(&text));
            }
            let chunk = self.client.chunk()?;
            if chunk.is_empty() {
                assert!(self.text.is_empty(), "the stream ended within an event: {}", self.text);
                return None;
            }
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event that is no heartbeat; `None` when the stream has ended.
    pub fn next_change(&mut self) -> Option<Event> {
        loop {
            match self.next() {
                Some(event) if event.name == "heartbeat" => {}
                other => return other,
            }
        }
    }
}

/// A request to the control plane at this address, with these headers, and a body of JSON or none.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str("content-type: application/json\r\n");
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    format!("{head}{body}").into_bytes()
}

/// The same as this owner, by its token.
pub fn owner_request(
    address: SocketAddr,
    owner: &Owner,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Vec<u8> {
    let bearer = format!("Bearer {}", owner.token);
    request(address, method, path, &[("authorization", &bearer)], body)
}

/// A signed request with this service API key.
pub fn service_request(
    address: SocketAddr,
    agent: &Agent,
    key: &str,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Signed {
    let origin = format!("http://{address}");
    let draft = agent
        .request(method, &origin, target)
        .header("authorization", &format!("Bearer {key}"))
        .header("content-type", "application/json");
    match body {
        Some(body) => draft.body(body.to_string().as_bytes()).sign(),
        None => draft.sign(),
    }
}

fn event(text: &str) -> Event {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    Event { name: field("event:"), id: field("id:"), data: serde_json::from_str(&field("data:")).unwrap() }
}

fn on<T: Send + 'static>(runtime: &Runtime, future: impl Future<Output = T> + Send + 'static) -> T {
    let (done, outcome) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = done.send(future.await);
    });
    outcome.recv().expect("what the test asked of the control plane panicked")
}
