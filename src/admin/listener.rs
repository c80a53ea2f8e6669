//! The sidecar's listener: bounded in connections and time, and drained when it stops.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Admin;

/// Connections at once. Further ones wait in the system's queue.
const CONNECTIONS: usize = 256;
/// A request's head, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// After an error of accept, such as no descriptor left, the next try comes this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The sidecar with its listener: whoever connects now is answered as soon as [`Bound::serve`] runs.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    admin: Arc<Admin>,
}

impl Bound {
    pub(super) async fn take(admin: Admin, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, admin: Arc::new(admin) })
    }

    /// The address taken: with port 0 configured, the one that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The sidecar behind it, to answer requests that came another way.
    #[must_use]
    pub fn admin(&self) -> Arc<Admin> {
        Arc::clone(&self.admin)
    }

    /// Serves until `shutdown` holds `true` or its sender is gone. Then it accepts no more, and returns when the
    /// requests that run are answered, at the latest after the time that one admin request may take.
    pub async fn serve(self, mut shutdown: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &slots) => accepted,
                _ = shutdown.wait_for(|stop| *stop) => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer, slot)) => {
                    let served = connection(Arc::clone(&self.admin), stream, peer.ip(), shutdown.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(cause) => {
                    tracing::warn!(%cause, "the admin listener cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

/// Serves one connection. What goes wrong on it is the client's affair: it is closed.
async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: IpAddr, mut shutdown: watch::Receiver<bool>) {
    let timeout = admin.timeout();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(request.map(Body::new), peer).await) }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeout)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = served.as_mut() => return,
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(timeout, served).await;
}
