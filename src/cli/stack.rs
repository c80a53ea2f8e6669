//! The running gateway, put together from its settings: the one place that knows all of its parts.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::ground::Ground;
use super::reload::{ConfigFile, Running, on_hangup, reload};
use super::uplink::{Uplink, Wanted};
use super::{Exit, Failure};
use crate::admin::{self, Admin};
use crate::claims::{ClaimsIndex, Feed, Services};
use crate::clock::Clock;
use crate::config::Settings;
use crate::connections::{Book, Catalog, Connection};
use crate::gateway::{self, AdminDoor, Routes};
use crate::identity::Home;
use crate::pairing::{Bridge, BridgeConfig};
use crate::protocol::Identity;
use crate::protocol::did::Did;
use crate::replay::MemoryStore;
use crate::telemetry::{DecisionLog, Identities, Metrics};
use crate::usage::Reporter;
use crate::vault::Vault;

/// A gateway that is put together, its addresses taken, and that does not serve yet.
pub(super) struct Stack {
    bound: gateway::Bound,
    admin: admin::Bound,
    feed: Option<Feed>,
    reporter: Option<Reporter>,
    /// Holds `true` once no request runs any more: until then claims may be withdrawn, and requests are recorded.
    over: watch::Sender<bool>,
    /// What is to run beside the two planes, until the stack stops.
    beside: Vec<BoxFuture<'static, ()>>,
}

/// Where a stack serves.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// The data plane's origins.
    pub(super) gateway: Vec<String>,
    /// The admin sidecar.
    pub(super) admin: SocketAddr,
}

impl Stack {
    /// Opens all parts of it.
    ///
    /// `file` is where the settings come from, to be read again at a reload.
    pub(super) fn assemble(
        ground: &Ground,
        settings: Settings,
        file: Option<ConfigFile>,
    ) -> Result<Self, Failure> {
        let runtime = ground.runtime();
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let clock = Clock::system();
        let metrics = Arc::new(Metrics::new());
        metrics.watch_log(ground.dropped_lines());
        let identity = gateway_identity(&settings, &clock)?;
        let running = Running::of(&settings);
        let vault = settings.vault.as_ref().map(Vault::open).transpose()?;
        let (book, gateway_id) = book(
            settings.connections,
            settings.service_catalog.as_deref(),
            vault.clone(),
            identity.as_deref(),
            &clock,
        )?;
        let services = Services::of_book(book.clone(), settings.service_api_key);
        let wanted = Wanted {
            static_claims: settings.static_claims,
            feed: settings.feed,
            registrar: settings.registrar,
            usage: settings.usage,
        };
        let Uplink { claims, open, registrar, feed, usage, reporter } =
            Uplink::assemble(ground, wanted, &services, identity.as_ref(), &clock, &metrics)?;
        let over = watch::Sender::new(false);
        let attending =
            Arc::clone(&claims).attend(clock.clone(), Arc::clone(&metrics), over.subscribe()).boxed();
        let ready = readiness(&claims, &clock);
        let routes = Routes::default();
        runtime.block_on(routes.replace(book.live()))?;
        let apply = apply(&book, &routes, &services);
        let replay = Arc::new(MemoryStore::new(settings.replay, clock.now(), random()?));
        let reload = reload(file, running, book.clone(), Arc::clone(&apply));
        let bridge = Bridge::open(BridgeConfig {
            data_dir: settings.data_dir.clone(),
            identity: identity.clone(),
            gateway_id: gateway_id.clone(),
            sealing_key: book.sealing_public(),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
        });
        let handles = admin::Handles {
            pairing: Some(Arc::new(bridge.clone())),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            ready: Arc::clone(&ready),
            gateway_id,
            started: clock.now(),
            vault,
            vault_directory: settings.vault.as_ref().map(|vault| vault.directory().to_owned()),
            claims: Arc::clone(&claims),
            replay: Arc::clone(&replay),
            reload: Arc::clone(&reload),
            apply,
            book,
        };
        let admin = runtime.block_on(Admin::new(&settings.admin, handles)?.bind())?;
        let handles = gateway::Handles {
            claims,
            open,
            registrar,
            replay,
            usage,
            metrics: Arc::clone(&metrics),
            decisions: Arc::new(decision_log(
                &settings.data_dir,
                settings.log_identities_plain,
                settings.log_proxy_requests,
            )?),
            ready,
            admin: settings.admin.on_data_port.then(|| admin_door(admin.admin(), runtime)),
            clock,
        };
        let bound = gateway::bind(settings.gateway, routes, handles)?;
        let bridging = bridge.run(admin.admin(), ground.stopped()).boxed();
        let beside = vec![attending, bridging, on_hangup(reload, metrics).boxed()];
        Ok(Self { bound, admin, feed, reporter, over, beside })
    }

