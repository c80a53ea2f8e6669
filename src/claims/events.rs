//! The stream of changes: Server-Sent Events, each of bounded size, and what they mean.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};

use super::control_plane::innermost;
use super::fault::FeedFault;
use super::index::Delta;
use super::page::{Cursor, Entry};
use crate::clock::{Clock, UnixTime};
use crate::names::{ClaimId, ConnectionId};

/// Without a heartbeat, or before the first one without any event, for so long the stream counts as dead. The control
/// plane sends one every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
/// A line of the stream.
const LINE: usize = 64 * 1024;
/// An event, of however many lines.
const EVENT: usize = 256 * 1024;
/// Events that are kept until the first heartbeat, and the bytes of their data: 200,000 claims have about 80 MB.
pub(super) const BACKLOG: usize = 200_000;
const BACKLOG_BYTES: usize = 256 * 1024 * 1024;
/// Lines in the log about events of one stream that cannot be understood.
const WARNINGS: u32 = 10;

/// The changes of some services' claims, as they come.
pub(super) struct Events {
    events: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send + Sync>>,
    services: Vec<ConnectionId>,
    clock: Clock,
    heard: Instant,
    warned: u32,
}

/// An event, and where the feed stands after it.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) event: Event,
    pub(super) cursor: Option<Cursor>,
    /// Bytes of its data.
    size: usize,
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A change, and when it was decided, where that can be read.
    Change(Delta, Option<UnixTime>),
    /// All that came before is all there is.
    Heartbeat,
    /// What is not known, or not meant for this gateway.
    Nothing,
}

/// What came before the first heartbeat.
pub(super) struct CaughtUp {
    pub(super) changes: Vec<(Delta, Option<UnixTime>)>,
    pub(super) cursor: Option<Cursor>,
}

impl Events {
    /// Reads an answer that was begun with 200 and `text/event-stream`.
    pub(super) fn new(answer: reqwest::Response, services: Vec<ConnectionId>, clock: Clock) -> Self {
        let mut measure = Measure::default();
        let bytes = answer.bytes_stream().map(move |part| {
            let part = part.map_err(|error| Broken::Cut(innermost(error)))?;
            measure.pass(&part)?;
            Ok::<Bytes, Broken>(part)
        });
        let heard = clock.instant();
        Self { events: Box::pin(SseByteStream::new(bytes)), services, clock, heard, warned: 0 }
    }

    /// The services that it was opened for.
    pub(super) fn services(&self) -> &[ConnectionId] {
        &self.services
    }

    /// All that comes before the first heartbeat.
    ///
    /// # Errors
    /// As [`Events::next`], and where there is more than is kept.
    pub(super) async fn catch_up(&mut self) -> Result<CaughtUp, FeedFault> {
        let mut caught = CaughtUp { changes: Vec::new(), cursor: None };
        let mut bytes = 0_usize;
        loop {
            let Arrived { event, cursor, size } = self.next().await?;
            caught.cursor = cursor.or(caught.cursor);
            match event {
                Event::Heartbeat => return Ok(caught),
                Event::Nothing => {}
                Event::Change(..) if caught.changes.len() >= BACKLOG || bytes + size > BACKLOG_BYTES => {
                    return Err(FeedFault::Backlog { most: BACKLOG });
                }
                Event::Change(delta, at) => {
                    bytes += size;
                    caught.changes.push((delta, at));
                }
            }
            // A long backlog is sent without heartbeats between.
            self.heard = self.clock.instant();
        }
    }

    /// The next event. Nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// When the stream ended or is silent, an event is too large, withdraws nobody knows what, or asks for pages.
    pub(super) async fn next(&mut self) -> Result<Arrived, FeedFault> {
        let deadline = tokio::time::Instant::from_std(self.heard + SILENCE);
        let event = match tokio::time::timeout_at(deadline, self.events.next()).await {
            Err(_) => return Err(FeedFault::Silent { secs: SILENCE.as_secs() }),
            Ok(None) => return Err(FeedFault::Cut("the control plane ended it".to_owned())),
            Ok(Some(event)) => event.map_err(fault)?,
        };
        self.understand(&event)
    }

    fn understand(&mut self, sse: &Sse) -> Result<Arrived, FeedFault> {
        let data = sse.data.as_deref().unwrap_or_default();
        let mut cursor = match sse.id.as_deref() {
            None | Some("") => None,
            Some(id) => Some(Cursor::of(id).ok_or(FeedFault::Cursor)?),
        };
        let event = match sse.event.as_deref() {
            Some("heartbeat") => {
                cursor = cursor.or_else(|| heartbeat(data));
                // One that does not say where the feed stands is none.
                if cursor.is_none() { Event::Nothing } else { Event::Heartbeat }
            }
            Some("claim.approved") => self.approved(data),
            Some("claim.revoked" | "claim.expired") => withdrawn(data).ok_or(FeedFault::Withdrawal)?,
            Some("snapshot.required") => return Err(FeedFault::SnapshotRequired),
            _ => Event::Nothing,
        };
        if event == Event::Heartbeat {
            self.heard = self.clock.instant();
        }
        Ok(Arrived { event, cursor, size: data.len() })
    }

