//! What an upstream sends back of the secret does not reach the client: masked in its headers, and in its body masked
//! or the answer ended, as the connection says.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;

use crate::connections::{BodyReflection, Credential};

/// Shorter forms stand in bodies by chance.
const FORM_LEAST_BYTES: usize = 8;

/// Looks for the forms of a secret in the body of an answer, across the borders of its parts.
#[derive(Debug)]
pub(super) struct BodyGuard {
    forms: Vec<Bytes>,
    /// The end of what has passed so far, where a form may begin in it; held back until that is decided.
    carry: BytesMut,
    block: bool,
}

/// The body holds the secret, and the connection says that it is to be blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reflected;

impl BodyGuard {
    /// `None` where bodies are not looked at: switched off, encoded, or of another protocol.
    pub(super) fn new(credential: &Credential, mode: BodyReflection, head: &ResponseHeader) -> Option<Self> {
        let encoded = head.headers.get("content-encoding").is_some_and(|coding| coding != "identity");
        // Its answers end with trailers, before which nothing held back could be sent any more.
        let grpc = head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let upgraded = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
        if mode == BodyReflection::Off || encoded || grpc || upgraded {
            return None;
        }
        let forms: Vec<Bytes> =
            credential.forms().iter().filter(|form| form.len() >= FORM_LEAST_BYTES).cloned().collect();
        let block = mode == BodyReflection::Block;
        (!forms.is_empty()).then(|| Self { forms, carry: BytesMut::new(), block })
    }

    /// Takes the next part in, and puts in its place what may be sent. A mask is as long as what it covers, so the
    /// length of the answer stays.
    ///
    /// # Errors
    /// When the secret is found and the answer is to be blocked.
    pub(super) fn pass(&mut self, part: &mut Option<Bytes>, end: bool) -> Result<(), Reflected> {
        let Some(bytes) = self.joined(part.take()) else { return Ok(()) };
        let bytes = self.masked(bytes)?;
        let held = if end { 0 } else { self.undecided(&bytes) };
        let mut bytes = bytes;
        let tail = bytes.split_off(bytes.len() - held);
        self.carry = BytesMut::from(tail);
        *part = Some(bytes);
        Ok(())
    }

    /// Whether something is held back.
    pub(super) fn holds_back(&self) -> bool {
        !self.carry.is_empty()
    }

    fn joined(&mut self, part: Option<Bytes>) -> Option<Bytes> {
        if self.carry.is_empty() {
            return part;
        }
        let mut joined = std::mem::take(&mut self.carry);
        joined.extend_from_slice(part.as_deref().unwrap_or_default());
        Some(joined.freeze())
    }

    fn masked(&self, bytes: Bytes) -> Result<Bytes, Reflected> {
        let found: Vec<(usize, usize)> = self
            .forms
            .iter()
            .flat_map(|form| memchr::memmem::find_iter(&bytes, form).map(|at| (at, form.len())))
            .collect();
        if found.is_empty() {
            return Ok(bytes);
        }
        if self.block {
            return Err(Reflected);
        }
        let mut masked = BytesMut::from(bytes);
        for (at, length) in found {
            if let Some(range) = masked.get_mut(at..at + length) {
                range.fill(b'*');
            }
        }
        Ok(masked.freeze())
    }

    /// Bytes at the end that are the beginning of a form.
    fn undecided(&self, bytes: &[u8]) -> usize {
        let longest = |form: &Bytes| {
            let most = form.len().saturating_sub(1).min(bytes.len());
            (1..=most)
                .rev()
                .find(|length| bytes.get(bytes.len() - length..).is_some_and(|tail| form.starts_with(tail)))
        };
        self.forms.iter().filter_map(longest).max().unwrap_or(0)
    }
}

/// Masks the secret in each header of the answer that holds it, in whatever form.
pub(super) fn scrub(credential: &Credential, head: &mut ResponseHeader) {
    // The reason phrase is the upstream's text too, and says nothing that the status does not (RFC 9112 §4).
    let _ = head.set_reason_phrase(None);
    let leaks = |value: &HeaderValue| leaks(value, credential);
    let mut names: Vec<HeaderName> =
        head.headers.iter().filter(|(_, value)| leaks(value)).map(|(name, _)| name.clone()).collect();
    names.dedup();
    for name in names {
        let values: Vec<HeaderValue> = head
            .headers
            .get_all(&name)
            .iter()
            .filter_map(|value| HeaderValue::from_bytes(&redacted(value.as_bytes(), credential)).ok())
            .collect();
        head.remove_header(&name);
        for value in values {
            // A name and a value that were in the head a moment ago.
            let _ = head.append_header(name.clone(), value);
        }
    }
}

/// As [`scrub`], of what comes behind the body.
pub(super) fn scrub_trailers(credential: &Credential, trailers: &mut HeaderMap) {
    for value in trailers.values_mut().filter(|value| leaks(value, credential)) {
        let masked = HeaderValue::from_bytes(&redacted(value.as_bytes(), credential));
        *value = masked.unwrap_or_else(|_| HeaderValue::from_static(""));
    }
}

fn leaks(value: &HeaderValue, credential: &Credential) -> bool {
    credential.forms().iter().any(|form| find(value.as_bytes(), form).is_some())
}

