//! The decision log: one line for each decision. No secret, signature, certificate or query is ever in it.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use siphasher::sip::SipHasher24;
use tracing::Level;

/// The target of decision lines.
pub(super) const TARGET: &str = "sigilum::decision";
/// The longest path and method that are written, in bytes; more is cut, so that a line stays short.
const PATH_BYTES: usize = 1024;
const METHOD_BYTES: usize = 32;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed and answered by the upstream.
    Allowed,
    /// Refused by the gateway.
    Rejected,
    /// Allowed, then failed towards the upstream.
    Error,
}

impl Outcome {
    /// As the decision log says it.
    fn verdict(self) -> &'static str {
        match self {
            Self::Allowed => "allow",
            Self::Rejected => "deny",
            Self::Error => "error",
        }
    }
}

/// How identities are logged.
#[derive(Clone)]
pub enum Identities {
    /// As keyed fingerprints under this key, stable while the key is. Without the key nobody can try out names.
    Fingerprint([u8; 16]),
    /// As they are.
    Plain,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fingerprint(_) => "Fingerprint([redacted])",
            Self::Plain => "Plain",
        })
    }
}

/// One decision, as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// The connection asked for, where it is a configured one.
    pub connection: Option<&'a str>,
    /// What became of the request.
    pub outcome: Outcome,
    /// The refusal's or fault's code.
    pub code: Option<&'a str>,
    /// The refusal's `SIG_*` reason.
    pub reason: Option<&'a str>,
    /// Namespace, subject and agent name, once they are verified.
    pub principal: Option<(&'a str, &'a str, Option<&'a str>)>,
    /// The id of the claim that allowed it.
    pub claim: Option<&'a str>,
    /// The request's method.
    pub method: &'a str,
    /// The path at the upstream. A query is cut off.
    pub path: &'a str,
    /// The status that the client got.
    pub status: u16,
    /// The client's address; it is masked to /24 or /64.
    pub client: Option<IpAddr>,
    /// From the request's first byte to the answer's last.
    pub total: Duration,
    /// What the upstream took of it.
    pub upstream: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// Writes decisions to the log, under the target `sigilum::decision`.
#[derive(Debug)]
pub struct DecisionLog {
    identities: Identities,
    allowed_too: bool,
}

/// An event of the given constant level, which tracing wants known where it is written.
macro_rules! line {
    ($level:expr, $decision:expr, $who:expr) => {
        tracing::event!(
            target: TARGET,
            $level,
            request_id = $decision.request_id,
            connection = $decision.connection,
            decision = $decision.outcome.verdict(),
            code = $decision.code,
            reason = $decision.reason,
            principal = $who.principal,
            namespace = $who.namespace,
            subject = $who.subject,
            agent = $who.agent,
            claim = $decision.claim,
            method = cut($decision.method, METHOD_BYTES),
            path = path($decision.path),
            status = $decision.status,
            duration_ms = millis($decision.total),
            upstream_ms = $decision.upstream.map(millis),
            request_bytes = $decision.request_bytes,
            response_bytes = $decision.response_bytes,
            client = $decision.client.map(masked),
            "decision"
        )
    };
}

impl DecisionLog {
    /// `allowed_too`: allowed requests are written as well as refused ones (`log.proxy_requests`).
    #[must_use]
    pub fn new(identities: Identities, allowed_too: bool) -> Self {
        Self { identities, allowed_too }
    }

    /// Whether a decision of this outcome would be written: what a caller need not gather when it would not.
    #[must_use]
    pub fn enabled(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Allowed => self.allowed_too && tracing::enabled!(target: TARGET, Level::INFO),
            Outcome::Rejected | Outcome::Error => tracing::enabled!(target: TARGET, Level::WARN),
        }
    }

    /// Writes one line: level INFO when allowed, WARN otherwise. Where allowed requests are not written, nothing of
    /// them is formatted.
    pub fn write(&self, decision: &Decision<'_>) {
        if !self.enabled(decision.outcome) {
            return;
        }
        let who = self.who(decision);
        match decision.outcome {
            Outcome::Allowed => line!(Level::INFO, decision, who),
            Outcome::Rejected | Outcome::Error => line!(Level::WARN, decision, who),
        }
    }

    fn who(&self, decision: &Decision<'_>) -> Who {
        let Some((namespace, subject, agent)) = decision.principal else { return Who::default() };
        match &self.identities {
            Identities::Plain => {
                let service = decision.connection.unwrap_or_default();
                let agent = agent.unwrap_or_default();
                let principal = format!("did:sigilum:{namespace}:{service}#{agent}#{subject}");
                Who { principal: Some(principal), ..Who::default() }
            }
            Identities::Fingerprint(key) => Who {
                principal: None,
                namespace: Some(fingerprint(key, "namespace", &[namespace])),
                subject: Some(fingerprint(key, "subject", &[namespace, subject])),
                agent: agent.map(|agent| fingerprint(key, "agent", &[namespace, agent])),
            },
        }
    }
}

/// The principal in plain, or fingerprints of its parts.
#[derive(Default)]
struct Who {
    principal: Option<String>,
    namespace: Option<String>,
    subject: Option<String>,
    agent: Option<String>,
}