    /// A claim that cannot be understood does not hold, and if it held in another form, it does not in that one either.
    fn approved(&mut self, data: &str) -> Event {
        #[derive(Deserialize)]
        struct At {
            at: Option<String>,
        }
        let entry: Option<Entry> = serde_json::from_str(data).ok();
        let (id, service) = entry.as_ref().map_or((None, None), Entry::names);
        if let Some(service) = service.as_ref().filter(|service| !self.services.contains(service)) {
            self.warn(&format!("it is on {service}, which was not asked for"));
            return Event::Nothing;
        }
        let claim = entry.zip(service).map(|(entry, service)| entry.into_claim(&service));
        let left_out = match claim {
            Some(Ok(Some(claim))) => {
                let at = serde_json::from_str::<At>(data).ok().and_then(|At { at }| at?.parse().ok());
                return Event::Change(Delta::Approved(claim), at);
            }
            Some(Ok(None)) => "it is not approved".to_owned(),
            Some(Err(fault)) => fault.to_string(),
            None => "it has not the fields of a claim".to_owned(),
        };
        self.warn(&left_out);
        id.map_or(Event::Nothing, |id| Event::Change(Delta::Withdrawn(id), None))
    }

    fn warn(&mut self, why: &str) {
        self.warned = self.warned.saturating_add(1);
        if self.warned <= WARNINGS {
            tracing::warn!(why, "a claim that came by the stream is left out");
        }
    }
}

/// Where the feed stands, by a heartbeat's data.
fn heartbeat(data: &str) -> Option<Cursor> {
    #[derive(Deserialize)]
    struct Fields {
        cursor: String,
    }
    Cursor::of(&serde_json::from_str::<Fields>(data).ok()?.cursor)
}

fn withdrawn(data: &str) -> Option<Event> {
    #[derive(Deserialize)]
    struct Fields {
        claim_id: String,
        at: Option<String>,
    }
    let fields: Fields = serde_json::from_str(data).ok()?;
    let id: ClaimId = fields.claim_id.parse().ok()?;
    Some(Event::Change(Delta::Withdrawn(id), fields.at.and_then(|at| at.parse().ok())))
}

/// Why the bytes end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Cut(String),
    #[error("{what} is too long")]
    TooLong { what: &'static str, most_bytes: usize },
}

fn fault(error: sse_stream::Error) -> FeedFault {
    match error {
        sse_stream::Error::Body(body) => match body.downcast::<Broken>().map(|broken| *broken) {
            Ok(Broken::TooLong { what, most_bytes }) => FeedFault::TooLong { what, most_bytes },
            Ok(Broken::Cut(cause)) => FeedFault::Cut(cause),
            Err(other) => FeedFault::Cut(other.to_string()),
        },
        _ => FeedFault::NotUtf8,
    }
}

/// Holds lines and events to their size before the parser, which has no limit of its own, collects them.
#[derive(Default)]
struct Measure {
    line: usize,
    event: usize,
    after_cr: bool,
}

