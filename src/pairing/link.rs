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

use super::backoff::Failure;
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
    Passing(Failure, Trouble),
    /// It will never come.
    Final(Trouble),
}

/// Codes of a control plane of ours after which no further try makes sense, for a gateway that was paired too. Of another
/// one the statuses of the contract say as much.
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
                Err(away("CONTROL_PLANE_UNREACHABLE", message))
            }
        }
    }

    async fn upgrade(&self) -> Result<Socket, LinkFault> {
        let url = self.url();
        let key = generate_key();
        let failed = |message: String| passing(Failure::Refused, "PAIRING_FAILED", message);
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
            away("CONTROL_PLANE_UNREACHABLE", format!("the control plane cannot be reached: {cause}"))
        };
        let response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response, self.code.is_some()).await);
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

fn passing(failure: Failure, code: &str, message: String) -> LinkFault {
    LinkFault::Passing(failure, Trouble { code: code.to_owned(), message })
}

fn away(code: &str, message: String) -> LinkFault {
    passing(Failure::Away, code, message)
}

/// What the control plane says, where it says it in the envelope.
async fn refusal(mut response: reqwest::Response, with_code: bool) -> LinkFault {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        if body.len() + part.len() > MOST_REFUSAL_BYTES {
            break;
        }
        body.extend_from_slice(&part);
    }
    told(status, &body, with_code)
}

fn told(status: StatusCode, body: &[u8], with_code: bool) -> LinkFault {
    let failure = if status.is_server_error() { Failure::Away } else { Failure::Refused };
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
            if is_final(status, code, with_code) {
                LinkFault::Final(trouble)
            } else {
                LinkFault::Passing(failure, trouble)
            }
        }
        _ => passing(
            failure,
            "PAIRING_FAILED",
            format!("what answers at this address is no control plane that pairs: it said {status}"),
        ),
    }
}

/// Whether no further try makes sense: the session is over, or the code that was sent is wrong or of no session. A
/// signature that is refused says nothing of the session, and neither does a route that is not there.
fn is_final(status: StatusCode, code: &str, with_code: bool) -> bool {
    let of_the_session = !code.starts_with("AUTH_") && code != "NOT_FOUND";
    let by_status = match status {
        StatusCode::GONE => true,
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => with_code && of_the_session,
        _ => false,
    };
    by_status || FINAL.contains(&code)
}

/// Serves an open socket until it ends; gives why it ended. Changes that were begun by then are finished, as those of any
/// admin client that goes away.
pub(super) async fn serve(mut socket: Socket, admin: &Arc<Admin>, clock: &Clock) -> (Failure, Trouble) {
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
                    Some(Ok(Message::Close(frame))) => return closed(frame.as_ref()),
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

fn lost(message: &str) -> (Failure, Trouble) {
    (Failure::Away, Trouble { code: "PAIRING_LOST".to_owned(), message: message.to_owned() })
}

fn broke(error: &(dyn std::error::Error + 'static)) -> (Failure, Trouble) {
    lost(&format!("the connection broke: {}", root_cause(error)))
}

/// By the close codes from 4000 on (RFC 6455 §7.4.2) a control plane says that it does not want this connection: two
/// gateways with one key that come back at once would take each other's place for ever.
fn closed(frame: Option<&CloseFrame>) -> (Failure, Trouble) {
    let reason = frame.map(|frame| frame.reason.as_str()).unwrap_or_default();
    let shown: String = reason.chars().filter(|c| !c.is_control()).take(LONGEST_SENTENCE).collect();
    let (away, trouble) =
        lost(if shown.is_empty() { "the control plane closed the connection" } else { &shown });
    let refused = frame.is_some_and(|frame| u16::from(frame.code) >= 4000);
    (if refused { Failure::Refused } else { away }, trouble)
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

    fn said(status: u16, code: &str, with_code: bool) -> LinkFault {
        let body = format!(r#"{{"error":"a\nb","code":"{code}"}}"#);
        told(StatusCode::from_u16(status).unwrap(), body.as_bytes(), with_code)
    }

    fn trouble(code: &str) -> Trouble {
        Trouble { code: code.to_owned(), message: "ab".to_owned() }
    }

    #[test]
    fn refusals_that_no_try_overcomes_are_final_and_others_pass() {
        for code in FINAL {
            assert_eq!(said(403, code, false), LinkFault::Final(trouble(code)));
        }
        for (status, code, failure) in [
            (403, "AUTH_SIGNATURE_INVALID", Failure::Refused),
            (404, "NOT_FOUND", Failure::Refused),
            (429, "RATE_LIMITED", Failure::Refused),
            (503, "DATABASE_UNAVAILABLE", Failure::Away),
            (500, "INTERNAL", Failure::Away),
        ] {
            for with_code in [true, false] {
                assert_eq!(said(status, code, with_code), LinkFault::Passing(failure, trouble(code)));
            }
        }
    }

    #[test]
    fn statuses_of_the_contract_are_final_whatever_a_control_plane_calls_them() {
        for with_code in [true, false] {
            assert_eq!(said(410, "SESSION_EXPIRED", with_code), LinkFault::Final(trouble("SESSION_EXPIRED")));
        }
        for status in [403, 404] {
            assert_eq!(said(status, "INVALID", true), LinkFault::Final(trouble("INVALID")));
            // What was paired once does not end by a word that nobody knows.
            let passing = LinkFault::Passing(Failure::Refused, trouble("INVALID"));
            assert_eq!(said(status, "INVALID", false), passing);
        }
    }

    #[test]
    fn what_is_no_envelope_is_no_control_plane_s_word() {
        for body in ["", "<html>", "[]", r#"{"code":"a b","error":"x"}"#] {
            for (status, expected) in [(404, Failure::Refused), (410, Failure::Refused), (502, Failure::Away)]
            {
                let fault = told(StatusCode::from_u16(status).unwrap(), body.as_bytes(), true);
                assert!(
                    matches!(&fault, LinkFault::Passing(failure, trouble)
                             if *failure == expected && trouble.code == "PAIRING_FAILED"),
                    "{status} {body}"
                );
            }
        }
    }

    #[test]
    fn connection_that_the_control_plane_does_not_want_is_a_refusal() {
        let frame = |code: u16| CloseFrame { code: code.into(), reason: "be\rcause".into() };
        for (code, failure) in [(1001, Failure::Away), (4001, Failure::Refused), (4002, Failure::Refused)] {
            let (found, trouble) = closed(Some(&frame(code)));
            assert_eq!((found, trouble.message.as_str()), (failure, "because"), "{code}");
        }
        assert_eq!(closed(None).0, Failure::Away);
    }
}
