//! The messages on the socket, each one JSON text.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One message. A message of a type that is not known is to be ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Frame {
    /// Control plane to gateway: execute this.
    Command(Command),
    /// Gateway to control plane: what came of it.
    Response(Reply),
    /// Are you there?
    Ping {
        /// The sender's time, in milliseconds since 1970.
        #[serde(default)]
        ts: i64,
    },
    /// Yes.
    Pong {
        /// The sender's time, in milliseconds since 1970.
        #[serde(default)]
        ts: i64,
    },
}

/// A request to the gateway's admin API, as it is asked for. Nothing is known of it until [`super::allow`] took it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Names it, also to whoever answers.
    pub request_id: String,
    /// The method.
    pub method: String,
    /// The path, with a query where there is one.
    pub path: String,
    /// The headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body's text.
    #[serde(default)]
    pub body: Option<String>,
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The command's.
    pub request_id: String,
    /// The admin API's status, or the status of the gateway's refusal.
    pub status: u16,
    /// The headers that are worth telling.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body's text.
    #[serde(default)]
    pub body: Option<String>,
    /// Why the command was not executed; `None` where the admin API answered.
    #[serde(default)]
    pub error: Option<String>,
}

impl Frame {
    /// As it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Texts and numbers always serialize; an empty message would be ignored.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As it was received; `None` where it is no message that is known here.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown.field("request_id", &self.request_id).field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_contract() {
        let command = r#"{"type":"command","request_id":"req_1","method":"GET","path":"/health","headers":{},"body":null}"#;
        assert_eq!(Frame::from_json(command).unwrap().to_json(), command);
        let reply =
            r#"{"type":"response","request_id":"req_1","status":200,"headers":{},"body":"{}","error":null}"#;
        assert_eq!(Frame::from_json(reply).unwrap().to_json(), reply);
        assert_eq!(Frame::Ping { ts: 5 }.to_json(), r#"{"type":"ping","ts":5}"#);
        assert_eq!(Frame::from_json(r#"{"type":"pong"}"#), Some(Frame::Pong { ts: 0 }));
    }

    #[test]
    fn what_is_left_out_is_none_and_what_is_not_known_is_no_message() {
        let short = r#"{"type":"command","request_id":"a","method":"GET","path":"/health"}"#;
        assert!(matches!(Frame::from_json(short), Some(Frame::Command(Command { body: None, .. }))));
        for wrong in ["", "{}", r#"{"type":"later"}"#, r#"{"type":"response"}"#, "[1]"] {
            assert_eq!(Frame::from_json(wrong), None, "{wrong}");
        }
    }
}
