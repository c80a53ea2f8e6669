//! One client connection, from its first byte to its last: heads are read under a deadline and checked before
//! Pingora sees them.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp as _, ReusedHttpStream, ServerApp as _};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, GetSocketDigest as _, Peek as _, Shutdown, Ssl as _, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};

use super::answer;
use super::doorstep::Doorstep;
use super::head::{self, Framing};
use super::open::OpenLine;
use super::plane::Gateway;
use super::record;
use super::refusal::Refusal;
use super::settings::Limits;
use super::streams::Streams;

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a kept connection may be silent between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What is read of a refused client's further bytes, so that it can read our answer before the connection closes.
const LINGER_MAX_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Serves client connections.
pub(super) struct Door {
    proxy: Arc<HttpProxy<Gateway>>,
    streams: Arc<Streams>,
    gateway: Gateway,
    limits: Limits,
    shutdown: ShutdownWatch,
}

/// Why no further head came.
enum Ended {
    /// The client left, was silent for too long, or we are stopping: nothing is to be said.
    Silent,
    /// It sent something that is answered before the connection closes.
    Refused(Refusal),
}

impl Door {
    pub(super) fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        gateway: Gateway,
        limits: Limits,
        shutdown: ShutdownWatch,
    ) -> Self {
        let streams = Streams { proxy: Arc::clone(&proxy), gateway: gateway.clone() };
        Self { proxy, streams: Arc::new(streams), gateway, limits, shutdown }
    }

    /// Serves one connection until it ends.
    pub(super) async fn serve(&self, stream: Stream) {
        let mut doorstep = Doorstep::new(stream);
        if doorstep.selected_alpn_proto() == Some(ALPN::H2) {
            if self.preface(&mut doorstep).await {
                self.serve_h2(doorstep).await;
            }
            return;
        }
        let mut first = true;
        let mut settings = None;
        let mut line = None;
        loop {
            let framing = match self.next_head(&mut doorstep, first).await {
                Ok(Some(framing)) => framing,
                Ok(None) => return self.serve_h2(doorstep).await,
                Err(Ended::Silent) => return Shutdown::shutdown(&mut doorstep).await,
                Err(Ended::Refused(refusal)) => return self.refuse(doorstep, refusal).await,
            };
            doorstep.allow(framing.message_bytes);
            let line = line.get_or_insert_with(|| {
                let line = self.gateway.open_exchanges().line();
                doorstep.stand_on(line.share());
                line
            });
            match self.serve_h1(doorstep, settings.take(), line).await {
                Served::Kept(next, next_settings) => {
                    doorstep = *next;
                    settings = next_settings;
                }
                Served::Over => return,
                Served::Cut => return self.cut(line).await,
            }
            first = false;
        }
    }

    /// Waits for HTTP/2's first bytes, which Pingora would do without end.
    async fn preface(&self, doorstep: &mut Doorstep) -> bool {
        let mut room = [0_u8; H2_PREFACE.len()];
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            peeked = doorstep.try_peek(&mut room) => peeked.is_ok(),
            _ = shutdown.wait_for(|stop| *stop) => false,
            () = tokio::time::sleep(self.limits.header_timeout) => false,
        }
    }

    async fn serve_h2(&self, doorstep: Doorstep) {
        // A panic in a stream's task ends that stream; one here ends the connection.
        let serve = self.streams.process_new(Box::new(doorstep), &self.shutdown);
        let _ = AssertUnwindSafe(serve).catch_unwind().await;
    }

    /// Serves the request whose head has been checked. Gives the connection back where it may be used again.
    async fn serve_h1(
        &self,
        doorstep: Doorstep,
        settings: Option<HttpPersistentSettings>,
        line: &OpenLine,
    ) -> Served {
        let mut session = ServerSession::new_http1(Box::new(doorstep));
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        session.set_keepalive(if *self.shutdown.borrow() { None } else { Some(KEEP_ALIVE.as_secs()) });
        let serve = self.proxy.process_new_http(session, &self.shutdown);
        let Some(served) = line.until_cut(AssertUnwindSafe(serve).catch_unwind()).await else {
            return Served::Cut;
        };
        let Some((stream, settings)) = served.ok().flatten().map(ReusedHttpStream::consume) else {
            return Served::Over;
        };
        stream
            .into_any()
            .downcast::<Doorstep>()
            .map_or(Served::Over, |doorstep| Served::Kept(doorstep, settings))
    }

    /// Ends the connection of an exchange that was cut. A client that had no answer yet is told why.
    async fn cut(&self, line: &OpenLine) {
        let left = line.left();
        let Some(remains) = left.remains else { return };
        let doorstep = left.stream.map(Doorstep::resume);
        let open = doorstep.filter(|doorstep| remains.is_unanswered() && doorstep.is_flushed());
        let Some(doorstep) = open else {
            let status = remains.status;
            return record::cut(&self.gateway, *remains, status);
        };
        let (status, answer) = answer::withdrawn(&remains);
        record::cut(&self.gateway, *remains, Some(status));
        hang_up(doorstep, &answer).await;
    }

    /// Reads the next head ahead and checks it. `Ok(None)`: HTTP/2 begins here.
    async fn next_head(&self, doorstep: &mut Doorstep, first: bool) -> Result<Option<Message>, Ended> {
        if doorstep.ahead().is_empty() {
            let patience = if first { self.limits.header_timeout } else { KEEP_ALIVE };
            self.first_byte(doorstep, patience).await?;
        }
        let mut searched = 0;
        if let Some(judged) = self.judge(doorstep, first, &mut searched) {
            return judged;
        }
        let read = self.whole_head(doorstep, first, searched);
        match tokio::time::timeout(self.limits.header_timeout, read).await {
            Ok(result) => result,
            Err(_) => Err(Ended::Refused(Refusal::HeaderTimeout)),
        }
    }

    async fn first_byte(&self, doorstep: &mut Doorstep, patience: Duration) -> Result<(), Ended> {
        // Mostly it is there already, and nothing needs to be waited for.
        match doorstep.read_ahead().now_or_never() {
            Some(Ok(0) | Err(_)) => return Err(Ended::Silent),
            Some(Ok(_)) => return Ok(()),
            None => {}
        }
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            read = doorstep.read_ahead() => match read {
                Ok(0) | Err(_) => Err(Ended::Silent),
                Ok(_) => Ok(()),
            },
            _ = shutdown.wait_for(|stop| *stop) => Err(Ended::Silent),
            () = tokio::time::sleep(patience) => Err(Ended::Silent),
        }
    }

    async fn whole_head(
        &self,
        doorstep: &mut Doorstep,
        first: bool,
        mut searched: usize,
    ) -> Result<Option<Message>, Ended> {
        loop {
            match doorstep.read_ahead().await {
                Ok(0) | Err(_) => return Err(Ended::Silent),
                Ok(_) => {}
            }
            if let Some(judged) = self.judge(doorstep, first, &mut searched) {
                return judged;
            }
        }
    }

    /// Judges what is there; `None` where more is needed. Before `searched` there is no end of a head.
    fn judge(
        &self,
        doorstep: &Doorstep,
        first: bool,
        searched: &mut usize,
    ) -> Option<Result<Option<Message>, Ended>> {
        let ahead = doorstep.ahead();
        if first && ahead.starts_with(H2_PREFACE) {
            return Some(Ok(None));
        }
        // The preface holds an empty line of its own; while it may still be one, there is nothing to judge.
        if first && H2_PREFACE.starts_with(ahead) {
            return None;
        }
        let end = memchr::memmem::find(ahead.get(*searched..).unwrap_or_default(), b"\r\n\r\n")
            .map(|at| *searched + at + 4);
        let head = ahead.get(..end.unwrap_or(ahead.len())).unwrap_or_default();
        if head.len() > self.limits.header_bytes {
            return Some(Err(Ended::Refused(Refusal::HeadTooLarge)));
        }
        if end.is_some() || has_lone_line_feed(head, *searched) {
            let judged = head::check(head)
                .map(|framing| Some(Message::new(head.len(), framing)))
                .map_err(|fault| Ended::Refused(Refusal::Head(fault)));
            return Some(judged);
        }
        *searched = ahead.len().saturating_sub(3);
        None
    }

    /// Answers and closes: the rest of what this client sends has no sure meaning.
    async fn refuse(&self, doorstep: Doorstep, refusal: Refusal) {
        let client = client_address(&doorstep);
        let answer = answer::raw(&refusal, &self.gateway, client);
        hang_up(doorstep, &answer).await;
    }
}

