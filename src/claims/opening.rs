//! Opens the stream of changes.

use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::control_plane::{CALL, ControlPlane, retry_after};
use super::events::Events;
use super::fault::FeedFault;
use super::page::{Cursor, error_code};
use crate::clock::Clock;
use crate::names::ConnectionId;

/// The largest answer that refuses a stream and is looked at.
const REFUSAL_BYTES: usize = 64 * 1024;
/// How long it may take to say why.
const REFUSAL: std::time::Duration = std::time::Duration::from_secs(2);

impl Events {
    /// Asks for the changes of these services after `since`. One key must open them all.
    ///
    /// # Errors
    /// When there is no answer, or another one than a stream.
    pub(super) async fn open(
        control_plane: &ControlPlane,
        services: Vec<ConnectionId>,
        since: &Cursor,
        clock: Clock,
    ) -> Result<Self, FeedFault> {
        let Some(first) = services.first() else { return Err(FeedFault::NoStream) };
        let bearer = control_plane.bearer(first).await?;
        let query = query(&services, since);
        let answer = control_plane.open("/v1/namespaces/claims/stream", &query, &bearer).await?;
        // A proxy that collects answers keeps back its head too.
        let answer = answer.ok_or(FeedFault::Silent { secs: CALL.as_secs() })?;
        match answer.status() {
            StatusCode::OK if is_event_stream(&answer) => Ok(Self::new(answer, services, clock)),
            StatusCode::OK => Err(FeedFault::NoEvents),
            status => {
                let retry_after = retry_after(answer.headers());
                Err(FeedFault::StreamStatus { status, code: refusal_code(answer).await, retry_after })
            }
        }
    }
}

fn query(services: &[ConnectionId], since: &Cursor) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for service in services {
        query.append_pair("service", service.as_str());
    }
    query.append_pair("since", since.as_str());
    query.finish()
}

fn is_event_stream(answer: &reqwest::Response) -> bool {
    let media = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The code of an answer that refuses a stream.
async fn refusal_code(mut answer: reqwest::Response) -> Option<String> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(part)) = answer.chunk().await {
            if body.len() + part.len() > REFUSAL_BYTES {
                break;
            }
            body.extend_from_slice(&part);
        }
    };
    // What came until then is looked at.
    let _ = tokio::time::timeout(REFUSAL, read).await;
    error_code(&body)
}
