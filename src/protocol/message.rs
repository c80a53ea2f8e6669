//! A request as its signer saw it, and row 1 of the verification order: its signed headers.

use http::{HeaderMap, HeaderName};

use super::Refusal;

/// A request as its signer saw it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// The absolute URI that the client requested, without fragment.
    pub target_uri: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether a body follows (or may follow).
    pub has_body: bool,
}

pub(super) static NAMESPACE: HeaderName = HeaderName::from_static("sigilum-namespace");
pub(super) static SUBJECT: HeaderName = HeaderName::from_static("sigilum-subject");
pub(super) static AGENT_ID: HeaderName = HeaderName::from_static("sigilum-agent-id");
pub(super) static AGENT_KEY: HeaderName = HeaderName::from_static("sigilum-agent-key");
pub(super) static AGENT_CERT: HeaderName = HeaderName::from_static("sigilum-agent-cert");
pub(super) static CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
pub(super) static SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
pub(super) static SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// The greatest number of characters of `sigilum-subject`.
pub(super) const SUBJECT_CHARACTERS: usize = 256;
/// The greatest number of characters of `sigilum-agent-id`.
pub(super) const AGENT_ID_CHARACTERS: usize = 128;
/// The greatest number of characters of `sigilum-agent-cert`.
pub(super) const CERTIFICATE_CHARACTERS: usize = 8 * 1024;

/// The signed headers of a message, each there at most once, without white space around it (RFC 9421 §2.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'m> {
    pub(super) namespace: Option<&'m str>,
    pub(super) subject: Option<&'m str>,
    pub(super) agent_id: Option<&'m str>,
    pub(super) agent_key: Option<&'m str>,
    pub(super) agent_cert: Option<&'m str>,
    pub(super) content_digest: Option<&'m str>,
    pub(super) signature_input: Option<&'m str>,
    pub(super) signature: Option<&'m str>,
}

impl<'m> Received<'m> {
    /// Row 1: each signed header at most once, visible ASCII, within its size limit.
    pub(super) fn read(headers: &'m HeaderMap) -> Result<Self, Refusal> {
        let received = Self {
            namespace: line(headers, &NAMESPACE, 64)?,
            subject: line(headers, &SUBJECT, SUBJECT_CHARACTERS)?,
            agent_id: line(headers, &AGENT_ID, AGENT_ID_CHARACTERS)?,
            agent_key: line(headers, &AGENT_KEY, 128)?,
            agent_cert: line(headers, &AGENT_CERT, CERTIFICATE_CHARACTERS)?,
            content_digest: structured(headers, &CONTENT_DIGEST, 1024)?,
            signature_input: structured(headers, &SIGNATURE_INPUT, 4 * 1024)?,
            signature: structured(headers, &SIGNATURE, 1024)?,
        };
        match received.agent_id {
            Some("") => Err(Refusal::HeaderEmpty { header: "sigilum-agent-id" }),
            _ => Ok(received),
        }
    }

    /// The value of one of these headers; the outer `None` says that `name` is not among them.
    pub(super) fn get(&self, name: &str) -> Option<Option<&'m str>> {
        Some(match name {
            "sigilum-namespace" => self.namespace,
            "sigilum-subject" => self.subject,
            "sigilum-agent-id" => self.agent_id,
            "sigilum-agent-key" => self.agent_key,
            "sigilum-agent-cert" => self.agent_cert,
            "content-digest" => self.content_digest,
            "signature-input" => self.signature_input,
            "signature" => self.signature,
            _ => return None,
        })
    }
}

/// A structured field: tabs may stand between its members (RFC 9651 §3.1).
fn structured<'m>(
    headers: &'m HeaderMap,
    name: &'static HeaderName,
    most: usize,
) -> Result<Option<&'m str>, Refusal> {
    let header = name.as_str();
    let mut lines = headers.get_all(name).iter();
    let Some(value) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Refusal::HeaderRepeated { header });
    }
    if value.len() > most {
        return Err(Refusal::HeaderTooLong { header, most, found: value.len() });
    }
    let text = value.to_str().map_err(|_| Refusal::HeaderNotText { header })?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// A plain line of text.
fn line<'m>(
    headers: &'m HeaderMap,
    name: &'static HeaderName,
    most: usize,
) -> Result<Option<&'m str>, Refusal> {
    match structured(headers, name, most)? {
        Some(text) if text.contains('\t') => Err(Refusal::HeaderNotText { header: name.as_str() }),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn white_space_around_a_value_is_not_part_of_it() {
        let headers = headers(&[("sigilum-subject", b" \talice b \t")]);
        assert_eq!(Received::read(&headers).unwrap().subject, Some("alice b"));
    }

    #[test]
    fn repeated_long_and_unprintable_headers_are_refused() {
        let refused = |lines: &[(&'static str, &[u8])]| Received::read(&headers(lines)).unwrap_err();
        assert_eq!(
            refused(&[("signature", b"a"), ("signature", b"a")]),
            Refusal::HeaderRepeated { header: "signature" }
        );
        assert_eq!(
            refused(&[("sigilum-agent-id", &[b'a'; 129])]),
            Refusal::HeaderTooLong { header: "sigilum-agent-id", most: 128, found: 129 }
        );
        assert_eq!(
            refused(&[("sigilum-subject", "ümlaut".as_bytes())]),
            Refusal::HeaderNotText { header: "sigilum-subject" }
        );
        assert_eq!(
            refused(&[("sigilum-subject", b"a\tb")]),
            Refusal::HeaderNotText { header: "sigilum-subject" }
        );
        assert_eq!(
            refused(&[("sigilum-agent-id", b" ")]),
            Refusal::HeaderEmpty { header: "sigilum-agent-id" }
        );
    }
}
