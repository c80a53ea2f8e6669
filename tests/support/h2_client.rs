//! An HTTP/2 client close to the frames: prior knowledge in plain text, or under TLS; bodies piece by piece; resets.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::HeaderMap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::PATIENCE;
use super::raw::Response;

/// One HTTP/2 connection.
pub struct H2Client {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

/// A request under way.
pub struct H2Exchange<'a> {
    client: &'a H2Client,
    body: SendStream<Bytes>,
    response: ResponseFuture,
}

/// An answer whose parts are read one by one.
pub struct H2Streamed<'a> {
    client: &'a H2Client,
    request: SendStream<Bytes>,
    body: h2::RecvStream,
    pub status: u16,
}

impl H2Streamed<'_> {
    /// The next part that is not empty; `None` at the end.
    ///
    /// # Errors
    /// When the stream is reset or the connection ends.
    pub fn part(&mut self) -> Result<Option<Vec<u8>>, h2::Error> {
        self.client.runtime.block_on(bounded(async {
            while let Some(data) = self.body.data().await {
                let data = data?;
                let _ = self.body.flow_control().release_capacity(data.len());
                if !data.is_empty() {
                    return Ok(Some(data.to_vec()));
                }
            }
            Ok(None)
        }))
    }

    /// Resets the stream.
    pub fn reset(mut self, reason: Reason) {
        self.request.send_reset(reason);
        self.client.runtime.block_on(tokio::task::yield_now());
    }
}

impl H2Client {
    /// Connects in plain text, with prior knowledge.
    pub fn connect(address: SocketAddr) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(bounded(async {
            handshake(dial(address).await).await.expect("the server speaks HTTP/2")
        }));
        Self { runtime, sender }
    }

    /// Connects under TLS; `config` must offer `h2` (ALPN).
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> Self {
        let runtime = runtime();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let sender = runtime.block_on(bounded(async {
            let wire = dial(address).await;
            let wire = TlsConnector::from(config).connect(name, wire).await.expect("the TLS handshake");
            assert_eq!(
                wire.get_ref().1.alpn_protocol(),
                Some(&b"h2"[..]),
                "the server chose another protocol"
            );
            handshake(wire).await.expect("the server speaks HTTP/2")
        }));
        Self { runtime, sender }
    }

    /// Sends a whole request and reads the whole answer.
    ///
    /// # Errors
    /// When the stream is reset or the connection ends.
    pub fn request(&self, request: http::Request<()>, body: Option<&[u8]>) -> Result<Response, h2::Error> {
        let mut exchange = self.begin(request, body.is_none())?;
        if let Some(body) = body {
            // The server may answer and stop reading before the body's end; its answer is what counts.
            let _ = exchange.send(body, true);
        }
        exchange.response()
    }

    /// Sends the head of a request; `end`: nothing follows it.
    ///
    /// # Errors
    /// When the connection takes no more requests.
    pub fn begin(&self, request: http::Request<()>, end: bool) -> Result<H2Exchange<'_>, h2::Error> {
        self.runtime.block_on(bounded(async {
            let mut sender = self.sender.clone().ready().await?;
            let (response, body) = sender.send_request(request, end)?;
            Ok(H2Exchange { client: self, body, response })
        }))
    }
}

impl<'a> H2Exchange<'a> {
    /// Waits for the head of the answer, and leaves its body to be read part by part.
    ///
    /// # Errors
    /// When the stream is reset or the connection ends.
    pub fn streamed(self) -> Result<H2Streamed<'a>, h2::Error> {
        let (client, response) = (self.client, self.response);
        let (head, body) = client.runtime.block_on(bounded(response))?.into_parts();
        Ok(H2Streamed { client, request: self.body, body, status: head.status.as_u16() })
    }

    /// Sends a piece of the body; `end`: it is the last.
    ///
    /// # Errors
    /// When the server has reset the stream.
    pub fn send(&mut self, piece: &[u8], end: bool) -> Result<(), h2::Error> {
        let piece = Bytes::copy_from_slice(piece);
        self.client.runtime.block_on(bounded(send_all(&mut self.body, piece, end)))
    }

    /// Resets the stream.
    pub fn reset(mut self, reason: Reason) {
        self.body.send_reset(reason);
        // The frame leaves when the connection is next driven.
        self.client.runtime.block_on(tokio::task::yield_now());
    }

    /// Reads the whole answer; its trailers stand behind its headers.
    ///
    /// # Errors
    /// When the stream is reset or the connection ends.
    pub fn response(self) -> Result<Response, h2::Error> {
        let response = self.response;
        self.client.runtime.block_on(bounded(async {
            let (head, mut stream) = response.await?.into_parts();
            let mut body = Vec::new();
            while let Some(data) = stream.data().await {
                let data = data?;
                let _ = stream.flow_control().release_capacity(data.len());
                body.extend_from_slice(&data);
            }
            let mut headers = texts(&head.headers);
            headers.extend(stream.trailers().await?.iter().flat_map(texts));
            Ok(Response { status: head.status.as_u16(), headers, body, complete: true })
        }))
    }
}

/// Headers as text, in order.
pub(super) fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// Sends `data` as fast as the peer's windows allow.
pub(super) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    end: bool,
) -> Result<(), h2::Error> {
    if data.is_empty() {
        return stream.send_data(data, end);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(capacity) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return Err(Reason::STREAM_CLOSED.into());
        };
        let piece = data.split_to(capacity?.min(data.len()));
        let last = end && data.is_empty();
        if last || !piece.is_empty() {
            stream.send_data(piece, last)?;
        }
    }
    Ok(())
}

async fn dial(address: SocketAddr) -> TcpStream {
    let wire = TcpStream::connect(address).await.unwrap();
    wire.set_nodelay(true).unwrap();
    wire
}

async fn handshake<T>(wire: T) -> Result<SendRequest<Bytes>, h2::Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = h2::client::handshake(wire).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the HTTP/2 server did not answer in time")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
