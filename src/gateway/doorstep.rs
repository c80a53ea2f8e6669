//! A client's connection with the bytes that were read ahead of Pingora.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufWriter, ReadBuf};

use super::line::Line;

/// A stream whose next bytes are those read ahead, and which hands out no more than the present message has.
///
/// The second keeps a pipelined request out of Pingora's sight until its head has been checked in its turn.
#[derive(Debug)]
pub(super) struct Doorstep {
    inner: BufWriter<Stream>,
    ahead: BytesMut,
    /// Bytes that the present message may still take; `None`: its end is not known by length.
    allowance: Option<u64>,
    /// Where an exchange runs on it: an HTTP/1 connection's own.
    line: Option<Arc<Line>>,
}

/// A head and a short body leave in one segment, as they do from Pingora's own listener.
const WRITE_BUFFER_BYTES: usize = 1460;
/// What is read past the present message at the most.
const AHEAD_MAX_BYTES: usize = 64 * 1024;

impl Doorstep {
    pub(super) fn new(inner: Stream) -> Self {
        Self::resume(BufWriter::with_capacity(WRITE_BUFFER_BYTES, inner))
    }

    /// What an exchange left that was cut.
    pub(super) fn resume(inner: BufWriter<Stream>) -> Self {
        Self { inner, ahead: BytesMut::new(), allowance: None, line: None }
    }

    /// Whether all that was written has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.inner.buffer().is_empty()
    }

    /// From now on the exchanges of this connection can be cut.
    pub(super) fn stand_on(&mut self, line: Arc<Line>) {
        self.line = Some(line);
    }

    pub(super) fn line(&self) -> Option<&Arc<Line>> {
        self.line.as_ref()
    }

    /// What has been read ahead.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads more ahead. Gives the number of bytes, 0 at the end of the stream.
    pub(super) async fn read_ahead(&mut self) -> io::Result<usize> {
        self.ahead.reserve(4096);
        self.inner.read_buf(&mut self.ahead).await
    }

    /// Lets the next message through: so many bytes, or without a limit.
    pub(super) fn allow(&mut self, message_bytes: Option<u64>) {
        self.allowance = message_bytes;
    }
}

impl AsyncRead for Doorstep {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(allowance) = this.allowance else {
            if this.ahead.is_empty() {
                return Pin::new(&mut this.inner).poll_read(cx, out);
            }
            give(&mut this.ahead, out, usize::MAX);
            return Poll::Ready(Ok(()));
        };
        if allowance > 0 {
            let most = usize::try_from(allowance).unwrap_or(usize::MAX);
            let given = if this.ahead.is_empty() {
                let room = out.remaining().min(most);
                let mut limited = ReadBuf::new(out.initialize_unfilled_to(room));
                ready!(Pin::new(&mut this.inner).poll_read(cx, &mut limited))?;
                let given = limited.filled().len();
                out.advance(given);
                given
            } else {
                give(&mut this.ahead, out, most)
            };
            this.allowance = Some(allowance - given as u64);
            return Poll::Ready(Ok(()));
        }
        // The message is complete: what comes now waits for its turn; only the end of the stream is told.
        while this.ahead.len() < AHEAD_MAX_BYTES {
            if ready!(this.poll_ahead(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }
}

impl Doorstep {
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0_u8; 8192];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

fn give(ahead: &mut BytesMut, out: &mut ReadBuf<'_>, most: usize) -> usize {
    let count = ahead.len().min(out.remaining()).min(most);
    out.put_slice(ahead.get(..count).unwrap_or_default());
    ahead.advance(count);
    count
}

impl AsyncWrite for Doorstep {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// An exchange that breaks off drops the connection with what was written last still in the buffer; as much of it as the
/// socket takes without waiting leaves. One that is cut leaves the connection to whoever cut it.
impl Drop for Doorstep {
    fn drop(&mut self) {
        if let Some(line) = self.line.take().filter(|line| line.is_cut()) {
            let nothing = BufWriter::with_capacity(0, Box::new(io::Cursor::new(Vec::new())) as Stream);
            line.leave_stream(std::mem::replace(&mut self.inner, nothing));
            return;
        }
        let mut nobody = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut self.inner).poll_flush(&mut nobody);
    }
}

#[async_trait]
impl Shutdown for Doorstep {
    async fn shutdown(&mut self) {
        let _ = self.inner.flush().await;
        Shutdown::shutdown(&mut **self.inner.get_mut()).await;
    }
}

impl UniqueID for Doorstep {
    fn id(&self) -> UniqueIDType {
        self.inner.get_ref().id()
    }
}

impl Ssl for Doorstep {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ref().get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.get_ref().selected_alpn_proto()
    }
}

impl GetTimingDigest for Doorstep {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_ref().get_timing_digest()
    }
}

impl GetProxyDigest for Doorstep {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_ref().get_proxy_digest()
    }
}

impl GetSocketDigest for Doorstep {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_ref().get_socket_digest()
    }
}

#[async_trait]
impl Peek for Doorstep {
    /// Fills `buffer` wholly with what comes next, as Pingora's look for the HTTP/2 preface wants it.
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        while self.ahead.len() < buffer.len() {
            if self.read_ahead().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        buffer.copy_from_slice(self.ahead.get(..buffer.len()).unwrap_or_default());
        Ok(true)
    }
}