const REDACTED: &[u8] = b"[redacted]";

fn redacted(value: &[u8], credential: &Credential) -> Vec<u8> {
    credential.forms().iter().fold(value.to_vec(), |value, form| replace(&value, form))
}

fn replace(value: &[u8], form: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(found) = find(rest, form) {
        kept.extend_from_slice(rest.get(..found.start).unwrap_or_default());
        kept.extend_from_slice(REDACTED);
        rest = rest.get(found.end..).unwrap_or_default();
    }
    kept.extend_from_slice(rest);
    kept
}

/// Where `form` stands in `text`, each of its bytes as it is or percent-encoded: encoders do not agree on which
/// characters they leave, nor on the case of the digits.
fn find(text: &[u8], form: &[u8]) -> Option<Range<usize>> {
    let first = *form.first()?;
    memchr::memchr2_iter(first, b'%', text)
        .find_map(|at| Some(at..at + spelled(text.get(at..).unwrap_or_default(), form)?))
}

/// How many bytes of `text` spell `form`, where it begins with it.
fn spelled(text: &[u8], form: &[u8]) -> Option<usize> {
    let mut rest = text;
    for byte in form {
        rest = match rest {
            [first, tail @ ..] if first == byte => tail,
            [b'%', high, low, tail @ ..] if digits(*high, *low) == Some(u32::from(*byte)) => tail,
            _ => return None,
        };
    }
    Some(text.len() - rest.len())
}

fn digits(high: u8, low: u8) -> Option<u32> {
    Some(char::from(high).to_digit(16)? * 16 + char::from(low).to_digit(16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(forms: &[&'static str], block: bool) -> BodyGuard {
        let forms = forms.iter().map(|form| Bytes::from_static(form.as_bytes())).collect();
        BodyGuard { forms, carry: BytesMut::new(), block }
    }

    fn passed(guard: &mut BodyGuard, parts: &[&'static str]) -> Vec<String> {
        let last = parts.len().saturating_sub(1);
        let pass = |(index, part): (usize, &&'static str)| {
            let mut part = Some(Bytes::from_static(part.as_bytes()));
            guard.pass(&mut part, index == last).unwrap();
            String::from_utf8(part.unwrap_or_default().to_vec()).unwrap()
        };
        parts.iter().enumerate().map(pass).collect()
    }

    #[test]
    fn header_is_masked_once_for_every_occurrence() {
        assert_eq!(replace(b"a secret, secret", b"secret"), b"a [redacted], [redacted]");
        assert_eq!(replace(b"redacted", b"redacted"), b"[redacted]");
    }

    #[test]
    fn percent_encoding_of_any_character_in_any_case_is_seen_through() {
        for text in ["k=a/b+", "k=a%2Fb%2b", "k=%61%2f%62%2B", "k=a%2fb+"] {
            assert_eq!(replace(text.as_bytes(), b"a/b+"), b"k=[redacted]", "{text}");
        }
        for other in ["a%2", "a%2", "a%2Gb+", "%", "a%252Fb+"] {
            assert_eq!(replace(other.as_bytes(), b"a/b+"), other.as_bytes());
        }
        assert_eq!(replace(b"100%", b"100%"), b"[redacted]");
    }

    #[test]
    fn body_keeps_its_length_when_it_is_masked() {
        let mut guard = guard(&["sk-canary"], false);
        assert_eq!(passed(&mut guard, &["a sk-canary b"]), ["a ********* b"]);
    }

    #[test]
    fn secret_is_found_across_parts_and_only_its_beginning_waits() {
        let mut guard = guard(&["sk-canary"], false);
        assert_eq!(
            passed(&mut guard, &["x sk-ca", "na", "ry y", " sk", "y"]),
            ["x ", "", "********* y", " ", "sky"]
        );
    }

    #[test]
    fn beginning_of_a_secret_at_the_end_is_let_go() {
        let mut guard = guard(&["sk-canary"], false);
        assert_eq!(passed(&mut guard, &["data sk-c"]), ["data sk-c"]);
    }

    #[test]
    fn overlapping_forms_are_all_covered() {
        let mut guard = guard(&["abcdefgh", "efghijkl"], false);
        assert_eq!(passed(&mut guard, &["abcdefghijkl."]), ["************."]);
    }

    #[test]
    fn blocking_guard_ends_the_answer() {
        let mut part = Some(Bytes::from_static(b"sk-canary"));
        assert_eq!(guard(&["sk-canary"], true).pass(&mut part, true), Err(Reflected));
    }

    proptest::proptest! {
        #[test]
        fn no_cut_of_a_body_lets_the_secret_through(cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let body = b"{\"h\":\"Bearer sk-canary\",\"sk-\":\"sk-csk-canary\"}";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let mut guard = guard(&["sk-canary"], false);
            let mut out = Vec::new();
            for pair in cuts.windows(2) {
                let mut part = Some(Bytes::copy_from_slice(&body[pair[0]..pair[1]]));
                guard.pass(&mut part, pair[1] == body.len()).unwrap();
                out.extend_from_slice(&part.unwrap_or_default());
            }
            proptest::prop_assert!(find(&out, b"sk-canary").is_none());
            proptest::prop_assert_eq!(out.len(), body.len());
        }
    }
}
