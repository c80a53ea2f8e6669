//! An upstream that records every byte it receives and answers by the test's script.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::eventually;
use super::http1::{self, End, Head, Reader, Stream};
use super::upstream_script::Step;
pub use super::upstream_script::{Reply, Steps, StreamHand};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// Which request of its connection it is, from 1.
    pub nth: usize,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to the end that its framing promised.
    pub complete: bool,
}

impl Recorded {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        http1::all(&self.headers, name)
    }
}

/// A connection as it went.
#[derive(Debug, Clone, Default)]
pub struct RecordedConnection {
    /// Every byte received, under TLS as plain text.
    pub bytes: Vec<u8>,
    /// Whether it has ended.
    pub closed: bool,
    /// The name that TLS asked for.
    pub server_name: Option<String>,
    /// Whether a client certificate was shown.
    pub client_certificate: bool,
}

/// The upstream; it listens until it is dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<dyn Fn(&Recorded) -> Reply + Send + Sync>,
    tls: Option<Arc<ServerConfig>>,
    stopped: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    connections: Vec<RecordedConnection>,
    requests: Vec<Recorded>,
    wires: Vec<TcpStream>,
}

impl Upstream {
    /// Answers each request as `script` says.
    pub fn start(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::launch(None, Box::new(script))
    }

    /// The same under TLS.
    pub fn start_tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::launch(Some(config), Box::new(script))
    }

    /// Gives each request the same answer.
    pub fn answering(reply: Reply) -> Self {
        let reply = Mutex::new(reply);
        Self::start(move |_| reply.lock().unwrap().clone())
    }

    fn launch(tls: Option<Arc<ServerConfig>>, script: Box<dyn Fn(&Recorded) -> Reply + Send + Sync>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { script, tls, stopped: AtomicBool::new(false), log: Mutex::default() });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &for_acceptor));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.shared.tls.is_some() { "s" } else { "" }, self.address)
    }

    /// Its base URL by the name `localhost`, as a certificate may have it.
    pub fn url_by_name(&self) -> String {
        self.url().replace("127.0.0.1", "localhost")
    }

    /// The requests whose head has come, in that order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.log().requests.clone()
    }

    /// The connections, in the order of their coming.
    pub fn connections(&self) -> Vec<RecordedConnection> {
        self.shared.log().connections.clone()
    }

    /// Every byte received, connection by connection.
    pub fn received(&self) -> Vec<u8> {
        self.connections().into_iter().flat_map(|connection| connection.bytes).collect()
    }

    /// Panics when a single byte has come.
    pub fn assert_zero_bytes(&self) {
        let received = self.received();
        assert!(received.is_empty(), "the upstream received {:?}", String::from_utf8_lossy(&received));
    }

    /// Waits until `count` whole requests have come, and gives all that have.
    pub fn wait_for(&self, count: usize) -> Vec<Recorded> {
        eventually(&format!("{count} whole requests at the upstream"), || {
            let whole: Vec<_> = self.requests().into_iter().filter(|request| request.complete).collect();
            (whole.len() >= count).then_some(whole)
        })
    }

    /// Waits until `probe` finds what it looks for in the requests so far, whole or not.
    pub fn wait_until<T>(&self, what: &str, probe: impl Fn(&[Recorded]) -> Option<T>) -> T {
        eventually(what, || probe(&self.requests()))
    }

    /// Waits until connection `index` (from 0) has ended.
    pub fn wait_closed(&self, index: usize) {
        eventually(&format!("the end of connection {index} at the upstream"), || {
            self.connections().get(index).filter(|connection| connection.closed).map(|_| ())
        });
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for wire in &self.shared.log().wires {
            let _ = wire.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for wire in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(wire) = wire else { continue };
        let index = {
            let mut log = shared.log();
            log.connections.push(RecordedConnection::default());
            log.wires.push(wire.try_clone().unwrap());
            log.connections.len() - 1
        };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A fault of the wire is the peer's leaving; what matters of it stands in the log.
            let _ = serve(wire, index, &shared);
            let mut log = shared.log();
            let _ = log.wires[index].shutdown(Shutdown::Both);
            log.connections[index].closed = true;
        });
    }
}

fn serve(wire: TcpStream, index: usize, shared: &Arc<Shared>) -> io::Result<()> {
    let probe = wire.try_clone()?;
    let stream: Box<dyn Stream> = match &shared.tls {
        None => Box::new(wire),
        Some(config) => Box::new(shake_hands(wire, Arc::clone(config), index, shared)?),
    };
    let mut exchange = Connection {
        stream: Tap { inner: stream, index, shared: Arc::clone(shared) },
        reader: Reader::new(),
        wire: probe,
        index,
        shared: Arc::clone(shared),
    };
    let mut nth = 1;
    while let Some(request) = exchange.request(nth)? {
        let reply = (shared.script)(&request);
        if !exchange.answer(&request, reply)? {
            break;
        }
        nth += 1;
    }
    Ok(())
}

