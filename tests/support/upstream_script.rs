//! What an upstream answers, as the test says.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One answer.
#[derive(Clone)]
pub enum Reply {
    /// A whole answer with a content-length.
    Fixed { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// 200 with the request as JSON: `{"method","target","headers":[[name,value],…],"body"}`.
    Echo,
    /// No answer; the connection stays open until the peer closes it.
    Hang,
    /// No answer; the connection is closed.
    Unanswered,
    /// A content-length of `promised`, then only `sent`, then the end of the connection.
    Cut { promised: usize, sent: Vec<u8> },
    /// A chunked answer whose every step the test takes.
    Streamed { content_type: String, steps: Steps },
    /// 101 to the protocol that the request named, then every byte back.
    Upgrade,
    /// These bytes as they are, then the end of the connection.
    Raw(Vec<u8>),
    /// That answer, then the end of the connection, which no header announced.
    ThenClose(Box<Reply>),
}

impl Reply {
    /// 200 with this body as plain text.
    pub fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    /// A status with this body as plain text.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Fixed {
            status,
            headers: vec![("content-type".into(), "text/plain".into())],
            body: body.as_bytes().to_vec(),
        }
    }

    /// A fixed answer with one header more; another kind of answer stays what it is.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Fixed { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// 302 to `location`.
    pub fn redirect(location: &str) -> Self {
        Self::status(302, "").with("location", location)
    }

    /// A chunked answer and the hand that drives it.
    pub fn streamed(content_type: &str) -> (StreamHand, Self) {
        let (sender, receiver) = mpsc::channel();
        let steps = Steps(Arc::new(Mutex::new(receiver)));
        (StreamHand(sender), Self::Streamed { content_type: content_type.into(), steps })
    }

    /// This answer, then the end of the connection.
    pub fn then_close(self) -> Self {
        Self::ThenClose(Box::new(self))
    }
}

/// Drives a streamed answer. Dropped before [`StreamHand::finish`], it cuts the answer.
pub struct StreamHand(Sender<Step>);

impl StreamHand {
    /// Sends one chunk.
    pub fn send(&self, chunk: impl AsRef<[u8]>) {
        self.0.send(Step::Chunk(chunk.as_ref().to_vec())).expect("the upstream no longer streams");
    }

    /// Ends the answer as it should end.
    pub fn finish(self) {
        let _ = self.0.send(Step::Finish);
    }

    /// Closes the connection in the middle of the answer.
    pub fn cut(self) {}
}

/// The upstream's side of a [`StreamHand`].
#[derive(Clone)]
pub struct Steps(Arc<Mutex<Receiver<Step>>>);

pub(super) enum Step {
    Chunk(Vec<u8>),
    Finish,
}

impl Steps {
    /// The next step; `None` when the answer is to be cut, which it also is once `gone` says that its reader is.
    pub(super) fn next(&self, gone: impl Fn() -> bool) -> Option<Step> {
        let receiver = self.0.lock().unwrap();
        loop {
            match receiver.recv_timeout(Duration::from_millis(10)) {
                Ok(step) => return Some(step),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if gone() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
