//! One connection to the control plane: the signed upgrade, and what is said over it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, StatusCode};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use url::Url;

use super::execute::{execute, refused};
use crate::admin::{Admin, Trouble};
use crate::agent::{client, root_cause};
use crate::clock::Clock;
use crate::names::{Namespace, SessionId};
use crate::protocol::pairing::{
    DEAD_AFTER_SECS, Frame, MOST_IN_FLIGHT, MOST_MESSAGE_BYTES, PING_EVERY_SECS, PairCode,
};
use crate::protocol::sealed::SealingPublicKey;
use crate::protocol::{Identity, Unsigned, sign};

/// Commands executed at once; further ones wait for their turn.
const AT_ONCE: usize = 16;
/// The whole upgrade, TLS included.
const UPGRADE_WITHIN: Duration = Duration::from_secs(15);
/// For one message to be taken by the system.
const SEND: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(PING_EVERY_SECS);
const DEAD_AFTER: Duration = Duration::from_secs(DEAD_AFTER_SECS);
/// Of a refusal's body. An envelope has some hundred bytes.
const MOST_REFUSAL_BYTES: usize = 64 * 1024;
/// Of the control plane's sentence.
const LONGEST_SENTENCE: usize = 256;

pub(super) type Socket = WebSocketStream<Upgraded>;

/// Who connects to what.
pub(super) struct Caller<'a> {
    pub(super) identity: &'a Identity,
    pub(super) gateway_id: &'a str,
    pub(super) sealing_key: Option<SealingPublicKey>,
    pub(super) session: &'a SessionId,
    pub(super) namespace: &'a Namespace,
    pub(super) api_url: &'a Url,
    pub(super) code: Option<&'a PairCode>,
    pub(super) clock: &'a Clock,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkFault {
    /// It may come later.
    Passing(Trouble),
    /// It will never come.
    Final(Trouble),
}

/// The control plane's codes after which no further try makes sense.
const FINAL: [&str; 6] = [
    "PAIRING_NOT_FOUND",
    "PAIRING_EXPIRED",
    "PAIRING_REVOKED",
    "PAIRING_CODE_INVALID",
    "PAIRING_TOO_MANY_TRIES",
    "PAIRING_OTHER_GATEWAY",
];

impl Caller<'_> {
    /// Opens a socket. Gateway id and sealing key stand in the query, which every signature covers as part of
    /// `@target-uri`, so that nobody can put others in their place.
    pub(super) async fn open(&self) -> Result<Socket, LinkFault> {
        match tokio::time::timeout(UPGRADE_WITHIN, self.upgrade()).await {
            Ok(opened) => opened,
            Err(_) => {
                let message = format!("no answer within {} s", UPGRADE_WITHIN.as_secs());
                Err(passing("CONTROL_PLANE_UNREACHABLE", message))
            }
        }
    }

    async fn upgrade(&self) -> Result<Socket, LinkFault> {
        let url = self.url();
        let key = generate_key();
        let failed = |message: String| passing("PAIRING_FAILED", message);
        let http = client(&url, None, true).map_err(|fault| failed(fault.to_string()))?;
        let request = http
            .get(url.clone())
            .headers(self.signed(&url).map_err(failed)?)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        // The address holds the code, and stays out of the sentence.
        let unreachable = |error: reqwest::Error| {
            let cause = root_cause(&error.without_url());
            passing("CONTROL_PLANE_UNREACHABLE", format!("the control plane cannot be reached: {cause}"))
        };
        let response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let accept = derive_accept_key(key.as_bytes());
        if response
            .headers()
            .get(SEC_WEBSOCKET_ACCEPT)
            .is_none_or(|sent| sent.as_bytes() != accept.as_bytes())
        {
            return Err(failed("the answer to the upgrade is not one of a WebSocket".to_owned()));
        }
        let upgraded = response.upgrade().await.map_err(unreachable)?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MOST_MESSAGE_BYTES))
            .max_frame_size(Some(MOST_MESSAGE_BYTES));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }

    fn url(&self) -> Url {
        let mut url = self.api_url.clone();
        url.set_path(&format!("{}/v1/gateway/pairing/connect", self.api_url.path().trim_end_matches('/')));
        let mut query = url.query_pairs_mut();
        query
            .clear()
            .append_pair("session_id", self.session.as_str())
            .append_pair("namespace", self.namespace.as_str())
            .append_pair("gateway_id", self.gateway_id);
        if let Some(key) = &self.sealing_key {
            query.append_pair("sealing_key", &key.to_string());
        }
        if let Some(code) = self.code {
            query.append_pair("code", code.expose());
        }
        drop(query);
        url
    }

    fn signed(&self, url: &Url) -> Result<HeaderMap, String> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|_| "the system gives no random bytes".to_owned())?;
        let unsigned = Unsigned {
            method: "GET",
            uri: url.as_str(),
            content_digest: None,
            subject: None,
            agent_id: None,
            nonce: &format!("{:032x}", u128::from_be_bytes(random)),
            now: self.clock.now(),
        };
        let headers = sign(self.identity, &unsigned).map_err(|fault| fault.to_string())?;
        Ok(headers.into_iter().collect())
    }
}