fn shake_hands(
    mut wire: TcpStream,
    config: Arc<ServerConfig>,
    index: usize,
    shared: &Shared,
) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut wire)?;
    }
    {
        let mut log = shared.log();
        log.connections[index].server_name = tls.server_name().map(ToString::to_string);
        log.connections[index].client_certificate = tls.peer_certificates().is_some();
    }
    Ok(StreamOwned::new(tls, wire))
}

struct Connection {
    stream: Tap,
    reader: Reader,
    wire: TcpStream,
    index: usize,
    shared: Arc<Shared>,
}

impl Connection {
    /// The next whole request; `None` when the connection ends before there is one.
    fn request(&mut self, nth: usize) -> io::Result<Option<Recorded>> {
        let Some(head) = self.reader.head(&mut self.stream)? else { return Ok(None) };
        let at = self.record(&head, nth);
        if head.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let shared = Arc::clone(&self.shared);
        let mut append = |piece: &[u8]| shared.log().requests[at].body.extend_from_slice(piece);
        let end = if head.header("transfer-encoding").is_some() {
            self.reader.chunks(&mut self.stream, &mut append)?
        } else {
            let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
            self.reader.exactly(&mut self.stream, length, &mut append)?
        };
        if end == End::Cut {
            return Ok(None);
        }
        let mut log = self.shared.log();
        log.requests[at].complete = true;
        Ok(Some(log.requests[at].clone()))
    }

    fn record(&self, head: &Head, nth: usize) -> usize {
        let mut parts = head.first_line.split(' ').map(str::to_owned);
        let mut log = self.shared.log();
        log.requests.push(Recorded {
            connection: self.index,
            nth,
            method: parts.next().unwrap_or_default(),
            target: parts.next().unwrap_or_default(),
            headers: head.headers.clone(),
            ..Recorded::default()
        });
        log.requests.len() - 1
    }

    /// Answers; gives whether the connection goes on.
    fn answer(&mut self, request: &Recorded, reply: Reply) -> io::Result<bool> {
        match reply {
            Reply::Fixed { status, headers, body } => self.fixed(request, status, &headers, &body)?,
            Reply::Echo => {
                let body = serde_json::json!({
                    "method": request.method, "target": request.target, "headers": request.headers,
                    "body": String::from_utf8_lossy(&request.body),
                });
                let json = [("content-type".to_owned(), "application/json".to_owned())];
                self.fixed(request, 200, &json, body.to_string().as_bytes())?;
            }
            Reply::Hang => {
                while !self.reader.some(&mut self.stream)?.is_empty() {}
                return Ok(false);
            }
            Reply::Unanswered => return Ok(false),
            Reply::Cut { promised, sent } => {
                write!(self.stream, "HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n\r\n")?;
                self.send(&sent)?;
                return Ok(false);
            }
            Reply::Streamed { content_type, steps } => return self.stream_steps(&content_type, &steps),
            Reply::Upgrade => {
                let to = request.header("upgrade").unwrap_or("websocket");
                write!(
                    self.stream,
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {to}\r\n\r\n"
                )?;
                self.stream.flush()?;
                return self.echo_bytes();
            }
            Reply::Raw(bytes) => {
                self.send(&bytes)?;
                return Ok(false);
            }
            Reply::ThenClose(reply) => {
                self.answer(request, *reply)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fixed(
        &mut self,
        request: &Recorded,
        status: u16,
        headers: &[(String, String)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut bytes = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let bodiless = status == 204 || status == 304;
        if !bodiless {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        if !bodiless && request.method != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.send(&bytes)
    }

    fn stream_steps(&mut self, content_type: &str, steps: &Steps) -> io::Result<bool> {
        write!(
            self.stream,
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        )?;
        self.stream.flush()?;
        let wire = self.wire.try_clone()?;
        loop {
            match steps.next(|| hung_up(&wire)) {
                Some(Step::Chunk(data)) => self.send(&http1::chunk(&data))?,
                Some(Step::Finish) => {
                    self.send(&http1::chunk(b""))?;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
    }

    fn echo_bytes(&mut self) -> io::Result<bool> {
        loop {
            let bytes = self.reader.some(&mut self.stream)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            self.send(&bytes)?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}

/// Whether the peer has closed its side.
fn hung_up(wire: &TcpStream) -> bool {
    let _ = wire.set_read_timeout(Some(Duration::from_millis(1)));
    let ended = match wire.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    };
    let _ = wire.set_read_timeout(None);
    ended
}

/// Keeps every byte that is read.
struct Tap {
    inner: Box<dyn Stream>,
    index: usize,
    shared: Arc<Shared>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.shared.log().connections[self.index].bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
