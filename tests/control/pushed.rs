//! The stand-in's feed: changes in one order, and streams of them.

use std::sync::Mutex;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sigilum::clock::Clock;
use tokio::sync::{mpsc, watch};

/// How often a stream's heart beats here.
const BEAT: Duration = Duration::from_millis(100);

/// What a request for a stream gets.
#[derive(Clone)]
pub enum Streaming {
    /// This status: the control plane has none, or refuses it.
    Status(u16),
    /// The changes after `since`, a heartbeat, then changes and heartbeats as they come.
    Live,
    /// The same without any heartbeat.
    Heartless,
    /// This text, and then nothing more.
    Text(String),
    /// This text again and again.
    Endless(&'static str),
    /// 200 and a page of HTML.
    Html,
}

/// One change: its number, its service, and its text.
#[derive(Clone)]
struct Change {
    seq: u64,
    service: String,
    text: String,
}

/// The feed.
pub struct Pushed {
    clock: Clock,
    streaming: Mutex<Streaming>,
    changes: Mutex<Vec<Change>>,
    /// A number of the database; streams with a cursor of another one are sent to the pages.
    epoch: Mutex<u64>,
    head: watch::Sender<u64>,
    /// Streams of earlier generations end.
    generation: watch::Sender<u64>,
}

impl Pushed {
    pub fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            streaming: Mutex::new(Streaming::Status(404)),
            changes: Mutex::default(),
            epoch: Mutex::new(7),
            head: watch::Sender::new(0),
            generation: watch::Sender::new(0),
        }
    }

    pub fn stream(&self, streaming: Streaming) {
        *self.streaming.lock().unwrap() = streaming;
    }

    pub fn cut(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// From now on a cursor that was given before means nothing.
    pub fn new_epoch(&self) {
        *self.epoch.lock().unwrap() += 1;
    }

    pub fn cursor(&self) -> String {
        format!("{:016x}-{}", *self.epoch.lock().unwrap(), *self.head.borrow())
    }

    pub fn push(&self, name: &str, mut data: Value) {
        let service = data["service"].as_str().unwrap().to_owned();
        data["at"] = json!(self.clock.now().to_string());
        let mut changes = self.changes.lock().unwrap();
        let seq = *self.head.borrow() + 1;
        let epoch = *self.epoch.lock().unwrap();
        let text = format!("id: {epoch:016x}-{seq}\nevent: {name}\ndata: {data}\n\n");
        changes.push(Change { seq, service, text });
        self.head.send_replace(seq);
    }

    /// The answer to a request for these services after `since`.
    pub fn answer(self: &std::sync::Arc<Self>, services: Vec<String>, since: &str) -> Response {
        let streaming = self.streaming.lock().unwrap().clone();
        let (sender, receiver) = mpsc::channel::<String>(16);
        match streaming {
            Streaming::Status(status) => {
                let envelope = json!({ "error": "no", "code": "NO_STREAM" }).to_string();
                return (StatusCode::from_u16(status).unwrap(), envelope).into_response();
            }
            Streaming::Html => return axum::response::Html("<p>hello</p>").into_response(),
            Streaming::Text(text) => {
                let until = self.generation.subscribe();
                tokio::spawn(async move {
                    let _ = sender.send(text).await;
                    end_of_generation(until).await;
                });
            }
            Streaming::Endless(text) => {
                tokio::spawn(async move { while sender.send(text.to_owned()).await.is_ok() {} });
            }
            Streaming::Live | Streaming::Heartless => {
                let (this, since) = (std::sync::Arc::clone(self), since.to_owned());
                let beats = matches!(streaming, Streaming::Live);
                tokio::spawn(async move { this.follow(services, &since, beats, &sender).await });
            }
        }
        let parts = futures::stream::unfold(receiver, |mut receiver| async move {
            let part = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(part)), receiver))
        });
        ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(parts)).into_response()
    }

    async fn follow(&self, services: Vec<String>, since: &str, beats: bool, to: &mpsc::Sender<String>) {
        let (epoch, seq) = since.split_once('-').unwrap();
        let mut at: u64 = seq.parse().unwrap();
        if epoch != format!("{:016x}", *self.epoch.lock().unwrap()) {
            let _ = to.send("event: snapshot.required\ndata: {}\n\n".to_owned()).await;
            return;
        }
        let mut head = self.head.subscribe();
        let end = end_of_generation(self.generation.subscribe());
        tokio::pin!(end);
        loop {
            head.borrow_and_update();
            let news: Vec<Change> =
                self.changes.lock().unwrap().iter().filter(|change| change.seq > at).cloned().collect();
            for change in news {
                at = change.seq;
                if services.contains(&change.service) && to.send(change.text).await.is_err() {
                    return;
                }
            }
            let cursor = format!("{epoch}-{at}");
            let data = json!({ "cursor": cursor, "at": self.clock.now().to_string() });
            if beats && to.send(format!("id: {cursor}\nevent: heartbeat\ndata: {data}\n\n")).await.is_err() {
                return;
            }
            tokio::select! {
                _ = head.changed() => {}
                () = tokio::time::sleep(BEAT) => {}
                () = &mut end => return,
            }
        }
    }
}

async fn end_of_generation(mut generation: watch::Receiver<u64>) {
    generation.mark_unchanged();
    let _ = generation.changed().await;
}
