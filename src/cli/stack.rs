//! The running gateway, put together from its settings: the one place that knows all of its parts.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::harden::keep_memory_private;
use super::reload::{Running, reload};
use super::{Exit, Failure, Io, Report};
use crate::admin::{self, Admin};
use crate::claims::{ClaimsIndex, Feed, Registrar, Services};
use crate::clock::Clock;
use crate::config::Settings;
use crate::connections::{Book, Catalog, Connection};
use crate::gateway::{self, AdminDoor, OpenExchanges, Routes};
use crate::identity::Home;
use crate::protocol::Identity;
use crate::protocol::did::Did;
use crate::replay::MemoryStore;
use crate::telemetry::{DecisionLog, Identities, LogGuard, Metrics, start_logging};
use crate::usage::{self, Reporter};
use crate::vault::Vault;

/// A gateway that is put together, its addresses taken, and that does not serve yet.
pub(super) struct Stack {
    bound: gateway::Bound,
    admin: admin::Bound,
    feed: Option<Feed>,
    reporter: Option<Reporter>,
    /// What is to run beside the two planes, until the stack stops.
    attending: BoxFuture<'static, ()>,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// Last, so that it flushes what the others logged.
    _log: LogGuard,
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
    pub(super) fn assemble(settings: Settings, file: Option<&Path>) -> Result<Self, Failure> {
        let log = start_logging(&settings.log);
        keep_memory_private();
        for warning in &settings.warnings {
            tracing::warn!("{warning}");
        }
        let clock = Clock::system();
        let metrics = Arc::new(Metrics::new());
        metrics.watch_log(log.dropped());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("services")
            .enable_all()
            .build()?;
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
        let staleness = settings.feed.as_ref().map(|feed| feed.max_staleness);
        let service_api_key = settings.feed.as_ref().map(|feed| feed.service_api_key.clone());
        let service_api_key = service_api_key
            .or_else(|| settings.registrar.as_ref().map(|config| config.service_api_key.clone()))
            .or_else(|| settings.usage.as_ref().map(|config| config.service_api_key.clone()));
        let services = Services::of_book(book.clone(), service_api_key.flatten());
        let identity_of = || {
            identity.clone().context("control_plane needs identity.namespace: the gateway signs its calls")
        };
        let registrar = match settings.registrar {
            Some(config) => Some(Arc::new(Registrar::new(
                config,
                services.clone(),
                identity_of()?,
                clock.clone(),
                runtime.handle().clone(),
            )?)),
            None => None,
        };
        let open = OpenExchanges::new();
        let withdraw = open.clone();
        let mut claims = ClaimsIndex::new(settings.static_claims, staleness)
            .on_withdrawn(move |claim| withdraw.withdrawn(claim));
        if let Some(registrar) = registrar.clone() {
            claims = claims.on_withdrawn(move |claim| registrar.forget(claim));
        }
        let claims = Arc::new(claims);
        let feed = match settings.feed {
            Some(config) => Some(Feed::new(
                config,
                services.clone(),
                Arc::clone(&claims),
                identity_of()?,
                clock.clone(),
                Arc::clone(&metrics),
            )?),
            None => None,
        };
        let (usage, reporter) = match settings.usage {
            Some(config) => {
                let (clock, metrics) = (clock.clone(), Arc::clone(&metrics));
                usage::open(config, services.clone(), identity_of()?, clock, metrics)
                    .map(|(usage, reporter)| (Some(usage), Some(reporter)))?
            }
            None => (None, None),
        };
        let stop = watch::Sender::new(false);
        let attending =
            Arc::clone(&claims).attend(clock.clone(), Arc::clone(&metrics), stop.subscribe()).boxed();
        let ready = readiness(&claims, &clock);
        let routes = Routes::default();
        runtime.block_on(routes.replace(book.live()))?;
        let apply = apply(&book, &routes, &services);
        let replay = Arc::new(MemoryStore::new(settings.replay, clock.now(), random()?));
        let handles = admin::Handles {
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            ready: Arc::clone(&ready),
            gateway_id,
            started: clock.now(),
            vault,
            vault_directory: settings.vault.as_ref().map(|vault| vault.directory().to_owned()),
            claims: Arc::clone(&claims),
            replay: Arc::clone(&replay),
            reload: reload(file.map(Path::to_owned), running, book.clone(), Arc::clone(&apply)),
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
            metrics,
            decisions: Arc::new(decision_log(
                &settings.data_dir,
                settings.log_identities_plain,
                settings.log_proxy_requests,
            )?),
            ready,
            admin: settings.admin.on_data_port.then(|| admin_door(admin.admin(), &runtime)),
            clock,
        };
        let bound = gateway::bind(settings.gateway, routes, handles)?;
        Ok(Self { bound, admin, feed, reporter, attending, runtime, stop, _log: log })
    }

