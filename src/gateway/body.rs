//! Sixth stage: the body is the one whose digest was signed, before the upstream can act on it.
//!
//! A body of known length up to 64 KiB is read and compared before the upstream is contacted. Of another one a window
//! is held back: what fits the window leaves only once it is proven; of what is larger the tail does, so that a wrong
//! body never becomes a complete request.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_proxy::Session;

use super::refusal::Refusal;
use super::settings::Limits;
use crate::clock::Clock;
use crate::connections::BodyPolicy;
use crate::protocol::{BodyHash, ContentDigest};

/// Up to here Pingora replays a body that was read early; a larger one would never be sent.
const READ_AHEAD_MAX_BYTES: u64 = 64 * 1024;
/// A body may stall so long before its rate counts.
const GRACE: Duration = Duration::from_secs(10);
/// For the rest of a refused body, so that the client can read our answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX_BYTES: usize = 256 * 1024;
/// Parts of a held body are put together up to this size.
const PART_BYTES: usize = 16 * 1024;

/// A request's body and what is known of it.
#[derive(Debug)]
pub(super) enum Body {
    /// There is none.
    Absent,
    /// Its digest held before the upstream was contacted.
    Proven { bytes: u64 },
    /// It is being proven as it passes.
    Held(Box<Held>),
}

impl Body {
    /// Bytes of the body seen so far.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Proven { bytes } => *bytes,
            Self::Held(held) => held.total,
        }
    }

    /// Whether all of it has left, or may leave.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Absent | Self::Proven { .. } => true,
            Self::Held(held) => held.proven,
        }
    }
}

/// Reads and proves what can be proven before the upstream is contacted, and plans the rest.
pub(super) async fn receive(
    session: &mut Session,
    digest: Option<&ContentDigest>,
    has_body: bool,
    limits: &Limits,
    policy: BodyPolicy,
    clock: &Clock,
) -> Result<Body, Refusal> {
    if !has_body {
        no_stray_bytes(session).await?;
        // A digest that was signed without a body is that of nothing.
        return match digest {
            Some(digest) if !digest.matches(&BodyHash::default()) => Err(Refusal::DigestMismatch),
            _ => Ok(Body::Absent),
        };
    }
    let digest = digest.ok_or(Refusal::DigestMismatch)?.clone();
    let declared = declared_bytes(session);
    if declared.is_some_and(|declared| declared > limits.body_max_bytes) {
        return Err(Refusal::BodyTooLarge { max_bytes: limits.body_max_bytes });
    }
    let window = limits.body_window_bytes as u64;
    if policy == BodyPolicy::Refuse && declared.is_some_and(|declared| declared > window) {
        return Err(Refusal::BodyUnverifiable { window_bytes: window });
    }
    continue_if_expected(session).await?;
    match declared {
        Some(bytes) if bytes <= READ_AHEAD_MAX_BYTES => {
            read_and_prove(session, &digest, bytes, limits).await?;
            Ok(Body::Proven { bytes })
        }
        _ => {
            // A body that stops altogether brings no part by which its rate could be judged.
            session.set_read_timeout(Some(GRACE));
            Ok(Body::Held(Box::new(Held::new(digest, declared, limits, policy, clock.instant()))))
        }
    }
}

fn declared_bytes(session: &Session) -> Option<u64> {
    session.req_header().headers.get("content-length")?.to_str().ok()?.parse().ok()
}

/// The client was made to wait until the request was admitted: a refused one sends no body at all.
async fn continue_if_expected(session: &mut Session) -> Result<(), Refusal> {
    let expected = session.req_header().headers.contains_key("expect") && !session.is_http2();
    if expected {
        session.write_continue_response().await.map_err(|_| Refusal::Internal)?;
    }
    Ok(())
}

async fn read_and_prove(
    session: &mut Session,
    digest: &ContentDigest,
    declared: u64,
    limits: &Limits,
) -> Result<(), Refusal> {
    session.enable_retry_buffering();
    let patience = GRACE + Duration::from_secs(declared / limits.body_min_rate_bytes.max(1));
    let read = async {
        let mut hash = BodyHash::default();
        let mut total = 0_u64;
        while let Some(part) =
            session.read_request_body().await.map_err(|_| Refusal::Malformed(BROKEN_OFF))?
        {
            total += part.len() as u64;
            if total > declared {
                return Err(Refusal::Malformed(LENGTH_DIFFERS));
            }
            hash.update(&part);
        }
        if total != declared {
            return Err(Refusal::Malformed(LENGTH_DIFFERS));
        }
        Ok(hash)
    };
    let hash = tokio::time::timeout(patience, read).await.map_err(|_| Refusal::BodyTimeout)??;
    if digest.matches(&hash) { Ok(()) } else { Err(Refusal::DigestMismatch) }
}

