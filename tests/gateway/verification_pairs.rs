//! A request with two faults is refused for the one whose row comes first.

use super::scene::{CONNECTION, assert_refused};
use crate::support::agent::{Agent, Signed};
use crate::support::gateway::Setup;
use crate::support::upstream::{Reply, Upstream};

const TARGET: &str = "/proxy/openai/v1/chat";

/// How a request breaks a row.
#[derive(Clone, Copy)]
enum Breaks {
    /// Something of `signature-input`, before it is signed.
    Input(fn(String) -> String),
    /// Something after it is signed.
    Signed(fn(Signed) -> Signed),
    /// The agent has no claim.
    Claim,
    /// The nonce was used.
    Nonce,
}

struct Row {
    number: usize,
    code: &'static str,
    reason: &'static str,
    breaks: Breaks,
}

/// A row of the table, and one way to break it that leaves all others whole.
const ROWS: [Row; 12] = [
    Row {
        number: 1,
        code: "AUTH_HEADERS_INVALID",
        reason: "",
        breaks: Breaks::Signed(|signed| signed.also("sigilum-subject", "alice")),
    },
    Row {
        number: 2,
        code: "AUTH_SIGNATURE_INVALID",
        reason: "SIG_SIGNATURE_HEADER_INVALID",
        breaks: Breaks::Signed(|signed| signed.replace("signature", "sig1=:AAAA:")),
    },
    Row {
        number: 3,
        code: "AUTH_SIGNATURE_INVALID",
        reason: "SIG_ALGORITHM_UNSUPPORTED",
        breaks: Breaks::Input(|input| input.replace("alg=\"ed25519\"", "alg=\"rsa-v1_5-sha256\"")),
    },
    Row {
        number: 4,
        code: "AUTH_SIGNATURE_INVALID",
        reason: "SIG_TIMESTAMP_OUT_OF_RANGE",
        breaks: Breaks::Input(|input| input.replace(";created=1", ";created=")),
    },
    Row {
        number: 5,
        code: "AUTH_SIGNATURE_INVALID",
        reason: "SIG_CERT_HEADER_MISSING",
        breaks: Breaks::Signed(|signed| signed.without("sigilum-agent-cert")),
    },
    Row {
        number: 6,
        code: "AUTH_IDENTITY_INVALID",
        reason: "SIG_KEY_ID_MISMATCH",
        breaks: Breaks::Input(|input| input.replace("keyid=\"did:sigilum:", "keyid=\"did:sigilum:x")),
    },
    Row {
        number: 7,
        code: "AUTH_SIGNED_COMPONENTS_INVALID",
        reason: "SIG_SIGNED_COMPONENTS_INVALID",
        breaks: Breaks::Input(|input| input.replace("\"@target-uri\" ", "")),
    },
    Row {
        number: 8,
        code: "AUTH_NONCE_INVALID",
        reason: "",
        breaks: Breaks::Input(|input| input.replace("nonce=\"", "nonce=\"n\";was=\"")),
    },
    Row {
        number: 9,
        code: "AUTH_SIGNATURE_INVALID",
        reason: "SIG_VERIFICATION_FAILED",
        breaks: Breaks::Signed(|signed| signed.method_swapped("PUT")),
    },
    Row { number: 10, code: "AUTH_CLAIM_REQUIRED", reason: "", breaks: Breaks::Claim },
    Row { number: 11, code: "AUTH_REPLAY_DETECTED", reason: "", breaks: Breaks::Nonce },
    Row {
        number: 12,
        code: "AUTH_SIGNATURE_INVALID",
        reason: "SIG_CONTENT_DIGEST_MISMATCH",
        breaks: Breaks::Signed(|signed| signed.body_swapped("{\"b\":1}")),
    },
];

struct Table {
    upstream: Upstream,
    gateway: crate::support::gateway::Gateway,
    claimed: Agent,
    stranger: Agent,
}

impl Table {
    fn start() -> Self {
        let upstream = Upstream::answering(Reply::ok(""));
        let (claimed, stranger) = (Agent::new("alice"), Agent::new("mallory"));
        let gateway =
            Setup::new().bearer(CONNECTION, &upstream.url(), "s").claim(&claimed, &[CONNECTION]).start();
        Self { upstream, gateway, claimed, stranger }
    }

    /// A request that breaks these rows and no other.
    fn breaking(&self, rows: &[&Row]) -> Signed {
        let broken = |wanted: fn(&Breaks) -> bool| rows.iter().any(|row| wanted(&row.breaks));
        let agent =
            if broken(|breaks| matches!(breaks, Breaks::Claim)) { &self.stranger } else { &self.claimed };
        let used = broken(|breaks| matches!(breaks, Breaks::Nonce));
        let mut draft = agent.request("POST", self.gateway.url(), TARGET).body("{\"a\":1}");
        if used {
            draft = draft.nonce(USED);
        }
        let change = |input: &str| {
            rows.iter().fold(input.to_owned(), |input, row| match row.breaks {
                Breaks::Input(change) => {
                    let changed = change(input.clone());
                    assert_ne!(changed, input, "row {}", row.number);
                    changed
                }
                _ => input,
            })
        };
        let signed = draft.sign().resigned(agent, change);
        rows.iter().fold(signed, |signed, row| match row.breaks {
            Breaks::Signed(change) => change(signed),
            _ => signed,
        })
    }
}

const USED: &str = "nonce-that-was-used";

#[test]
fn first_broken_row_of_each_pair_is_the_one_that_is_told() {
    let table = Table::start();
    assert_eq!(table.gateway.send(&table.breaking(&[])).status, 200);
    let first = table.claimed.request("GET", table.gateway.url(), TARGET).nonce(USED).sign();
    assert_eq!(table.gateway.send(&first).status, 200);
    let before = table.upstream.received().len();
    for (index, row) in ROWS.iter().enumerate() {
        let alone = table.gateway.send(&table.breaking(&[row]));
        assert_refused(&format!("row {}", row.number), &alone, 403, row.code, row.reason);
        for later in ROWS.iter().skip(index + 1) {
            let what = format!("rows {} and {}", row.number, later.number);
            let response = table.gateway.send(&table.breaking(&[row, later]));
            assert_refused(&what, &response, 403, row.code, row.reason);
        }
    }
    assert_eq!(table.upstream.received().len(), before, "a refused request reached the upstream");
}

#[test]
fn request_without_claim_leaves_its_nonce_unused() {
    let table = Table::start();
    let nonce = "nonce-of-a-stranger";
    let other = Agent::new(table.claimed.namespace());
    let refused = other.request("GET", table.gateway.url(), TARGET).nonce(nonce).sign();
    for _ in 0..2 {
        assert_refused("no claim", &table.gateway.send(&refused), 403, "AUTH_CLAIM_REQUIRED", "");
    }
    let same = table.claimed.request("GET", table.gateway.url(), TARGET).nonce(nonce).sign();
    assert_eq!(table.gateway.send(&same).status, 200);
}
