//! `GET /v1/namespaces/claims/stream`: what changes in the feed, as Server-Sent Events.
//!
//! The body is made when the client is ready to take more of it, one batch at a time: a slow reader costs one batch of
//! memory, and one that reads nothing is let go by the listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Route;
use super::asked::Asked;
use super::body::parsed;
use super::feed;
use super::refusal::Refusal;
use super::signed::ServiceCaller;
use crate::control::ControlPlane;
use crate::control::domain::feed::{Cursor, FeedChange, FeedEvent, FeedRead};
use crate::control::metrics::OpenStream;
use crate::control::store::StoreFault;
use crate::control::streams::{self, Admitted, Seat};
use crate::names::ServiceSlug;

/// Changes of one batch.
const BATCH: usize = 500;
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Services of one stream at most.
const SERVICES: usize = 1_000;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/v1/namespaces/claims/stream", get(open)).asking(&["service", "since"])]
}

async fn open(
    State(plane): State<Arc<ControlPlane>>,
    asked: Asked,
    headers: HeaderMap,
    caller: ServiceCaller,
) -> Result<Response, Refusal> {
    let services: Vec<ServiceSlug> = asked.all("service")?;
    if services.is_empty() || services.len() > SERVICES {
        let fault = format!("takes 1 to {SERVICES} services; the query names {}", services.len());
        return Err(Refusal::field("service", &fault));
    }
    let since = match headers.get("last-event-id") {
        // A browser that comes back sends the address of its first request, and here where it really stands.
        Some(id) => Some(parsed("last-event-id", id.to_str().unwrap_or_default())?),
        None => asked.one("since")?,
    };
    feed::readable(&plane, &caller, &services).await?;
    let admitted = Arc::new(Admitted {
        key_sha256: caller.key_sha256,
        owner: caller.caller.service.owner,
        services,
        all_services: caller.caller.all_services,
    });
    let seat = plane.streams.enter(Arc::clone(&admitted));
    let seat =
        seat.ok_or_else(|| Refusal::overloaded("as many streams are open as there may be; retry later"))?;
    let reader = Reader::new(plane, admitted, since, seat);
    let body = Body::from_stream(futures::stream::unfold(reader, Reader::next));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, body).into_response())
}

/// One reader of the feed.
struct Reader {
    plane: Arc<ControlPlane>,
    admitted: Arc<Admitted>,
    /// Where it stands; `None`: at the end, wherever that is.
    cursor: Option<Cursor>,
    /// Tells that there is something new in the feed.
    moved: watch::Receiver<()>,
    head: watch::Receiver<i64>,
    stopping: watch::Receiver<bool>,
    /// When it is told the next time that it is alive.
    heartbeat: Instant,
    /// When it is looked the next time whether it may still read, however much there is to read and however slowly it
    /// does.
    look_again: Instant,
    step: Step,
    seat: Seat,
    _counted: OpenStream,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be changes.
    Read,
    /// It has all of them.
    Wait,
    /// It may no longer be here; it is told what else has ended, and nothing new.
    Last,
    /// It was told all.
    End,
}

impl Reader {
    fn new(plane: Arc<ControlPlane>, admitted: Arc<Admitted>, cursor: Option<Cursor>, seat: Seat) -> Self {
        Self {
            admitted,
            cursor,
            moved: plane.streams.recent.moved(),
            head: plane.store.feed_head(),
            stopping: plane.stopping(),
            // The first one comes as soon as it has all changes.
            heartbeat: plane.clock.instant(),
            look_again: plane.clock.instant() + HEARTBEAT,
            step: Step::Read,
            seat,
            _counted: plane.metrics.stream(),
            plane,
        }
    }

    /// The next part of the body; `None` ends it.
    async fn next(mut self) -> Option<(Result<Bytes, StoreFault>, Self)> {
        loop {
            if self.seat.is_cut() && self.step != Step::End {
                self.step = Step::Last;
            }
            let part = match self.step {
                Step::End => return None,
                Step::Read if self.look_again <= self.plane.clock.instant() => {
                    if !self.still_allowed().await {
                        return None;
                    }
                    self.look_again = self.plane.clock.instant() + HEARTBEAT;
                    continue;
                }
                Step::Read | Step::Last => match self.read().await {
                    Ok(part) => part,
                    Err(fault) => {
                        tracing::warn!(%fault, "a stream of claims ends");
                        return None;
                    }
                },
                Step::Wait => match self.wait().await {
                    Some(part) => part,
                    None => return None,
                },
            };
            if !part.is_empty() {
                return Some((Ok(Bytes::from(part)), self));
            }
        }
    }