const BROKEN_OFF: &str = "the request body broke off";
const LENGTH_DIFFERS: &str = "the request body is not as long as its Content-Length says";

/// HTTP/2 can send data behind a declared length of 0.
async fn no_stray_bytes(session: &mut Session) -> Result<(), Refusal> {
    // Pingora believes the header, so the stream itself is read to its end.
    if !session.is_http2() {
        return Ok(());
    }
    let read = async {
        while let Some(part) =
            session.read_request_body().await.map_err(|_| Refusal::Malformed(BROKEN_OFF))?
        {
            if !part.is_empty() {
                return Err(Refusal::Malformed(LENGTH_DIFFERS));
            }
        }
        Ok(())
    };
    tokio::time::timeout(GRACE, read).await.map_err(|_| Refusal::BodyTimeout)?
}

/// A body that is proven as it passes.
#[derive(Debug)]
pub(super) struct Held {
    digest: ContentDigest,
    declared: Option<u64>,
    max_bytes: u64,
    window_bytes: usize,
    min_rate_bytes: u64,
    policy: BodyPolicy,
    began: Instant,
    hash: Hash,
    held: VecDeque<BytesMut>,
    held_bytes: usize,
    total: u64,
    proven: bool,
}

#[derive(Default)]
struct Hash(BodyHash);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Held {
    fn new(
        digest: ContentDigest,
        declared: Option<u64>,
        limits: &Limits,
        policy: BodyPolicy,
        began: Instant,
    ) -> Self {
        Self {
            digest,
            declared,
            max_bytes: limits.body_max_bytes,
            window_bytes: limits.body_window_bytes,
            min_rate_bytes: limits.body_min_rate_bytes,
            policy,
            began,
            hash: Hash::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            total: 0,
            proven: false,
        }
    }

    /// A new attempt replays the body from its beginning.
    pub(super) fn restart(&mut self) {
        self.hash = Hash::default();
        self.held.clear();
        self.held_bytes = 0;
        self.total = 0;
        self.proven = false;
    }

    /// Takes the next part in, and puts in its place what may leave now.
    ///
    /// # Errors
    /// When the body is too large, too slow, of another length than declared, or at its end not the one signed.
    pub(super) fn pass(&mut self, part: &mut Option<Bytes>, end: bool, now: Instant) -> Result<(), Refusal> {
        if let Some(bytes) = part.take().filter(|bytes| !bytes.is_empty()) {
            self.take(bytes, now)?;
        }
        if end {
            if self.declared.is_some_and(|declared| declared != self.total) {
                return Err(Refusal::Malformed(LENGTH_DIFFERS));
            }
            if !self.digest.matches(&self.hash.0) {
                return Err(Refusal::DigestMismatch);
            }
            self.proven = true;
            // Nothing at the end must be `None`: an empty part would end a chunked body twice.
            *part = self.release(0);
            return Ok(());
        }
        // Before the end, `None` would finish the upstream's request; an empty part is not sent.
        *part = Some(self.release(self.window_bytes).unwrap_or_default());
        Ok(())
    }

    fn take(&mut self, bytes: Bytes, now: Instant) -> Result<(), Refusal> {
        self.total += bytes.len() as u64;
        if self.total > self.max_bytes {
            return Err(Refusal::BodyTooLarge { max_bytes: self.max_bytes });
        }
        let window = self.window_bytes as u64;
        if self.policy == BodyPolicy::Refuse && self.total > window {
            return Err(Refusal::BodyUnverifiable { window_bytes: window });
        }
        if self.declared.is_some_and(|declared| self.total > declared) {
            return Err(Refusal::Malformed(LENGTH_DIFFERS));
        }
        let due = now.saturating_duration_since(self.began).saturating_sub(GRACE).as_secs();
        if self.total < due.saturating_mul(self.min_rate_bytes) {
            return Err(Refusal::BodyTimeout);
        }
        self.hash.0.update(&bytes);
        self.hold(bytes);
        Ok(())
    }

    /// Small parts are put together: a body that comes byte by byte takes no more room than another.
    fn hold(&mut self, bytes: Bytes) {
        self.held_bytes += bytes.len();
        match self.held.back_mut() {
            Some(last) if last.len() + bytes.len() <= PART_BYTES => last.extend_from_slice(&bytes),
            _ => self.held.push_back(BytesMut::from(bytes)),
        }
    }

