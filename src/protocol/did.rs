//! `did:sigilum:<namespace>`, and the full name of who acts.

use std::fmt;
use std::str::FromStr;

use crate::names::{ConnectionId, NameError, Namespace};

/// What every DID of this method begins with.
pub const PREFIX: &str = "did:sigilum:";

/// A decentralized identifier, `did:sigilum:<namespace>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Did(Namespace);

/// Why a text is not a DID of this method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DidFault {
    /// It does not begin with `did:sigilum:`.
    #[error("a DID begins with did:sigilum:, as did:sigilum:alice does")]
    Method,
    /// What follows is not a namespace in its lower-case form.
    #[error("did:sigilum: is followed by something that is not a namespace: {0}")]
    Namespace(NameError),
    /// The namespace holds capital letters, which a DID never does.
    #[error("the namespace of a DID is in lower case; this one would be did:sigilum:{0}")]
    Capitals(Namespace),
}

impl Did {
    /// The DID of `namespace`.
    #[must_use]
    pub fn of(namespace: &Namespace) -> Self {
        Self(namespace.clone())
    }

    /// The namespace that it names.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl FromStr for Did {
    type Err = DidFault;
    fn from_str(text: &str) -> Result<Self, DidFault> {
        let name = text.strip_prefix(PREFIX).ok_or(DidFault::Method)?;
        let namespace: Namespace = name.parse().map_err(DidFault::Namespace)?;
        if namespace.as_str() == name { Ok(Self(namespace)) } else { Err(DidFault::Capitals(namespace)) }
    }
}

/// The full principal of logs and usage: `did:sigilum:<namespace>:<service>#<agent>#<subject>`.
///
/// It is unambiguous: `#` in the agent's name is written `%23` and `%` is written `%25`, so the first `#` ends
/// the service and the second the agent. An agent that was not named leaves its place empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal<'a> {
    /// Whose agent it is.
    pub namespace: &'a Namespace,
    /// The service acted upon.
    pub service: &'a ConnectionId,
    /// `sigilum-agent-id`, where sent.
    pub agent: Option<&'a str>,
    /// `sigilum-subject`: who triggered the action.
    pub subject: &'a str,
}

impl fmt::Display for Principal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:{}#", self.namespace, self.service)?;
        for part in self.agent.unwrap_or_default().split_inclusive(['#', '%']) {
            match part.as_bytes().last() {
                Some(b'#') => write!(f, "{}%23", part.trim_end_matches('#'))?,
                Some(b'%') => write!(f, "{}%25", part.trim_end_matches('%'))?,
                _ => f.write_str(part)?,
            }
        }
        write!(f, "#{}", self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn did_is_read_and_written() {
        let did: Did = "did:sigilum:alice".parse().unwrap();
        assert_eq!(did.namespace().as_str(), "alice");
        assert_eq!(did.to_string(), "did:sigilum:alice");
        assert_eq!("did:web:alice".parse::<Did>().unwrap_err(), DidFault::Method);
        assert_eq!(
            "did:sigilum:Alice".parse::<Did>().unwrap_err().to_string(),
            "the namespace of a DID is in lower case; this one would be did:sigilum:alice"
        );
        assert!(matches!("did:sigilum:a".parse::<Did>().unwrap_err(), DidFault::Namespace(_)));
    }

    #[test]
    fn principal_cannot_be_read_in_two_ways() {
        let (namespace, service) = ("alice".parse().unwrap(), "openai".parse().unwrap());
        let of = |agent, subject| {
            Principal { namespace: &namespace, service: &service, agent, subject }.to_string()
        };
        assert_eq!(of(Some("bot"), "u#1"), "did:sigilum:alice:openai#bot#u#1");
        assert_eq!(of(Some("bo#t%23"), "1"), "did:sigilum:alice:openai#bo%23t%2523#1");
        assert_eq!(of(None, "alice"), "did:sigilum:alice:openai##alice");
    }
}