    /// Serves until everything is told to stop, and returns when what ran has ended. `begun` is called once the first
    /// request can be served; its fault stops the gateway. SIGHUP reads the configuration again.
    pub(super) fn run(
        self,
        ground: &Ground,
        begun: impl FnOnce(&Addresses) -> Result<(), Failure>,
    ) -> Result<Exit, Failure> {
        let addresses = Addresses {
            gateway: self.bound.addresses().iter().map(|(address, tls)| origin(*address, *tls)).collect(),
            admin: self.admin.local_addr(),
        };
        let runtime = ground.runtime();
        runtime.spawn(self.admin.serve(ground.stopped()));
        for service in self.beside {
            runtime.spawn(service);
        }
        if let Some(feed) = self.feed {
            runtime.spawn(feed.run(self.over.subscribe()));
        }
        let reporting = self.reporter.map(|reporter| runtime.spawn(reporter.run(self.over.subscribe())));
        let (serving, told) = mpsc::channel();
        let (bound, shutdown) = (self.bound, ground.stopped());
        let data_plane = std::thread::spawn(move || {
            bound.serve(shutdown, move || {
                let _ = serving.send(());
            })
        });
        let shown = if told.recv().is_ok() { begun(&addresses) } else { Ok(()) };
        if shown.is_err() {
            ground.stop();
        }
        data_plane.join().map_err(|_| anyhow::anyhow!("the data plane panicked"))?;
        self.over.send_replace(true);
        if let Some(reporting) = reporting {
            let _ = runtime.block_on(reporting);
        }
        ground.stop();
        shown.map(|()| Exit::Done)
    }
}

fn origin(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

/// The connections, and the gateway's id: its identity's, else that of its sealing key, which no other gateway has.
fn book(
    configured: Vec<Connection>,
    catalog: Option<&Path>,
    vault: Option<Vault>,
    identity: Option<&Identity>,
    clock: &Clock,
) -> Result<(Book, String), Failure> {
    let mut book = Book::open(configured, vault, clock.clone())?;
    if let Some(path) = catalog {
        let named = || format!("the service catalog {}", path.display());
        let json = fs::read(path).with_context(named)?;
        book = book.with_catalog(Catalog::from_json(&json).with_context(named)?);
    }
    let id = match identity {
        Some(identity) => Did::of(identity.namespace()).to_string(),
        None => book.sealing_public().map_or_else(|| "local".to_owned(), |key| key.id()),
    };
    Ok((book.of_gateway(&id), id))
}

/// Puts the book's connections into the data plane's service, and has their claims asked for. One call at a time, so that
/// none puts back what an earlier one saw.
fn apply(book: &Book, routes: &Routes, services: &Services) -> admin::Apply {
    let (book, routes, services) = (book.clone(), routes.clone(), services.clone());
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    Arc::new(move || {
        let (book, routes, turn) = (book.clone(), routes.clone(), Arc::clone(&turn));
        let services = services.clone();
        Box::pin(async move {
            let _turn = turn.lock().await;
            services.changed();
            routes.replace(book.live()).await.map_err(|fault| fault.to_string())
        })
    })
}

fn readiness(claims: &Arc<ClaimsIndex>, clock: &Clock) -> admin::Ready {
    let (claims, clock) = (Arc::clone(claims), clock.clone());
    Arc::new(move || if claims.state(clock.now()).ready { Ok(()) } else { Err("the approved claims") })
}

fn admin_door(admin: Arc<Admin>, runtime: &Runtime) -> AdminDoor {
    let runtime = runtime.handle().clone();
    Arc::new(move |request, client| {
        let admin = Arc::clone(&admin);
        let answered = runtime.spawn(async move {
            let request = request.map(|body: Bytes| axum::body::Body::from(body));
            let (parts, body) = admin.answer(request, client).await.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            http::Response::from_parts(parts, body)
        });
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| {
                let mut failed = http::Response::new(Bytes::new());
                *failed.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                failed
            })
        })
    })
}

/// The gateway's own identity, made where a namespace is named that has none yet. Where none is named it is the one that
/// the gateway was paired with, else, where one is needed, the only one that there is.
fn gateway_identity(settings: &Settings, clock: &Clock) -> Result<Option<Arc<Identity>>, Failure> {
    let home = Home::locate(settings.identity.home.as_deref(), &crate::config::process_environment)?;
    let known = home.namespaces()?;
    let paired = || Bridge::signer_in(&settings.data_dir).filter(|namespace| known.contains(namespace));
    let identity = match &settings.identity.namespace.clone().or_else(paired) {
        Some(namespace) if known.contains(namespace) => Some(home.load(namespace)?),
        Some(namespace) => Some(home.create(namespace, clock, false)?),
        None if settings.feed.is_some() || settings.registrar.is_some() || settings.usage.is_some() => {
            Some(home.choose(None)?)
        }
        None => None,
    };
    Ok(identity.map(Arc::new))
}

fn decision_log(data_dir: &Path, plain: bool, allowed_too: bool) -> Result<DecisionLog, Failure> {
    let identities =
        if plain { Identities::Plain } else { Identities::Fingerprint(fingerprint_key(data_dir)?) };
    Ok(DecisionLog::new(identities, allowed_too))
}

/// The key of the log's fingerprints: made at the first start, so that they are the same after the next.
fn fingerprint_key(data_dir: &Path) -> Result<[u8; 16], Failure> {
    let path = data_dir.join("log-fingerprint.key");
    let unusable = || format!("{} must hold 16 bytes; remove it to have a new one made", path.display());
    match fs::read(&path) {
        Ok(bytes) => Ok(<[u8; 16]>::try_from(bytes.as_slice()).map_err(|_| anyhow::anyhow!(unusable()))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = random()?;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(data_dir)
                .with_context(|| format!("the data directory {} cannot be made", data_dir.display()))?;
            let mut options = fs::OpenOptions::new();
            let made = options.write(true).create_new(true).mode(0o600).open(&path);
            made.and_then(|mut file| file.write_all(&key))
                .with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(anyhow::Error::new(error).context(path.display().to_string()).into()),
    }
}

/// Fresh random bytes.
pub(super) fn random() -> Result<[u8; 16], Failure> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(bytes)
}