    /// Gives what is held beyond `keep` bytes, in order; `None` where that is nothing.
    fn release(&mut self, keep: usize) -> Option<Bytes> {
        let mut leaving = Vec::new();
        while self.held_bytes > keep {
            let Some(mut front) = self.held.pop_front() else { break };
            let surplus = self.held_bytes - keep;
            if front.len() > surplus {
                let rest = front.split_off(surplus);
                self.held.push_front(rest);
            }
            self.held_bytes -= front.len();
            leaving.push(front);
        }
        match leaving.len() {
            0 => None,
            1 => leaving.pop().map(BytesMut::freeze),
            _ => {
                let mut all = BytesMut::with_capacity(leaving.iter().map(BytesMut::len).sum());
                leaving.iter().for_each(|part| all.extend_from_slice(part));
                Some(all.freeze())
            }
        }
    }
}

/// Reads on for a moment after a refusal: closing with unread bytes would reset the connection, and our answer with it.
pub(super) async fn linger(session: &mut Session) {
    if session.is_http2() {
        return;
    }
    let drain = async {
        let mut read = 0;
        while let Ok(Some(part)) = session.read_request_body().await {
            read += part.len();
            if read > LINGER_MAX_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(body: &[u8], window_bytes: usize, policy: BodyPolicy) -> Held {
        let limits = Limits { body_window_bytes: window_bytes, ..Limits::default() };
        Held::new(ContentDigest::of(body), None, &limits, policy, Clock::system().instant())
    }

    fn pass(held: &mut Held, part: Option<&'static [u8]>, end: bool) -> Result<Option<Vec<u8>>, Refusal> {
        let mut part = part.map(Bytes::from_static);
        held.pass(&mut part, end, Clock::system().instant())?;
        Ok(part.map(|bytes| bytes.to_vec()))
    }

    #[test]
    fn body_within_the_window_leaves_only_at_its_end() {
        let mut held = held(b"abcdef", 10, BodyPolicy::HoldTail);
        assert_eq!(pass(&mut held, Some(b"abc"), false).unwrap(), Some(vec![]));
        assert_eq!(pass(&mut held, Some(b"def"), false).unwrap(), Some(vec![]));
        assert_eq!(pass(&mut held, None, true).unwrap(), Some(b"abcdef".to_vec()));
    }

    #[test]
    fn of_a_larger_body_the_tail_is_held() {
        let mut held = held(b"abcdef", 2, BodyPolicy::HoldTail);
        assert_eq!(pass(&mut held, Some(b"abcd"), false).unwrap(), Some(b"ab".to_vec()));
        assert_eq!(pass(&mut held, Some(b"ef"), true).unwrap(), Some(b"cdef".to_vec()));
    }

    #[test]
    fn wrong_body_keeps_its_tail() {
        let mut held = held(b"abcdef", 2, BodyPolicy::HoldTail);
        assert_eq!(pass(&mut held, Some(b"abcX"), false).unwrap(), Some(b"ab".to_vec()));
        assert!(matches!(pass(&mut held, Some(b"ef"), true), Err(Refusal::DigestMismatch)));
    }

    #[test]
    fn refusing_connection_takes_what_fits_alone() {
        let mut held = held(b"abcdef", 4, BodyPolicy::Refuse);
        assert_eq!(pass(&mut held, Some(b"abc"), false).unwrap(), Some(vec![]));
        assert!(matches!(pass(&mut held, Some(b"de"), false), Err(Refusal::BodyUnverifiable { .. })));
    }

    #[test]
    fn refusing_connection_looks_at_the_last_part_too() {
        let mut held = held(b"abcdef", 4, BodyPolicy::Refuse);
        assert!(matches!(pass(&mut held, Some(b"abcdef"), true), Err(Refusal::BodyUnverifiable { .. })));
    }

    #[test]
    fn retry_starts_from_nothing() {
        let mut held = held(b"abc", 10, BodyPolicy::HoldTail);
        pass(&mut held, Some(b"ab"), false).unwrap();
        held.restart();
        assert_eq!(pass(&mut held, Some(b"abc"), true).unwrap(), Some(b"abc".to_vec()));
    }

    #[test]
    fn empty_end_is_none() {
        let mut held = held(b"", 10, BodyPolicy::HoldTail);
        assert_eq!(pass(&mut held, None, true).unwrap(), None);
    }
}
