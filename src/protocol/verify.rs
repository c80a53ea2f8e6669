//! The verification order: rows 1 to 9, each in a function of its own, in their order.

use std::sync::Arc;
use std::time::Duration;

use sfv::BareItemFromInput;

use super::covered_components::{claimed_digest, hold_the_profile};
use super::message::Received;
use super::signature_base::SignatureBase;
use super::signature_input::{self, SignatureInput};
use super::{Agent, Certificates, ContentDigest, Message, PublicKey, Refusal};
use crate::clock::UnixTime;

/// How far `created` may lie from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// How old at most (default 300 s).
    pub created_tolerance: Duration,
    /// How far ahead at most (default 30 s).
    pub future_skew: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { created_tolerance: Duration::from_secs(300), future_skew: Duration::from_secs(30) }
    }
}

/// Proof that rows 1 to 9 hold. Only [`verify`] makes one.
#[derive(Debug)]
pub struct VerifiedSignature {
    agent: Arc<Agent>,
    subject: Box<str>,
    agent_id: Option<Box<str>>,
    nonce: Box<str>,
    created: i64,
    content_digest: Option<ContentDigest>,
}

impl VerifiedSignature {
    /// The agent whose key signed.
    #[must_use]
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// `sigilum-subject`, without white space around it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// `sigilum-agent-id`, where sent.
    #[must_use]
    pub fn agent_id(&self) -> Option<&str> {
        self.agent_id.as_deref()
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// `created`, in Unix seconds.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.created
    }

    /// The digest that the body must have; `None` only where there is no body. Where the message has no body and
    /// the signature covers a digest all the same, it is that digest, and the empty body must match it.
    #[must_use]
    pub fn content_digest(&self) -> Option<&ContentDigest> {
        self.content_digest.as_ref()
    }
}

/// Checks rows 1 to 9 of the verification order, in that order.
///
/// # Errors
/// The first row that does not hold.
pub fn verify(
    message: &Message<'_>,
    freshness: Freshness,
    now: UnixTime,
    certificates: &dyn Certificates,
) -> Result<VerifiedSignature, Refusal> {
    let received = Received::read(message.headers)?;
    let (input, signature) = signature_input::read(&received)?;
    if input.text("alg") != Some("ed25519") {
        return Err(Refusal::AlgorithmUnsupported);
    }
    let created = fresh(&input, freshness, now)?;
    let certificate = received.agent_cert.ok_or(Refusal::CertificateMissing)?;
    let agent = certificates.prove(certificate, now)?;
    let subject = identified(&received, &input, &agent)?;
    hold_the_profile(&input, message.has_body, &received)?;
    let mut base = SignatureBase::build(&input, message, &received)?;
    let nonce =
        input.text("nonce").filter(|nonce| (8..=256).contains(&nonce.len())).ok_or(Refusal::NonceInvalid)?;
    signed(&agent, &mut base, message.method, &signature)?;
    Ok(VerifiedSignature {
        subject: subject.into(),
        agent_id: received.agent_id.map(Into::into),
        nonce: nonce.into(),
        created,
        content_digest: claimed_digest(&input, message.has_body, &received),
        agent,
    })
}

/// Row 4. Compared in milliseconds, so that no signature lives longer than the two settings together.
fn fresh(input: &SignatureInput<'_>, freshness: Freshness, now: UnixTime) -> Result<i64, Refusal> {
    let seconds = |value: &BareItemFromInput<'_>| value.as_integer().map(i64::from);
    let created = input.parameter("created").and_then(seconds).ok_or(Refusal::CreatedInvalid)?;
    let at = UnixTime::from_secs(created);
    if now.since(at) > freshness.created_tolerance {
        let (age_secs, most_secs) = (now.since(at).as_secs(), freshness.created_tolerance.as_secs());
        return Err(Refusal::TooOld { age_secs, most_secs });
    }
    if at.since(now) > freshness.future_skew {
        let (ahead_secs, most_secs) = (at.since(now).as_secs(), freshness.future_skew.as_secs());
        return Err(Refusal::TooFarAhead { ahead_secs, most_secs });
    }
    if let Some(expires) = input.parameter("expires") {
        let end = UnixTime::from_secs(seconds(expires).ok_or(Refusal::ExpiresInvalid)?);
        if now > end {
            return Err(Refusal::Expired { ago_secs: now.since(end).as_secs() });
        }
    }
    Ok(created)
}

/// Row 6. Gives the subject.
fn identified<'m>(
    received: &Received<'m>,
    input: &SignatureInput<'_>,
    agent: &Agent,
) -> Result<&'m str, Refusal> {
    if !received.namespace.is_some_and(|name| name.eq_ignore_ascii_case(agent.namespace.as_str())) {
        return Err(Refusal::NamespaceMismatch);
    }
    let subject = received.subject.filter(|subject| !subject.is_empty()).ok_or(Refusal::SubjectMissing)?;
    let key = received.agent_key.ok_or(Refusal::KeyMissing)?;
    if key != agent.key_text() {
        // A key has one text only, so another text is another key, or none.
        return Err(key.parse::<PublicKey>().err().map_or(Refusal::KeyMismatch, Refusal::KeyInvalid));
    }
    if input.text("keyid") != Some(agent.key_id.as_str()) {
        return Err(Refusal::KeyIdMismatch);
    }
    Ok(subject)
}

/// Row 9, with the method in the SDKs' form and as it was sent; the form that held last time goes first, since each
/// try costs a whole verification.
fn signed(
    agent: &Agent,
    base: &mut SignatureBase,
    method: &str,
    signature: &[u8; 64],
) -> Result<(), Refusal> {
    let as_sent_first = agent.signs_method_as_sent();
    for as_sent in [as_sent_first, !as_sent_first] {
        let changed = if as_sent { base.method_as_sent(method) } else { base.lower_case_method() };
        // The base is built as sent: that form is new to the first try, and to the second only where they differ.
        let tried = as_sent != as_sent_first && !changed;
        if !tried && agent.signed(base.as_bytes(), signature) {
            agent.signed_method_as_sent(as_sent);
            return Ok(());
        }
    }
    Err(Refusal::VerificationFailed)
}