impl Measure {
    fn pass(&mut self, part: &[u8]) -> Result<(), Broken> {
        for byte in part {
            // The two bytes of CRLF are one end of a line, not an empty line.
            let second_half = std::mem::replace(&mut self.after_cr, *byte == b'\r') && *byte == b'\n';
            match byte {
                _ if second_half => {}
                b'\r' | b'\n' => {
                    if std::mem::take(&mut self.line) == 0 {
                        self.event = 0;
                    } else {
                        self.event += 1;
                    }
                }
                _ => {
                    self.line += 1;
                    self.event += 1;
                }
            }
            if self.line > LINE {
                return Err(Broken::TooLong { what: "a line", most_bytes: LINE });
            }
            if self.event > EVENT {
                return Err(Broken::TooLong { what: "an event", most_bytes: EVENT });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Identity;

    fn events(text: &'static str) -> Events {
        let body = reqwest::Body::from(text);
        let answer = reqwest::Response::from(http::Response::new(body));
        Events::new(answer, vec!["openai".parse().unwrap()], Clock::system())
    }

    fn approved(changes: &[(&str, &str)]) -> Event {
        let alice = Identity::create(&"alice".parse().unwrap(), [1; 32], UnixTime::from_secs(1_000));
        let mut claim = serde_json::json!({
            "claim_id": "cl_1", "namespace": "alice", "public_key": alice.public_key().to_string(),
            "service": "openai", "expires_at": null, "scopes": ["*"], "at": "2026-02-20T18:04:26Z",
        });
        for (field, value) in changes {
            claim[*field] = serde_json::from_str(value).unwrap();
        }
        events("").approved(&claim.to_string())
    }

    fn withdrawal(id: &str) -> Event {
        Event::Change(Delta::Withdrawn(id.parse().unwrap()), None)
    }

    #[test]
    fn approved_claim_is_taken_with_its_time() {
        let Event::Change(Delta::Approved(claim), at) = approved(&[]) else { panic!("it is left out") };
        assert_eq!((claim.id.as_str(), at), ("cl_1", Some("2026-02-20T18:04:26Z".parse().unwrap())));
    }

    #[test]
    fn claim_that_cannot_be_understood_does_not_hold_in_an_older_form_either() {
        for (field, value) in
            [("scopes", "[\"read everything\"]"), ("expires_at", "\"soon\""), ("status", "\"revoked\"")]
        {
            assert_eq!(approved(&[(field, value)]), withdrawal("cl_1"), "{field}");
        }
        assert_eq!(approved(&[("claim_id", "\"\"")]), Event::Nothing);
        assert_eq!(approved(&[("service", "\"slack\"")]), Event::Nothing, "it was not asked for");
        assert_eq!(events("").approved("<html>"), Event::Nothing);
    }

    #[tokio::test]
    async fn what_comes_before_the_first_heartbeat_comes_together() {
        let mut stream = events(
            ": welcome\n\nid: e-4\nevent: claim.revoked\ndata: {\"claim_id\":\"cl_1\"}\n\n\
             id: e-5\nevent: of.tomorrow\ndata: x\n\nevent: heartbeat\ndata: {}\n\n\
             event: heartbeat\ndata: {\"cursor\":\"e-6\",\"at\":\"2026-02-20T18:04:26Z\"}\n\n\
             id: e-7\nevent: claim.expired\ndata: {\"claim_id\":\"cl_2\"}\n\n",
        );
        let caught = stream.catch_up().await.unwrap();
        assert_eq!(caught.changes, [(Delta::Withdrawn("cl_1".parse().unwrap()), None)]);
        assert_eq!(caught.cursor, Cursor::of("e-6"));
        assert_eq!(stream.next().await.unwrap().event, withdrawal("cl_2"));
        assert!(matches!(stream.next().await, Err(FeedFault::Cut(_))));
    }

    #[tokio::test]
    async fn what_must_not_be_missed_and_cannot_be_read_ends_the_stream() {
        for text in [
            "event: claim.revoked\ndata: {}\n\n",
            "event: claim.expired\n\n",
            "event: claim.revoked\ndata: {\"claim_id\":\"a b\"}\n\n",
        ] {
            assert!(matches!(events(text).next().await, Err(FeedFault::Withdrawal)), "{text}");
        }
        let fault = events("event: snapshot.required\ndata: {}\n\n").next().await.unwrap_err();
        assert!(matches!(fault, FeedFault::SnapshotRequired) && fault.needs_pages());
        assert!(matches!(events("id: a b\ndata: x\n\n").next().await, Err(FeedFault::Cursor)));
    }

    #[tokio::test]
    async fn stream_without_a_heartbeat_is_given_up_whatever_else_it_sends() {
        let comments = futures::stream::iter([Ok::<_, std::io::Error>(": still here\n\n")]);
        let body = reqwest::Body::wrap_stream(comments.chain(futures::stream::pending()));
        let answer = reqwest::Response::from(http::Response::new(body));
        let mut stream = Events::new(answer, Vec::new(), Clock::system());
        stream.heard -= SILENCE;
        assert!(matches!(stream.next().await, Err(FeedFault::Silent { secs: 15 })));
    }

    #[test]
    fn line_and_event_without_end_are_measured_in_every_form_of_line_end() {
        assert!(Measure::default().pass(&vec![b'x'; LINE]).is_ok());
        assert!(matches!(
            Measure::default().pass(&vec![b'x'; LINE + 1]),
            Err(Broken::TooLong { what: "a line", .. })
        ));
        for end in ["\n", "\r", "\r\n"] {
            let line = format!("data: {}{end}", "x".repeat(1_000));
            let endless = || (0..1_000).map(|_| line.as_bytes());
            let mut measure = Measure::default();
            let measured: Result<Vec<()>, Broken> = endless().map(|line| measure.pass(line)).collect();
            assert!(matches!(measured, Err(Broken::TooLong { what: "an event", .. })), "{end:?}");
            // Ended by an empty line each, as many as one likes.
            let mut measure = Measure::default();
            assert!(endless().all(|line| measure.pass(line).is_ok() && measure.pass(end.as_bytes()).is_ok()));
        }
    }
}