/// SipHash-2-4 under `key` as 16 hexadecimal digits. Each part is ended by a byte that no text holds, so that two lists
/// of parts never make the same input; what names a subject includes its namespace, since `root` here is not `root` there.
fn fingerprint(key: &[u8; 16], kind: &str, parts: &[&str]) -> String {
    let mut input = Vec::with_capacity(96);
    for part in std::iter::once(&kind).chain(parts) {
        input.extend_from_slice(part.as_bytes());
        input.push(0xff);
    }
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(&input);
    format!("{:016x}", hasher.finish())
}

/// The address with its last 8 bits (IPv4) or 64 bits (IPv6) cleared, and the length of what is left.
fn masked(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => format!("{}/64", Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

fn path(path: &str) -> &str {
    cut(path.split(['?', '#']).next().unwrap_or_default(), PATH_BYTES)
}

/// The first `most` bytes of `text`, or fewer where a character would be split.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

/// Milliseconds, to the microsecond.
#[allow(clippy::cast_precision_loss)]
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::logging::tests::logged;
    use super::super::{LogConfig, LogFormat};
    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn decision() -> Decision<'static> {
        Decision {
            request_id: "req_1",
            connection: Some("openai"),
            outcome: Outcome::Rejected,
            code: Some("AUTH_SIGNATURE_INVALID"),
            reason: Some("SIG_CERT_EXPIRED"),
            principal: Some(("alice", "user-17", Some("planner"))),
            claim: None,
            method: "POST",
            path: "/v1/chat?api_key=canary",
            status: 403,
            client: Some("203.0.113.77".parse().unwrap()),
            total: Duration::from_micros(1234),
            upstream: None,
            request_bytes: 10,
            response_bytes: 200,
        }
    }

    fn lines(log: &DecisionLog, decision: &Decision<'_>, level: Level) -> String {
        logged(&LogConfig { format: LogFormat::Json, level }, || log.write(decision))
    }

    fn line(log: &DecisionLog, decision: &Decision<'_>) -> Value {
        let text = lines(log, decision, Level::INFO);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn plain_line_holds_the_contract_s_fields_and_no_more() {
        let mut found = line(&DecisionLog::new(Identities::Plain, true), &decision());
        assert!(found.as_object_mut().unwrap().remove("timestamp").is_some());
        assert_eq!(
            found,
            json!({
                "level": "WARN", "target": "sigilum::decision", "message": "decision",
                "request_id": "req_1", "connection": "openai", "decision": "deny",
                "code": "AUTH_SIGNATURE_INVALID", "reason": "SIG_CERT_EXPIRED",
                "principal": "did:sigilum:alice:openai#planner#user-17",
                "method": "POST", "path": "/v1/chat", "status": 403, "duration_ms": 1.234,
                "request_bytes": 10, "response_bytes": 200, "client": "203.0.113.0/24",
            })
        );
    }

    #[test]
    fn fingerprints_show_no_name_and_tell_subjects_of_two_namespaces_apart() {
        let log = DecisionLog::new(Identities::Fingerprint(KEY), true);
        let first = line(&log, &decision());
        let again = line(&log, &decision());
        let other = line(&log, &Decision { principal: Some(("bob", "user-17", None)), ..decision() });
        assert_eq!(first["subject"], again["subject"]);
        assert_ne!(first["subject"], other["subject"]);
        assert_ne!(first["namespace"], other["namespace"]);
        assert_eq!(first["subject"].as_str().unwrap().len(), 16);
        for name in ["alice", "user-17", "planner"] {
            assert!(!first.to_string().contains(name), "{first}");
        }
        let rekeyed = line(&DecisionLog::new(Identities::Fingerprint([8; 16]), true), &decision());
        assert_ne!(first["subject"], rekeyed["subject"]);
    }

    #[test]
    fn parts_of_a_fingerprint_do_not_run_into_each_other() {
        assert_ne!(fingerprint(&KEY, "subject", &["ab", "c"]), fingerprint(&KEY, "subject", &["a", "bc"]));
    }

    #[test]
    fn allowed_request_is_written_only_where_that_is_on() {
        let allowed = Decision { outcome: Outcome::Allowed, code: None, reason: None, ..decision() };
        let quiet = DecisionLog::new(Identities::Plain, false);
        assert_eq!(lines(&quiet, &allowed, Level::INFO), "");
        let loud = line(&DecisionLog::new(Identities::Plain, true), &allowed);
        assert_eq!((&loud["decision"], &loud["level"]), (&json!("allow"), &json!("INFO")));
    }

    #[test]
    fn level_of_other_lines_does_not_silence_decisions() {
        let log = DecisionLog::new(Identities::Plain, true);
        assert_eq!(lines(&log, &decision(), Level::ERROR).lines().count(), 1);
    }

    #[test]
    fn control_characters_and_length_of_a_path_do_not_break_the_line() {
        let long = "/é".repeat(5000);
        let log = DecisionLog::new(Identities::Plain, true);
        assert!(
            line(&log, &Decision { path: &long, ..decision() })["path"].as_str().unwrap().len() <= PATH_BYTES
        );
        let hostile = "/a\n{\"decision\":\"allow\"}\u{1b}[2J\u{0}";
        assert_eq!(line(&log, &Decision { path: hostile, ..decision() })["path"], hostile);
    }

    #[test]
    fn clients_are_masked_to_24_and_64_bits() {
        for (address, shown) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(masked(address.parse().unwrap()), shown);
        }
    }
}
