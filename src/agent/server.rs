//! The agent's listener: bounded, loopback unless told otherwise, and stopped without cutting what runs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::admission::Admission;
use super::proxy::Proxy;
use super::{ClientFault, Signer, Target, client};
use crate::clock::Clock;

/// The largest body that is read and signed, unless told otherwise: 32 MiB.
pub const DEFAULT_MAX_BODY_BYTES: usize = 32 * 1024 * 1024;

/// Client connections at once; further ones wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// Requests at once, over all connections.
const REQUESTS: usize = 256;
/// How many bodies of the largest size are held in memory at once, over all requests.
const BODIES_IN_MEMORY: usize = 8;
const STREAMS_PER_CONNECTION: u32 = 64;
/// For a connection's first byte, and for a whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What still runs after a signal to stop has this long.
const DRAIN: Duration = Duration::from_secs(10);
/// After an accept that failed, as when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How an agent runs.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where requests go.
    pub target: Target,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// Whether the client's `Authorization` goes on; client libraries send a dummy there.
    pub keep_authorization: bool,
    /// Whether it may listen on another address than a loopback one.
    pub allow_remote: bool,
    /// Further names by which clients may call it, with `allow_remote`.
    pub hosts: Vec<String>,
    /// CAs to trust for the gateway in place of the system's, in PEM form.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentFault {
    /// The address is reachable from elsewhere, and nobody said that it may be.
    #[error(
        "{0} can be reached from other machines, and the agent signs for whoever reaches it; listen on 127.0.0.1, or say --allow-remote"
    )]
    Remote(SocketAddr),
    /// The address cannot be listened on.
    #[error("the agent cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// There is no client for the gateway.
    #[error(transparent)]
    Client(#[from] ClientFault),
}

/// An agent that listens.
pub struct Agent {
    listener: TcpListener,
    address: SocketAddr,
    proxy: Arc<Proxy>,
}

impl Agent {
    /// Listens. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When it may not or cannot listen there, or cannot speak to the gateway.
    pub async fn bind(config: AgentConfig, signer: Signer, clock: Clock) -> Result<Self, AgentFault> {
        let wanted = config.listen;
        if !wanted.ip().is_loopback() && !config.allow_remote {
            return Err(AgentFault::Remote(wanted));
        }
        let gateway = config.target.gateway();
        let in_memory = config.max_body_bytes.saturating_mul(BODIES_IN_MEMORY);
        let proxy = Proxy {
            signer,
            admission: Admission { any_address: config.allow_remote, hosts: config.hosts },
            client: client(gateway, config.ca_pem.as_deref(), false)?,
            upgrading: client(gateway, config.ca_pem.as_deref(), true)?,
            max_body_bytes: config.max_body_bytes,
            keep_authorization: config.keep_authorization,
            under_way: Arc::new(Semaphore::new(REQUESTS)),
            in_memory: Semaphore::new(in_memory.min(Semaphore::MAX_PERMITS)),
            clock,
            target: config.target,
        };
        let fault = |cause| AgentFault::Listen { address: wanted, cause };
        let listener = TcpListener::bind(wanted).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address, proxy: Arc::new(proxy) })
    }

    /// Where it listens; the real port where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is done; then finishes what runs, for 10 s at the most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let (stopping, stopped) = watch::channel(false);
        let mut stop = pin!(stop);
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, self.listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => break,
                (slot, stream) = accepted => match stream {
                    Ok((stream, _)) => {
                        let serve = serve(stream, Arc::clone(&self.proxy), stopped.clone());
                        tokio::spawn(async move {
                            let _held = slot;
                            serve.await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        stopping.send_replace(true);
        let under_way = &self.proxy.under_way;
        let finished = async {
            let _connections = slots.acquire_many(u32::try_from(CONNECTIONS).unwrap_or(u32::MAX)).await;
            let _websockets = under_way.acquire_many(u32::try_from(REQUESTS).unwrap_or(u32::MAX)).await;
        };
        if tokio::time::timeout(DRAIN, finished).await.is_err() {
            tracing::warn!("requests that were still running have been cut");
        }
    }
}

/// Serves one connection, HTTP/1.1 or HTTP/2 without TLS, until it ends or the agent stops.
async fn serve(stream: TcpStream, proxy: Arc<Proxy>, mut stopped: watch::Receiver<bool>) {
    let mut first = [0; 1];
    // Which version is spoken shows in the first bytes, and hyper sets no time for these.
    let begun = tokio::select! {
        begun = tokio::time::timeout(HEAD_TIMEOUT, stream.peek(&mut first)) => matches!(begun, Ok(Ok(1))),
        _ = stopped.wait_for(|stopped| *stopped) => false,
    };
    if !begun {
        return;
    }
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_PER_CONNECTION);
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.answer(request).await) }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a client's connection ended early");
                }
                return;
            }
            _ = stopped.wait_for(|stopped| *stopped), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
