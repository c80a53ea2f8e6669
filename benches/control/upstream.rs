//! The upstream of the gateways: it answers every request with the same few bytes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// Serves from a thread for each connection, until the process ends.
pub fn start() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("upstream: {error}"))?;
    let address = listener.local_addr().map_err(|error| format!("upstream: {error}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// GETs alone come here, one after the other: a request ends where its head does.
fn serve(mut stream: TcpStream) {
    let (mut bytes, mut filled) = ([0; 16 * 1024], 0);
    let _ = stream.set_nodelay(true);
    while let Ok(count) = stream.read(&mut bytes[filled..]) {
        filled += count;
        if bytes[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        } else if count == 0 {
            return;
        }
    }
}
