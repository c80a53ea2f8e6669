//! The systems under load.

use std::net::SocketAddr;

use super::process::Process;

/// A system under load.
pub struct System {
    pub name: String,
    pub address: SocketAddr,
    pub process: Process,
    /// The upstream itself.
    pub direct: bool,
    /// It refuses a request that it has seen.
    pub verifies: bool,
}

impl System {
    pub fn read(kind: &str, text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('=')?;
        let (address, pid) = rest.split_once('@')?;
        Some(Self {
            name: name.to_owned(),
            address: address.parse().ok()?,
            process: Process(pid.parse().ok()?),
            direct: kind == "--direct",
            verifies: kind == "--gateway",
        })
    }
}
