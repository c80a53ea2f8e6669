//! A tap on the line between a gateway and its control plane: it passes everything on, keeps what was said on the
//! WebSocket, and can cut the line.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The tap, gone with its lines when dropped.
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Shared {
    said: Mutex<String>,
    lines: Mutex<Vec<AbortHandle>>,
}

impl Tap {
    /// In front of the control plane at `to`.
    pub fn before(to: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let of_lines = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let line = tokio::spawn(line(client, to, Arc::clone(&of_lines)));
                of_lines.lines.lock().unwrap().push(line.abort_handle());
            }
        });
        Self { address, shared, _runtime: runtime }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All heads and messages, both ways.
    pub fn said(&self) -> String {
        self.shared.said.lock().unwrap().clone()
    }

    /// Cuts every line that is open.
    pub fn cut(&self) {
        self.shared.lines.lock().unwrap().drain(..).for_each(|line| line.abort());
    }
}

impl Shared {
    fn keep(&self, text: &str) {
        let mut said = self.said.lock().unwrap();
        said.push_str(text);
        said.push('\n');
    }
}

async fn line(mut client: TcpStream, to: SocketAddr, shared: Arc<Shared>) {
    let mut server = TcpStream::connect(to).await.unwrap();
    let head = head(&mut client).await;
    server.write_all(&head).await.unwrap();
    shared.keep(&String::from_utf8_lossy(&head));
    let answer = self::head(&mut server).await;
    client.write_all(&answer).await.unwrap();
    if !answer.starts_with(b"HTTP/1.1 101") {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    }
    let near = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
    let far = WebSocketStream::from_raw_socket(server, Role::Client, None).await;
    let ((mut to_gateway, from_gateway), (mut to_plane, from_plane)) = (near.split(), far.split());
    let keep = |message: tokio_tungstenite::tungstenite::Result<_>| {
        let message: tokio_tungstenite::tungstenite::Message = message?;
        shared.keep(message.to_text().unwrap_or_default());
        Ok(message)
    };
    let mut up = from_gateway.map(keep);
    let mut down = from_plane.map(keep);
    tokio::select! {
        _ = to_plane.send_all(&mut up) => {}
        _ = to_gateway.send_all(&mut down) => {}
    }
}

async fn head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    head
}
