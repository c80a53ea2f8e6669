//! A client that sends exactly the bytes it is given, and reads answers strictly.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::PATIENCE;
use super::http1::{self, End, Head, Reader, Stream};

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to the end that its framing promised.
    pub complete: bool,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        http1::all(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("the body of {} is not JSON ({error}): {}", self.status, self.text())
        })
    }

    /// `code` of the error envelope.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// `reason` of the error envelope; empty where there is none.
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// One connection to a server under test.
pub struct RawClient {
    stream: Box<dyn Stream>,
    wire: TcpStream,
    reader: Reader,
}

impl RawClient {
    /// Connects in plain text.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// Connects in plain text to where perhaps nobody listens.
    ///
    /// # Errors
    /// When the connection is refused.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let wire = dial(address)?;
        Ok(Self { stream: Box::new(wire.try_clone()?), wire, reader: Reader::new() })
    }

    /// Connects under TLS and shakes hands.
    ///
    /// # Errors
    /// When the handshake fails, on either side.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut wire = dial(address)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut wire)?;
        }
        let stream = Box::new(StreamOwned::new(tls, wire.try_clone()?));
        Ok(Self { stream, wire, reader: Reader::new() })
    }

    /// Sends these bytes. A peer that has already hung up is not a fault here: its answer may still be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.try_send(bytes.as_ref());
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the peer no longer takes them.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends the parts with a pause between each two.
    pub fn send_split(&mut self, parts: &[&[u8]], pause: Duration) {
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                std::thread::sleep(pause);
            }
            self.send(part);
        }
    }

    /// Sends one byte at a time, each in a segment of its own.
    pub fn send_byte_by_byte(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            self.send([*byte]);
            std::thread::sleep(pause);
        }
    }

    /// Says that nothing more will be sent, and still reads.
    pub fn finish_sending(&mut self) {
        self.wire.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer to any method but HEAD; interim ones (100 to 199 but 101) are skipped.
    pub fn response(&mut self) -> Response {
        self.response_to("POST")
    }

    /// The next answer to `method`.
    pub fn response_to(&mut self, method: &str) -> Response {
        let head = self.head().expect("the connection ended before an answer");
        self.body(head, method)
    }

    /// The next answer, or `None` when the connection ends without one.
    pub fn try_response(&mut self) -> Option<Response> {
        self.try_response_to("POST")
    }

    /// The next answer to `method`, or `None` when the connection ends without one.
    pub fn try_response_to(&mut self, method: &str) -> Option<Response> {
        self.head().map(|head| self.body(head, method))
    }

    /// Only the head of the next answer (status and headers), the body left to [`RawClient::chunk`] and
    /// [`RawClient::some`].
    pub fn head(&mut self) -> Option<Response> {
        loop {
            let head = self.reader.head(&mut *self.stream).expect("reading the head of an answer")?;
            let status = status_of(&head);
            if status == 101 || status >= 200 {
                return Some(Response { status, headers: head.headers, body: Vec::new(), complete: false });
            }
        }
    }

    /// The next chunk of a chunked answer: empty at its end, `None` when the connection ends before it.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        self.reader.chunk(&mut *self.stream).expect("reading a chunk")
    }

    /// The next bytes, whatever they are; empty when the connection has ended.
    pub fn some(&mut self) -> Vec<u8> {
        self.reader.some(&mut *self.stream).expect("reading bytes")
    }

    /// Exactly so many bytes; fewer when the connection ends before.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.reader
            .exactly(&mut *self.stream, count, &mut |piece| bytes.extend_from_slice(piece))
            .expect("reading bytes");
        bytes
    }

    /// All that comes until the peer closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let bytes = self.some();
            if bytes.is_empty() {
                return all;
            }
            all.extend_from_slice(&bytes);
        }
    }

    /// Waits for the peer to close, and panics when it sends anything before.
    pub fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&rest));
    }

    fn body(&mut self, mut response: Response, method: &str) -> Response {
        let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
        let mut body = Vec::new();
        let mut append = |piece: &[u8]| body.extend_from_slice(piece);
        let length = response.header("content-length").map(|length| length.parse().unwrap());
        let end = if bodiless {
            Ok(End::Complete)
        } else if response.header("transfer-encoding").is_some() {
            self.reader.chunks(&mut *self.stream, &mut append)
        } else if let Some(length) = length {
            self.reader.exactly(&mut *self.stream, length, &mut append)
        } else {
            // Delimited by the end of the connection.
            append(&self.rest());
            Ok(End::Complete)
        };
        response.complete = end.expect("reading the body of an answer") == End::Complete;
        response.body = body;
        response
    }
}

fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let wire = TcpStream::connect_timeout(&address, PATIENCE)?;
    wire.set_nodelay(true)?;
    wire.set_read_timeout(Some(PATIENCE))?;
    Ok(wire)
}

fn status_of(head: &Head) -> u16 {
    head.first_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{:?} is no status line", head.first_line))
}
