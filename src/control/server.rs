//! The control plane at its address: the API, and what runs beside it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::plane::{ControlFault, ControlPlane};
use super::{api, tasks};

/// A control plane whose address is taken, and that does not serve yet.
#[derive(Debug)]
pub struct Bound {
    plane: Arc<ControlPlane>,
    listener: std::net::TcpListener,
}

impl ControlPlane {
    /// Takes the configured address.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub fn bind(self: Arc<Self>) -> Result<Bound, ControlFault> {
        let address = self.config.listen;
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|cause| ControlFault::Bind { address, cause })?;
        Ok(Bound { plane: self, listener })
    }
}

impl Bound {
    /// The parts.
    #[must_use]
    pub fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    /// The address that was taken.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves the API and runs the tasks until `shutdown` holds `true`; then waits for what runs, `drain` at most.
    pub async fn serve(self, mut shutdown: watch::Receiver<bool>) {
        let Self { plane, listener } = self;
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(cause) => {
                tracing::error!(%cause, "the control plane's listener cannot be served");
                return;
            }
        };
        // Signatures of the second in which the process began are refused; whoever connects meanwhile waits.
        tokio::select! {
            () = tokio::time::sleep(plane.nonces.wait(plane.clock.now())) => {}
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
        let beside = tokio::spawn(tasks::run(Arc::clone(&plane), plane.stopping()));
        let stop = async {
            let _ = shutdown.clone().wait_for(|stop| *stop).await;
            plane.stopping.send_replace(true);
        };
        tokio::join!(stop, api::serve(&plane, listener, shutdown.clone()));
        let cut = beside.abort_handle();
        if tokio::time::timeout(plane.config.drain, beside).await.is_err() {
            cut.abort();
        }
    }
}
