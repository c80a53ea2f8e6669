//! The control plane in this process, alone or beside a gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Failure;
use super::ground::Ground;
use super::local_plane::{database_file, of_database};
use crate::clock::Clock;
use crate::control::{Bound, ControlConfig, ControlPlane};

/// A control plane whose database is open and whose address is taken, and that does not serve yet.
pub(super) struct Plane {
    bound: Bound,
    address: SocketAddr,
}

/// A control plane that serves.
pub(super) struct ServingPlane {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Plane {
    /// Opens the database and takes the address.
    pub(super) fn assemble(ground: &Ground, config: ControlConfig) -> Result<Self, Failure> {
        let runtime = ground.runtime();
        let file = database_file(&config.database).map(Path::to_owned);
        let opened = runtime.block_on(ControlPlane::open(config, Clock::system()));
        let plane = opened.map_err(|fault| of_database(fault.into(), file.as_deref()))?;
        let _entered = runtime.enter();
        let bound = plane.bind()?;
        let address = bound.local_addr()?;
        Ok(Self { bound, address })
    }

    /// Its parts.
    pub(super) fn parts(&self) -> &Arc<ControlPlane> {
        self.bound.plane()
    }

    /// Where this machine reaches it.
    pub(super) fn origin(&self) -> String {
        local_origin(self.address)
    }

    /// Serves on the ground's threads until [`ServingPlane::stop`]. Should it end before, everything is told to stop.
    pub(super) fn serve(self, ground: &Ground) -> ServingPlane {
        let stop = watch::Sender::new(false);
        let shutdown = stop.subscribe();
        let everything = ground.stopper();
        let task = ground.runtime().spawn(async move {
            let served = tokio::spawn(self.bound.serve(shutdown));
            if served.await.is_err() {
                tracing::error!("the control plane panicked");
            }
            everything.send_replace(true);
        });
        ServingPlane { stop, task }
    }
}

impl ServingPlane {
    /// Lets what runs end, and returns when it has.
    pub(super) fn stop(self, ground: &Ground) {
        self.stop.send_replace(true);
        let _ = ground.runtime().block_on(self.task);
    }
}

/// The origin under which this machine reaches what listens on `address`.
pub(super) fn local_origin(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_over_loopback() {
        for (address, origin) in [
            ("0.0.0.0:8787", "http://127.0.0.1:8787"),
            ("[::]:8787", "http://[::1]:8787"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
        ] {
            assert_eq!(local_origin(address.parse().unwrap()), origin);
        }
    }
}