/// What became of an HTTP/1 request.
enum Served {
    /// It is over, and the connection may be used again.
    Kept(Box<Doorstep>, Option<HttpPersistentSettings>),
    /// It is over, and the connection with it.
    Over,
    /// Its claim was withdrawn under it.
    Cut,
}

async fn hang_up(mut doorstep: Doorstep, answer: &[u8]) {
    let bytes_ahead = doorstep.ahead().len();
    let written = doorstep.write_all(answer).await.is_ok() && doorstep.flush().await.is_ok();
    if written && AsyncWriteExt::shutdown(&mut doorstep).await.is_ok() {
        linger(&mut doorstep, bytes_ahead).await;
    }
}

/// How many bytes the present message has.
#[derive(Debug, Clone, Copy)]
struct Message {
    message_bytes: Option<u64>,
}

impl Message {
    fn new(head_bytes: usize, framing: Framing) -> Self {
        Self { message_bytes: framing.body_bytes.map(|body| body.saturating_add(head_bytes as u64)) }
    }
}

/// Looks from `from` on: what a client sends byte by byte is not looked through again with each of them.
fn has_lone_line_feed(head: &[u8], from: usize) -> bool {
    let new = head.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'\n', new).map(|at| from + at).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r'))
}

fn client_address(doorstep: &Doorstep) -> Option<IpAddr> {
    doorstep.get_socket_digest()?.peer_addr()?.as_inet().map(std::net::SocketAddr::ip)
}

/// A close with unread bytes resets the connection, and the answer with it.
async fn linger(doorstep: &mut Doorstep, already: usize) {
    doorstep.allow(None);
    let drain = async {
        let mut room = [0_u8; 4096];
        let mut read = already;
        while read < LINGER_MAX_BYTES {
            match doorstep.read(&mut room).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}
