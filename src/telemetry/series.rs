//! The series behind the labels: made once from fixed lists, so that no client can make a new one.

use prometheus::{IntCounter, IntCounterVec};

use super::{Outcome, Protocol, UsageFate};

/// Every reason of a refusal that has a series of its own, sorted for the binary search.
const KNOWN: &[&str] = &[
    "AUTH_CLAIMS_LOOKUP_FAILED",
    "AUTH_CLAIMS_UNAVAILABLE",
    "AUTH_CLAIM_REQUIRED",
    "AUTH_CLAIM_SUBMIT_RATE_LIMITED",
    "AUTH_HEADERS_INVALID",
    "AUTH_IDENTITY_INVALID",
    "AUTH_NONCE_INVALID",
    "AUTH_REPLAY_DETECTED",
    "AUTH_SCOPE_DENIED",
    "AUTH_SIGNATURE_INVALID",
    "AUTH_SIGNED_COMPONENTS_INVALID",
    "SIG_ALGORITHM_UNSUPPORTED",
    "SIG_CERT_EXPIRED",
    "SIG_CERT_HEADER_INVALID",
    "SIG_CERT_HEADER_MISSING",
    "SIG_CERT_INVALID",
    "SIG_CONTENT_DIGEST_MISMATCH",
    "SIG_CREATED_INVALID",
    "SIG_KEY_HEADER_INVALID",
    "SIG_KEY_HEADER_MISSING",
    "SIG_KEY_ID_MISMATCH",
    "SIG_KEY_MISMATCH",
    "SIG_MISSING_SIGNATURE_HEADERS",
    "SIG_NAMESPACE_MISMATCH",
    "SIG_SIGNATURE_HEADER_INVALID",
    "SIG_SIGNATURE_INPUT_INVALID",
    "SIG_SIGNED_COMPONENTS_INVALID",
    "SIG_SUBJECT_COMPONENT_MISSING",
    "SIG_SUBJECT_MISSING",
    "SIG_TIMESTAMP_OUT_OF_RANGE",
    "SIG_VERIFICATION_FAILED",
];

/// A counter for each known reason, and one for the others.
#[derive(Debug)]
pub(super) struct Reasons {
    known: Vec<IntCounter>,
    other: IntCounter,
}

impl Reasons {
    /// Makes the children of `counters`, which has one label.
    pub(super) fn of(counters: &IntCounterVec) -> Self {
        Self {
            known: KNOWN.iter().map(|reason| counters.with_label_values(&[reason])).collect(),
            other: counters.with_label_values(&["other"]),
        }
    }

    /// The counter of `reason`.
    pub(super) fn counter(&self, reason: &str) -> &IntCounter {
        KNOWN.binary_search(&reason).ok().and_then(|at| self.known.get(at)).unwrap_or(&self.other)
    }
}

/// One of each for HTTP and for MCP.
#[derive(Debug)]
pub(super) struct ByProtocol<T> {
    http: T,
    mcp: T,
}

impl<T> ByProtocol<T> {
    pub(super) fn of(make: impl Fn(&'static str) -> T) -> Self {
        Self { http: make("http"), mcp: make("mcp") }
    }

    pub(super) fn get(&self, protocol: Protocol) -> &T {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Mcp => &self.mcp,
        }
    }
}

/// A counter for each outcome of a request.
#[derive(Debug)]
pub(super) struct ByOutcome {
    allowed: IntCounter,
    rejected: IntCounter,
    error: IntCounter,
}

impl ByOutcome {
    pub(super) fn of(counters: &IntCounterVec, protocol: &str) -> Self {
        let child = |outcome| counters.with_label_values(&[protocol, outcome]);
        Self { allowed: child("allowed"), rejected: child("rejected"), error: child("error") }
    }

    pub(super) fn get(&self, outcome: Outcome) -> &IntCounter {
        match outcome {
            Outcome::Allowed => &self.allowed,
            Outcome::Rejected => &self.rejected,
            Outcome::Error => &self.error,
        }
    }
}

/// A counter for each fate of usage events.
#[derive(Debug)]
pub(super) struct UsageEvents {
    sent: IntCounter,
    dropped: IntCounter,
    refused: IntCounter,
}

impl UsageEvents {
    pub(super) fn of(counters: &IntCounterVec) -> Self {
        let child = |result| counters.with_label_values(&[result]);
        Self { sent: child("sent"), dropped: child("dropped"), refused: child("refused") }
    }

    pub(super) fn get(&self, fate: UsageFate) -> &IntCounter {
        match fate {
            UsageFate::Sent => &self.sent,
            UsageFate::Dropped => &self.dropped,
            UsageFate::Refused => &self.refused,
        }
    }
}

/// Two counters, for what went well or did not.
#[derive(Debug)]
pub(super) struct YesNo {
    yes: IntCounter,
    no: IntCounter,
}

impl YesNo {
    pub(super) fn of(counters: &IntCounterVec, yes: &[&str], no: &[&str]) -> Self {
        Self { yes: counters.with_label_values(yes), no: counters.with_label_values(no) }
    }

    pub(super) fn get(&self, yes: bool) -> &IntCounter {
        if yes { &self.yes } else { &self.no }
    }
}

/// The known classes of faults towards an upstream, each with its counter; the last takes the others.
#[derive(Debug)]
pub(super) struct ByClass {
    known: [(&'static str, IntCounter); 6],
    other: IntCounter,
}

impl ByClass {
    pub(super) fn of(counters: &IntCounterVec) -> Self {
        let child = |class| (class, counters.with_label_values(&[class]));
        Self {
            known: ["connect", "tls", "timeout", "reset", "protocol", "unavailable"].map(child),
            other: counters.with_label_values(&["other"]),
        }
    }

    pub(super) fn get(&self, class: &str) -> &IntCounter {
        self.known.iter().find(|(known, _)| *known == class).map_or(&self.other, |(_, counter)| counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_so_that_every_reason_is_found() {
        assert!(KNOWN.is_sorted());
    }
}
