//! An HTTP/2 upstream under TLS that records whether each request was completed or reset.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::eventually;

/// What became of a request's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// More may come.
    Open,
    /// The client ended it as it should.
    Complete,
    /// The client reset it.
    Reset(Reason),
    /// The connection ended under it.
    Lost,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct H2Recorded {
    pub method: String,
    pub uri: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: StreamEnd,
}

/// One answer.
#[derive(Debug, Clone)]
pub enum H2Reply {
    /// A whole answer.
    Fixed { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// 200 with this body and these trailers.
    Trailed { body: Vec<u8>, trailers: Vec<(String, String)> },
    /// None, until the client resets the stream or the connection ends.
    Hang,
    /// A reset stream.
    Reset(Reason),
}

type Script = dyn Fn(&H2Recorded) -> H2Reply + Send + Sync;
type Log = Arc<Mutex<Vec<H2Recorded>>>;

/// The upstream; it listens until it is dropped.
pub struct H2Upstream {
    address: SocketAddr,
    log: Log,
    runtime: Option<Runtime>,
}

impl H2Upstream {
    /// Answers each request as `script` says. `config` must offer `h2` (ALPN).
    pub fn start(
        config: Arc<ServerConfig>,
        script: impl Fn(&H2Recorded) -> H2Reply + Send + Sync + 'static,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Log::default();
        runtime.spawn(accept(listener, TlsAcceptor::from(config), Arc::new(script), Arc::clone(&log)));
        Self { address, log, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL by the name `localhost`.
    pub fn url_by_name(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The requests whose head has come.
    pub fn requests(&self) -> Vec<H2Recorded> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `count` requests have come to an end of whichever kind, and gives all that have come.
    pub fn wait_for_ends(&self, count: usize) -> Vec<H2Recorded> {
        eventually(&format!("the end of {count} requests at the HTTP/2 upstream"), || {
            let requests = self.requests();
            let ended = requests.iter().filter(|request| request.end != StreamEnd::Open).count();
            (ended >= count).then_some(requests)
        })
    }
}

impl Drop for H2Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, script: Arc<Script>, log: Log) {
    while let Ok((wire, _)) = listener.accept().await {
        let _ = wire.set_nodelay(true);
        tokio::spawn(serve(wire, tls.clone(), Arc::clone(&script), Arc::clone(&log)));
    }
}

async fn serve(wire: TcpStream, tls: TlsAcceptor, script: Arc<Script>, log: Log) {
    let Ok(wire) = tls.accept(wire).await else { return };
    let Ok(mut connection) = h2::server::handshake(wire).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(exchange(request, respond, Arc::clone(&script), Arc::clone(&log)));
    }
}

async fn exchange(
    request: http::Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
    script: Arc<Script>,
    log: Log,
) {
    let (head, mut body) = request.into_parts();
    let at = {
        let mut log = log.lock().unwrap();
        log.push(H2Recorded {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: super::h2_client::texts(&head.headers),
            body: Vec::new(),
            end: StreamEnd::Open,
        });
        log.len() - 1
    };
    let end = loop {
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                log.lock().unwrap()[at].body.extend_from_slice(&data);
            }
            Some(Err(error)) if error.is_reset() => break StreamEnd::Reset(error.reason().unwrap()),
            Some(Err(_)) => break StreamEnd::Lost,
            None => break StreamEnd::Complete,
        }
    };
    let recorded = {
        let mut log = log.lock().unwrap();
        log[at].end = end;
        log[at].clone()
    };
    if end != StreamEnd::Complete {
        return;
    }
    match script(&recorded) {
        H2Reply::Hang => {
            let end = hang(respond).await;
            log.lock().unwrap()[at].end = end;
        }
        reply => answer(respond, reply).await,
    }
}

/// Answers nothing, and gives how the client ended it.
async fn hang(mut respond: SendResponse<Bytes>) -> StreamEnd {
    std::future::poll_fn(|context| respond.poll_reset(context))
        .await
        .map_or(StreamEnd::Lost, StreamEnd::Reset)
}

async fn answer(mut respond: SendResponse<Bytes>, reply: H2Reply) {
    match reply {
        H2Reply::Fixed { status, headers, body } => {
            let mut response = http::Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            let response = response.body(()).unwrap();
            if let Ok(mut stream) = respond.send_response(response, body.is_empty())
                && !body.is_empty()
            {
                let _ = super::h2_client::send_all(&mut stream, body.into(), true).await;
            }
        }
        H2Reply::Trailed { body, trailers } => {
            let response = http::Response::builder().status(200).body(()).unwrap();
            if let Ok(mut stream) = respond.send_response(response, false) {
                let _ = super::h2_client::send_all(&mut stream, body.into(), false).await;
                let named = |(name, value): (String, String)| (name.parse().unwrap(), value.parse().unwrap());
                let _ = stream.send_trailers(trailers.into_iter().map(named).collect());
            }
        }
        H2Reply::Hang => {
            hang(respond).await;
        }
        H2Reply::Reset(reason) => respond.send_reset(reason),
    }
}
