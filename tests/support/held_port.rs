//! A port of the loopback that is a test's own while nobody listens on it.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Connections to it are refused until somebody listens on it, which only who knows its number does: the system gives
/// it to nobody, neither to listen on nor to connect from. So a server can go away and come back at the same address.
pub struct HeldPort {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl HeldPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // With it on both sides, a listener may take the port beside a socket that does not listen.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { _socket: socket, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}