fn passing(code: &str, message: String) -> LinkFault {
    LinkFault::Passing(Trouble { code: code.to_owned(), message })
}

/// What the control plane says, where it says it in the envelope.
async fn refusal(mut response: reqwest::Response) -> LinkFault {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        if body.len() + part.len() > MOST_REFUSAL_BYTES {
            break;
        }
        body.extend_from_slice(&part);
    }
    told(status, &body)
}

fn told(status: StatusCode, body: &[u8]) -> LinkFault {
    let envelope: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| envelope.get(name).and_then(serde_json::Value::as_str);
    let is_code = |code: &&str| {
        code.len() <= 64
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'0'..=b'9'))
    };
    match (text("code").filter(is_code), text("error")) {
        (Some(code), Some(sentence)) => {
            let shown = sentence.chars().filter(|c| !c.is_control()).take(LONGEST_SENTENCE);
            let trouble = Trouble { code: code.to_owned(), message: shown.collect() };
            if FINAL.contains(&code) { LinkFault::Final(trouble) } else { LinkFault::Passing(trouble) }
        }
        _ => passing(
            "PAIRING_FAILED",
            format!("what answers at this address is no control plane that pairs: it said {status}"),
        ),
    }
}

/// Serves an open socket until it ends; gives why it ended. Changes that were begun by then are finished, as those of any
/// admin client that goes away.
pub(super) async fn serve(mut socket: Socket, admin: &Arc<Admin>, clock: &Clock) -> Trouble {
    let mut work = Work::new(admin, clock);
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut silence = pin!(tokio::time::sleep(DEAD_AFTER));
    loop {
        let frame = tokio::select! {
            () = silence.as_mut() => return lost("the control plane has been silent for too long"),
            _ = pings.tick() => Some(Frame::Ping { ts: clock.now().millis() }),
            Some(reply) = work.replied.recv() => Some(reply),
            received = socket.next() => {
                silence.set(tokio::time::sleep(DEAD_AFTER));
                match received {
                    Some(Ok(Message::Close(frame))) => return lost(&closed(frame.as_ref())),
                    Some(Ok(message)) => message.to_text().ok().and_then(|text| work.take(text)),
                    Some(Err(error)) => return broke(&error),
                    None => return lost("the connection was closed"),
                }
            }
        };
        if let Some(frame) = frame {
            let sent = socket.send(Message::text(fitting(frame, clock)));
            match tokio::time::timeout(SEND, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return broke(&error),
                Err(_) => return lost("the control plane takes no more messages"),
            }
        }
    }
}

