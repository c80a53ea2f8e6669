//! Start and stop of the data plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use pingora_runtime::Runtime;
use tokio::sync::Semaphore;

use super::descriptors;
use super::door::Door;
use super::handles::Handles;
use super::listener::{ListenFault, Listener};
use super::plane::Gateway;
use super::routes::Routes;
use super::settings::GatewayConfig;

/// How often secret files are looked at for a change.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// How often claims are looked for whose end has come.
const LOOK_FOR_ENDS_EVERY: Duration = Duration::from_millis(100);
/// The least time between two looks at all that is open.
const BETWEEN_REVIEWS: Duration = Duration::from_millis(10);
/// Pingora asks for a retry at the most so often; each connection's own limit is lower.
const ATTEMPTS_MAX: usize = 16;
/// Kept upstream connections at the most.
const POOL: usize = 1024;

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartFault {
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenFault),
}

/// A data plane whose listeners are bound, and which does not serve yet.
pub struct Bound {
    gateway: Gateway,
    listeners: Vec<Listener>,
}

/// Opens the listeners. What is in `routes` is served, now and after each change of it.
///
/// # Errors
/// When a listener cannot be opened.
pub fn bind(config: GatewayConfig, routes: Routes, handles: Handles) -> Result<Bound, StartFault> {
    let listeners = config.listeners.iter().map(Listener::bind).collect::<Result<_, _>>()?;
    Ok(Bound { gateway: Gateway::new(config, handles, routes), listeners })
}

impl Bound {
    /// The addresses that are listened on, and whether TLS is spoken there.
    #[must_use]
    pub fn addresses(&self) -> Vec<(SocketAddr, bool)> {
        self.listeners.iter().map(|listener| (listener.address(), listener.is_tls())).collect()
    }

    /// Serves until `shutdown` becomes true, then lets what runs end, at the most for the configured time.
    /// `begun` is called when the first request can be served. Blocks the calling thread, which must not be one of an
    /// async runtime.
    pub fn serve(self, shutdown: ShutdownWatch, begun: impl FnOnce() + Send + 'static) {
        let threads = self.gateway.config().threads.unwrap_or_else(cores).max(1);
        let runtime = Runtime::new_no_steal(threads, "gateway");
        let handle = runtime.get_handle().clone();
        let served = handle.spawn(self.run(threads, shutdown, begun));
        let _ = futures::executor::block_on(served);
        runtime.shutdown_timeout(Duration::from_millis(100));
    }

    async fn run(self, threads: usize, shutdown: ShutdownWatch, begun: impl FnOnce() + Send) {
        let Self { gateway, listeners } = self;
        pingora_runtime::current_handle().spawn(refresh_secrets(gateway.clone(), shutdown.clone()));
        pingora_runtime::current_handle().spawn(tell_claims_age(gateway.clone(), shutdown.clone()));
        pingora_runtime::current_handle().spawn(end_withdrawn(gateway.clone()));
        await_first_second(&gateway).await;
        begun();

        let places = descriptors::places(gateway.config().limits.connections);
        let free = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let door = Arc::new(door(&gateway, threads, places, shutdown.clone()));
        let accepting = listeners.into_iter().map(|listener| {
            listener.run(gateway.clone(), Arc::clone(&door), Arc::clone(&free), shutdown.clone())
        });
        for ended in join_all(accepting).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended");
            }
        }
        drain(&gateway, &free, places).await;
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Signatures of seconds before this one are refused, since an earlier process may have seen them; so nobody is
/// served before it either.
async fn await_first_second(gateway: &Gateway) {
    let wait = gateway.replay().not_before().since(gateway.clock().now());
    tokio::time::sleep(wait.min(Duration::from_secs(1))).await;
}

fn door(gateway: &Gateway, threads: usize, places: usize, shutdown: ShutdownWatch) -> Door {
    let conf = ServerConf {
        threads,
        max_retries: ATTEMPTS_MAX,
        upstream_keepalive_pool_size: POOL.min(places),
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(gateway.clone(), Arc::new(conf));
    let mut options = pingora_core::apps::HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(Duration::from_secs(60));
    proxy.server_options = Some(options);
    proxy.h2_options = Some(h2_options(gateway));
    proxy.handle_init_modules();
    Door::new(Arc::new(proxy), gateway.clone(), gateway.config().limits, shutdown)
}

fn h2_options(gateway: &Gateway) -> pingora_core::protocols::http::v2::server::H2Options {
    let mut options = pingora_core::protocols::http::v2::server::default_h2_options();
    let head = u32::try_from(gateway.config().limits.header_bytes).unwrap_or(u32::MAX);
    options.max_header_list_size(head);
    options
}

async fn refresh_secrets(gateway: Gateway, mut shutdown: ShutdownWatch) {
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(REFRESH_EVERY) => {}
        }
        let gateway = gateway.clone();
        // Files are read off the proxy's threads.
        let read = tokio::task::spawn_blocking(move || {
            for provider in gateway.routes().all() {
                if provider.refresh() {
                    let id = &provider.config().id;
                    match provider.credential() {
                        Ok(_) => tracing::info!(connection = %id, "the secret was read anew"),
                        Err(unreadable) => tracing::debug!(connection = %id, "{unreadable}"),
                    }
                }
            }
        });
        let _ = read.await;
    }
}

async fn tell_claims_age(gateway: Gateway, mut shutdown: ShutdownWatch) {
    loop {
        let state = gateway.claims().state(gateway.clock().now());
        // Without a feed there is nothing that could be old.
        let age = state.age.or(state.ready.then_some(Duration::ZERO));
        gateway.metrics().claims(age, state.entries);
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Ends what runs under claims that were withdrawn, or whose end has come; while the gateway drains too.
async fn end_withdrawn(gateway: Gateway) {
    let open = gateway.open_exchanges();
    loop {
        // An error says that the time is over.
        let _ = tokio::time::timeout(LOOK_FOR_ENDS_EVERY, open.told()).await;
        let now = gateway.clock().now();
        open.review(now, |claim| gateway.standing(claim, now));
        // Withdrawals that come one by one are looked for together.
        tokio::time::sleep(BETWEEN_REVIEWS).await;
    }
}

/// Waits until every connection has ended, at the most for the configured time.
async fn drain(gateway: &Gateway, free: &Semaphore, places: usize) {
    let all = u32::try_from(places).unwrap_or(u32::MAX);
    let ended = tokio::time::timeout(gateway.config().drain, free.acquire_many(all)).await.is_ok();
    gateway.metrics().drained(ended);
}
