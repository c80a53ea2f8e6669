//! Who answers: a GET or two of what should run, each given up after a few seconds.

use std::time::Duration;

use reqwest::header::DATE;
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use super::Failure;
use super::ground::Ground;
use crate::agent::{client, root_cause};
use crate::clock::UnixTime;

/// A whole call.
const CALL: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes; what is longer is none of ours.
const LONGEST: usize = 64 * 1024;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// The other side's clock, to the second.
    pub(super) date: Option<UnixTime>,
    /// Its body; null where it is no JSON.
    pub(super) json: Value,
}

impl Answer {
    /// Whether it says that all is well.
    pub(super) fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// What it says is wrong.
    pub(super) fn problem(&self) -> String {
        match self.json.get("error").and_then(Value::as_str) {
            Some(sentence) => sentence.to_owned(),
            None => format!("it answers {}", self.status),
        }
    }
}

/// A GET of `path` at `origin`; else why no answer came.
pub(super) async fn get(origin: &str, path: &str) -> Result<Answer, String> {
    let url = Url::parse(&format!("{}{path}", origin.trim_end_matches('/')))
        .map_err(|_| format!("{origin} is no URL"))?;
    let http = client(&url, None, false).map_err(|fault| fault.to_string())?;
    let asked = async {
        let mut answer = http.get(url).send().await?;
        let (status, date) = (answer.status().as_u16(), answer.headers().get(DATE).cloned());
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            body.extend_from_slice(&part);
            if body.len() > LONGEST {
                break;
            }
        }
        let date = date.as_ref().and_then(|date| date.to_str().ok()).and_then(http_date);
        Ok(Answer { status, date, json: serde_json::from_slice(&body).unwrap_or_default() })
    };
    match tokio::time::timeout(CALL, asked).await {
        Ok(answered) => answered.map_err(|error: reqwest::Error| root_cause(&error)),
        Err(_) => Err(format!("no answer within {} s", CALL.as_secs())),
    }
}

/// Waits until each of these is ready, for `patience` at the most and not beyond a stop; then what is wrong with the
/// first that is not.
pub(super) fn until_ready(ground: &Ground, origins: &[&str], patience: Duration) -> Result<(), String> {
    let mut stopped = ground.stopped();
    ground.runtime().block_on(async {
        let mut wrong = String::new();
        let all = async {
            for origin in origins {
                loop {
                    wrong = match get(origin, "/health/ready").await {
                        Ok(answer) if answer.is_ok() => break,
                        Ok(answer) => format!("{origin}: {}", answer.problem()),
                        Err(cause) => format!("{origin}: {cause}"),
                    };
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        tokio::select! {
            ready = tokio::time::timeout(patience, all) => ready.map_err(|_| wrong),
            _ = stopped.wait_for(|stop| *stop) => Err("it was told to stop".to_owned()),
        }
    })
}

/// A GET as [`get`] makes it, for a command that asks nothing else.
pub(super) fn get_one(origin: &str, path: &str) -> Result<Result<Answer, String>, Failure> {
    asking(|runtime| runtime.block_on(get(origin, path)))
}

/// A runtime for a command that asks one thing after the other. What was given up on, such as the look-up of a name that
/// no server answers, is not waited for at its end.
pub(super) fn asking<T>(ask: impl FnOnce(&Runtime) -> T) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = ask(&runtime);
    runtime.shutdown_background();
    Ok(told)
}

/// The fixed form of an HTTP date (RFC 9110, section 5.6.7), which is one of RFC 2822 in GMT.
fn http_date(text: &str) -> Option<UnixTime> {
    let at = time::OffsetDateTime::parse(
        &text.replace("GMT", "+0000"),
        &time::format_description::well_known::Rfc2822,
    );
    at.ok().map(|at| UnixTime::from_secs(at.unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_on_is_not_waited_for() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel();
        asking(|runtime| {
            // The look-up of a name is such a task.
            runtime.spawn_blocking(move || {
                begin.send(()).unwrap();
                let _ = ended.recv();
            });
            begun.recv().unwrap();
        })
        .unwrap();
        // Had it been waited for, this would not be reached.
        drop(end);
    }

    #[test]
    fn date_of_an_answer_is_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(UnixTime::from_secs(784_111_777)));
        assert_eq!(http_date("yesterday"), None);
    }
}
