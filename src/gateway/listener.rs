//! The listeners: bound before anything runs, so that a fault is a sentence; accepting until told to stop; then
//! waiting for what runs, and no longer.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{GetSocketDigest as _, SocketDigest, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer;
use super::door::Door;
use super::plane::Gateway;
use super::refusal::Refusal;
use super::settings::ListenerConfig;
use super::tls::{self, TlsFault};

/// Accepting fails when no descriptor is left: others must come back first.
const PAUSE_AFTER_FAULT: Duration = Duration::from_millis(100);

/// A bound listener.
pub(super) struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Acceptor>>,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenFault {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {error}; is another gateway running there?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Its TLS cannot be set up.
    #[error("listener {address}: {fault}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        fault: TlsFault,
    },
}

impl Listener {
    pub(super) fn bind(config: &ListenerConfig) -> Result<Self, ListenFault> {
        let address = config.address;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose();
        let tls = tls.map_err(|fault| ListenFault::Tls { address, fault })?.map(Arc::new);
        let bound = std::net::TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        });
        let (socket, address) = bound.map_err(|error| ListenFault::Bind { address, error })?;
        Ok(Self { socket, address, tls })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Accepts until `shutdown`. Each connection runs on one of the proxy's threads, and holds a place while it lasts.
    pub(super) async fn run(
        self,
        gateway: Gateway,
        door: Arc<Door>,
        places: Arc<Semaphore>,
        mut shutdown: ShutdownWatch,
    ) -> io::Result<()> {
        let socket = TcpListener::from_std(self.socket)?;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                accepted = socket.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a client's connection could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_FAULT).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let answer = (self.tls.is_none())
                    .then(|| answer::raw(&Refusal::Overloaded, &gateway, Some(client.ip())));
                pingora_runtime::current_handle().spawn(turn_away(stream, answer));
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (door, tls) = (Arc::clone(&door), self.tls.clone());
            let handshake_within = gateway.config().limits.header_timeout;
            pingora_runtime::current_handle().spawn(connection(stream, tls, handshake_within, door, place));
        }
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    tls: Option<Arc<Acceptor>>,
    handshake_within: Duration,
    door: Arc<Door>,
    _place: OwnedSemaphorePermit,
) {
    let stream = with_addresses(stream);
    let stream: Stream = match tls {
        None => Box::new(stream),
        Some(acceptor) => {
            match tokio::time::timeout(handshake_within, acceptor.tls_handshake(stream)).await {
                Ok(Ok(stream)) => Box::new(stream),
                // A client that speaks no TLS with us cannot be answered.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    door.serve(stream).await;
}

/// Pingora's stream, which knows both ends of the connection.
fn with_addresses(stream: tokio::net::TcpStream) -> TcpStream {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    let mut stream = TcpStream::from(stream);
    stream.set_socket_digest(digest);
    stream
}

/// Says that there is no room, and hangs up. Over TLS there is no room to say it either.
async fn turn_away(mut stream: tokio::net::TcpStream, answer: Option<Vec<u8>>) {
    if let Some(answer) = answer {
        let say = async {
            stream.write_all(&answer).await?;
            stream.shutdown().await
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), say).await;
    }
}