    /// Reads a batch of changes; the heartbeat behind the last of them.
    async fn read(&mut self) -> Result<String, StoreFault> {
        // Before the reading: what moves meanwhile is read again.
        self.moved.borrow_and_update();
        let Admitted { owner, services, .. } = &*self.admitted;
        let read = self.plane.store.feed_after(owner, services, self.cursor.as_ref(), BATCH).await?;
        let (events, cursor) = match read {
            FeedRead::Changes(events, cursor) => (events, cursor),
            FeedRead::SnapshotRequired => {
                self.step = Step::End;
                return Ok("event: snapshot.required\ndata: {}\n\n".to_owned());
            }
        };
        let last = self.step == Step::Last;
        let told = |event: &&FeedEvent| !(last && matches!(event.change, FeedChange::Approved(_)));
        // What is left out must come when it reads again: no id of the last part goes past it.
        let id = |event: &FeedEvent| (!last).then(|| at(event, &cursor));
        let mut part: String =
            events.iter().filter(told).map(|event| change(event, id(event).as_ref())).collect();
        if events.len() < BATCH {
            self.step = if last { Step::End } else { Step::Wait };
            if !last && self.heartbeat <= self.plane.clock.instant() {
                part.push_str(&self.beat(&cursor));
            }
        }
        self.cursor = Some(cursor);
        Ok(part)
    }

    /// Waits for a change, for the time of the next heartbeat, or until it may no longer be here. `None`: it is over.
    async fn wait(&mut self) -> Option<String> {
        let heartbeat = tokio::select! {
            _ = self.stopping.wait_for(|stop| *stop) => return None,
            () = self.seat.cut() => return Some(String::new()),
            moved = self.moved.changed() => {
                moved.ok()?;
                false
            }
            () = tokio::time::sleep_until(self.heartbeat.into()) => true,
        };
        if heartbeat {
            if let Some(cursor) = self.at_end() {
                return Some(self.beat(&cursor));
            }
        } else if let Some(cursor) = self.passed() {
            self.cursor = Some(cursor);
            return Some(String::new());
        }
        // At a heartbeat too: the word of a change may have been lost.
        self.step = Step::Read;
        Some(String::new())
    }

    /// Where it stands, if that is the end of the feed, as it was read for all streams, and if it may be here, as the last
    /// look at all of them found.
    fn at_end(&self) -> Option<Cursor> {
        let (streams, now) = (&self.plane.streams, self.plane.clock.instant());
        let is_end = |at: &Cursor| *self.head.borrow() == at.seq && streams.ends_at(at, now);
        self.cursor.clone().filter(|at| streams.looked(now) && is_end(at))
    }

    /// Where it stands after what is new, if nothing of that is for it.
    fn passed(&self) -> Option<Cursor> {
        let Admitted { owner, services, .. } = &*self.admitted;
        self.plane.streams.recent.passes(self.cursor.as_ref()?, owner, services)
    }

    /// Whether its key is in force and its services are there. Where no look at all streams counts it looks by itself.
    async fn still_allowed(&self) -> bool {
        let plane = &self.plane;
        if plane.streams.looked(plane.clock.instant()) {
            return !self.seat.is_cut();
        }
        let looked = streams::allowed(&plane.store, &[Arc::clone(&self.admitted)], plane.clock.now()).await;
        looked.map(|allowed| allowed.contains(&true)).unwrap_or_else(|fault| {
            tracing::warn!(%fault, "a stream of claims ends");
            false
        })
    }

    fn beat(&mut self, cursor: &Cursor) -> String {
        self.heartbeat = self.plane.clock.instant() + HEARTBEAT;
        let at = self.plane.clock.now().to_string();
        event("heartbeat", Some(cursor), &json!({ "cursor": cursor.to_string(), "at": at }))
    }
}

/// The cursor that stands at a change.
fn at(found: &FeedEvent, cursor: &Cursor) -> Cursor {
    Cursor { epoch: cursor.epoch.clone(), seq: found.seq, tag: found.tag.clone() }
}

/// A change, with the cursor that stands at it.
fn change(found: &FeedEvent, at: Option<&Cursor>) -> String {
    let gone =
        |id: &str| json!({ "claim_id": id, "service": found.service.as_str(), "at": found.at.to_string() });
    match &found.change {
        FeedChange::Approved(claim) => {
            let mut data = feed::view(claim);
            if let Some(fields) = data.as_object_mut() {
                fields.insert("at".to_owned(), found.at.to_string().into());
            }
            event("claim.approved", at, &data)
        }
        FeedChange::Revoked(id) => event("claim.revoked", at, &gone(id.as_str())),
        FeedChange::Expired(id) => event("claim.expired", at, &gone(id.as_str())),
    }
}

/// One event; JSON has no line ends of its own. Without a cursor its reader stands where it stood.
fn event(name: &str, cursor: Option<&Cursor>, data: &Value) -> String {
    let id = cursor.map(|cursor| format!("id: {cursor}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_without_a_cursor_leaves_its_reader_where_it_stood() {
        let cursor: Cursor = "0123456789abcdef-7-01234567".parse().unwrap();
        let told = event("claim.revoked", Some(&cursor), &json!({}));
        assert_eq!(told, "event: claim.revoked\nid: 0123456789abcdef-7-01234567\ndata: {}\n\n");
        assert_eq!(event("claim.revoked", None, &json!({})), "event: claim.revoked\ndata: {}\n\n");
    }
}