/// The commands of one connection.
struct Work {
    admin: Arc<Admin>,
    clock: Clock,
    turns: Arc<Semaphore>,
    running: JoinSet<()>,
    replies: mpsc::Sender<Frame>,
    replied: mpsc::Receiver<Frame>,
}

impl Work {
    fn new(admin: &Arc<Admin>, clock: &Clock) -> Self {
        let (replies, replied) = mpsc::channel(MOST_IN_FLIGHT);
        Self {
            admin: Arc::clone(admin),
            clock: clock.clone(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            running: JoinSet::new(),
            replies,
            replied,
        }
    }

    /// Takes one message; gives what is to be said to it at once.
    fn take(&mut self, text: &str) -> Option<Frame> {
        while self.running.try_join_next().is_some() {}
        match Frame::from_json(text)? {
            Frame::Ping { .. } => Some(Frame::Pong { ts: self.clock.now().millis() }),
            Frame::Command(command) if self.running.len() >= MOST_IN_FLIGHT => {
                let sentence = "too many commands are under way in this gateway; wait for one of them";
                let code = "PAIRING_COMMANDS_LIMIT";
                Some(Frame::Response(refused(command.request_id, &self.clock, 429, code, sentence)))
            }
            Frame::Command(command) => {
                let (admin, clock) = (Arc::clone(&self.admin), self.clock.clone());
                let (turns, replies) = (Arc::clone(&self.turns), self.replies.clone());
                self.running.spawn(async move {
                    let _turn = turns.acquire().await;
                    let reply = Frame::Response(execute(&admin, &clock, command).await);
                    // With the socket gone, nobody waits for it.
                    let _ = replies.send(reply).await;
                });
                None
            }
            Frame::Pong { .. } | Frame::Response(_) => None,
        }
    }
}

fn lost(message: &str) -> Trouble {
    Trouble { code: "PAIRING_LOST".to_owned(), message: message.to_owned() }
}

fn broke(error: &(dyn std::error::Error + 'static)) -> Trouble {
    lost(&format!("the connection broke: {}", root_cause(error)))
}

fn closed(frame: Option<&CloseFrame>) -> String {
    let reason = frame.map(|frame| frame.reason.as_str()).unwrap_or_default();
    let shown: String = reason.chars().filter(|c| !c.is_control()).take(LONGEST_SENTENCE).collect();
    if shown.is_empty() { "the control plane closed the connection".to_owned() } else { shown }
}

/// A message that the other side takes: a reply that is too large in JSON is replaced by saying so.
fn fitting(frame: Frame, clock: &Clock) -> String {
    let text = frame.to_json();
    match frame {
        Frame::Response(reply) if text.len() > MOST_MESSAGE_BYTES => {
            let sentence = "the answer is larger than a pairing relays";
            let code = "GATEWAY_RESPONSE_TOO_LARGE";
            Frame::Response(refused(reply.request_id, clock, 502, code, sentence)).to_json()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_no_try_overcomes_are_final_and_others_pass() {
        let said = |status: u16, code: &str| {
            let body = format!(r#"{{"error":"a\nb","code":"{code}"}}"#);
            told(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        for code in FINAL {
            let trouble = Trouble { code: code.to_owned(), message: "ab".to_owned() };
            assert_eq!(said(403, code), LinkFault::Final(trouble));
        }
        for (status, code) in
            [(403, "AUTH_SIGNATURE_INVALID"), (503, "DATABASE_UNAVAILABLE"), (404, "NOT_FOUND")]
        {
            assert!(matches!(said(status, code), LinkFault::Passing(trouble) if trouble.code == code));
        }
        for body in ["", "<html>", "[]", r#"{"code":"a b","error":"x"}"#] {
            let fault = told(StatusCode::NOT_FOUND, body.as_bytes());
            assert!(
                matches!(fault, LinkFault::Passing(trouble) if trouble.code == "PAIRING_FAILED"),
                "{body}"
            );
        }
    }
}