    /// Serves until a signal to stop; prints where, and then what `also` prints.
    pub(super) fn run(
        self,
        io: &mut Io<'_>,
        json: bool,
        also: impl FnOnce(&mut Io<'_>, &Addresses) -> Result<(), Failure>,
    ) -> Result<Exit, Failure> {
        let addresses = Addresses {
            gateway: self.bound.addresses().iter().map(|(address, tls)| origin(*address, *tls)).collect(),
            admin: self.admin.local_addr(),
        };
        let stop = self.stop.clone();
        self.runtime.spawn(stop_on_signal(stop));
        self.runtime.spawn(self.admin.serve(self.stop.subscribe()));
        self.runtime.spawn(self.attending);
        if let Some(feed) = self.feed {
            self.runtime.spawn(feed.run(self.stop.subscribe()));
        }
        let over = watch::Sender::new(false);
        let reporting = self.reporter.map(|reporter| self.runtime.spawn(reporter.run(over.subscribe())));
        let (serving, begun) = mpsc::channel();
        let (bound, shutdown) = (self.bound, self.stop.subscribe());
        let data_plane = std::thread::spawn(move || {
            bound.serve(shutdown, move || {
                let _ = serving.send(());
            })
        });
        if begun.recv().is_ok() {
            announce(io, json, &addresses)?;
            also(io, &addresses)?;
            io.out.flush()?;
        }
        data_plane.join().map_err(|_| anyhow::anyhow!("the data plane panicked"))?;
        // Only now: until here requests were recorded.
        over.send_replace(true);
        if let Some(reporting) = reporting {
            let _ = self.runtime.block_on(reporting);
        }
        self.stop.send_replace(true);
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(Exit::Done)
    }
}

fn announce(io: &mut Io<'_>, json: bool, addresses: &Addresses) -> Result<(), Failure> {
    let admin = format!("http://{}", addresses.admin);
    if json {
        let report = Report::new("").field("gateway", addresses.gateway.clone()).field("admin", admin);
        report.write(&mut io.out, true)?;
        return Ok(());
    }
    for origin in &addresses.gateway {
        writeln!(io.out, "[ok] Gateway listening on {origin}")?;
    }
    writeln!(io.out, "[ok] Admin listening on {admin}")?;
    Ok(())
}

fn origin(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

async fn stop_on_signal(stop: watch::Sender<bool>) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be waited for; only SIGKILL stops this process");
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.send_replace(true);
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

/// The gateway's own identity, made where a namespace is named that has none yet. Without a namespace there is one
/// only where exactly one exists.
fn gateway_identity(settings: &Settings, clock: &Clock) -> Result<Option<Arc<Identity>>, Failure> {
    let home = Home::locate(settings.identity.home.as_deref(), &crate::config::process_environment)?;
    let identity = match &settings.identity.namespace {
        Some(namespace) if home.namespaces()?.contains(namespace) => Some(home.load(namespace)?),
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
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&key)?;
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
