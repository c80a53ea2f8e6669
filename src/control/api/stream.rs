//! `GET /v1/namespaces/claims/stream`: what changes in the feed, as Server-Sent Events.
//!
//! The body is made when the client is ready to take more of it, one batch at a time: a slow reader costs one batch of
//! memory, and one that reads nothing is let go by the listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Uri;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Route;
use super::asked::Asked;
use super::body::parsed;
use super::feed;
use super::places::Place;
use super::refusal::{Kind, Refusal};
use super::signed::ServiceCaller;
use crate::control::ControlPlane;
use crate::control::domain::feed::{Cursor, FeedChange, FeedEvent, FeedRead};
use crate::control::metrics::OpenStream;
use crate::control::store::StoreFault;
use crate::names::{Namespace, ServiceSlug};

/// Changes of one batch.
const BATCH: usize = 500;
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// After the feed has moved, what follows at once is read with it.
const GATHER: Duration = Duration::from_millis(20);
/// Services of one stream at most.
const SERVICES: usize = 1_000;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::new("/v1/namespaces/claims/stream", get(open))]
}

async fn open(
    State(plane): State<Arc<ControlPlane>>,
    uri: Uri,
    headers: HeaderMap,
    caller: ServiceCaller,
) -> Result<Response, Refusal> {
    let asked = Asked::read(&uri, &["service", "since"])?;
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
    let place = plane.streams.take(&caller.caller.service.owner).ok_or_else(|| {
        Refusal::new(Kind::Overloaded, "as many streams are open as there may be; retry later").retry(5)
    })?;
    let reader = Reader::new(plane, caller, services, since, place);
    let body = Body::from_stream(futures::stream::unfold(reader, Reader::next));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, body).into_response())
}

/// One reader of the feed.
struct Reader {
    plane: Arc<ControlPlane>,
    owner: Namespace,
    services: Vec<ServiceSlug>,
    key_sha256: String,
    /// Where it stands; `None`: at the end, wherever that is.
    cursor: Option<Cursor>,
    head: watch::Receiver<i64>,
    stopping: watch::Receiver<bool>,
    /// When it is told the next time that it is alive.
    heartbeat: Instant,
    /// When it is looked the next time whether it may still read, however much there is to read and however slowly it
    /// does.
    look_again: Instant,
    step: Step,
    _place: Place,
    _counted: OpenStream,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be changes.
    Read,
    /// It has all of them.
    Wait,
    /// It was told what ends it.
    End,
}

impl Reader {
    fn new(
        plane: Arc<ControlPlane>,
        caller: ServiceCaller,
        services: Vec<ServiceSlug>,
        cursor: Option<Cursor>,
        place: Place,
    ) -> Self {
        Self {
            owner: caller.caller.service.owner,
            services,
            key_sha256: caller.key_sha256,
            cursor,
            head: plane.store.feed_head(),
            stopping: plane.stopping(),
            // The first one comes as soon as it has all changes.
            heartbeat: plane.clock.instant(),
            look_again: plane.clock.instant() + HEARTBEAT,
            step: Step::Read,
            _place: place,
            _counted: plane.metrics.stream(),
            plane,
        }
    }

    /// The next part of the body; `None` ends it.
    async fn next(mut self) -> Option<(Result<Bytes, StoreFault>, Self)> {
        loop {
            let part = match self.step {
                Step::End => return None,
                Step::Read if self.look_again <= self.plane.clock.instant() => {
                    if !self.still_allowed().await {
                        return None;
                    }
                    self.look_again = self.plane.clock.instant() + HEARTBEAT;
                    continue;
                }
                Step::Read => match self.read().await {
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
        self.head.borrow_and_update();
        let read =
            self.plane.store.feed_after(&self.owner, &self.services, self.cursor.as_ref(), BATCH).await?;
        let (events, cursor) = match read {
            FeedRead::Changes(events, cursor) => (events, cursor),
            FeedRead::SnapshotRequired => {
                self.step = Step::End;
                return Ok("event: snapshot.required\ndata: {}\n\n".to_owned());
            }
        };
        let mut part: String = events.iter().map(|event| change(event, &cursor)).collect();
        if events.len() < BATCH {
            self.step = Step::Wait;
            if self.heartbeat <= self.plane.clock.instant() {
                part.push_str(&self.beat(&cursor));
            }
        }
        self.cursor = Some(cursor);
        Ok(part)
    }

    /// Waits for a change or for the time of the next heartbeat. `None`: it is over.
    async fn wait(&mut self) -> Option<String> {
        let heartbeat = tokio::select! {
            _ = self.stopping.wait_for(|stop| *stop) => return None,
            moved = self.head.changed() => {
                moved.ok()?;
                false
            }
            () = tokio::time::sleep_until(self.heartbeat.into()) => true,
        };
        if !heartbeat {
            tokio::time::sleep(GATHER).await;
        }
        // At a heartbeat too: the word of a change may have been lost.
        self.step = Step::Read;
        Some(String::new())
    }

    /// Whether the key is still in force, and the services are still there.
    async fn still_allowed(&self) -> bool {
        let plane = &self.plane;
        let looked = async {
            let caller = plane.store.caller_of_key(&self.key_sha256, plane.clock.now()).await?;
            let Some(caller) = caller else { return Ok::<bool, StoreFault>(false) };
            if !caller.all_services {
                // With its one service the key would be gone as well.
                return Ok(true);
            }
            let there = plane.store.services(&caller.service.owner).await?;
            Ok(self.services.iter().all(|wanted| there.iter().any(|service| service.slug == *wanted)))
        };
        looked.await.unwrap_or_else(|fault| {
            tracing::warn!(%fault, "a stream of claims ends");
            false
        })
    }

    fn beat(&mut self, cursor: &Cursor) -> String {
        self.heartbeat = self.plane.clock.instant() + HEARTBEAT;
        let at = self.plane.clock.now().to_string();
        event("heartbeat", cursor, &json!({ "cursor": cursor.to_string(), "at": at }))
    }
}

/// A change, with the cursor that stands at it.
fn change(found: &FeedEvent, cursor: &Cursor) -> String {
    let at = Cursor { epoch: cursor.epoch.clone(), seq: found.seq };
    let gone =
        |id: &str| json!({ "claim_id": id, "service": found.service.as_str(), "at": found.at.to_string() });
    match &found.change {
        FeedChange::Approved(claim) => {
            let mut data = feed::view(claim);
            if let Some(fields) = data.as_object_mut() {
                fields.insert("at".to_owned(), found.at.to_string().into());
            }
            event("claim.approved", &at, &data)
        }
        FeedChange::Revoked(id) => event("claim.revoked", &at, &gone(id.as_str())),
        FeedChange::Expired(id) => event("claim.expired", &at, &gone(id.as_str())),
    }
}

/// One event; JSON has no line ends of its own.
fn event(name: &str, cursor: &Cursor, data: &Value) -> String {
    format!("event: {name}\nid: {cursor}\ndata: {data}\n\n")
}
