//! Signing, in the form of the SDKs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method};
use sfv::{ItemSerializer, StringRef};

use super::covered_components::{Target, push_lower};
use super::{ContentDigest, Identity, message};
use crate::clock::UnixTime;

/// What is to be signed.
#[derive(Debug, Clone)]
pub struct Unsigned<'a> {
    /// The method, in any case; the `@method` value is signed in lower case, the SDKs' form.
    pub method: &'a str,
    /// Absolute URI; a fragment is left out, a default port too.
    pub uri: &'a str,
    /// Digest of the body, where there is one.
    pub content_digest: Option<ContentDigest>,
    /// `sigilum-subject`; the namespace where `None`.
    pub subject: Option<&'a str>,
    /// `sigilum-agent-id`.
    pub agent_id: Option<&'a str>,
    /// Unique for each request, 8 to 256 printable characters.
    pub nonce: &'a str,
    /// Becomes `created`.
    pub now: UnixTime,
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignFault {
    /// The method is not a token of RFC 9110 §9.1.
    #[error("the method must be a token, such as GET")]
    Method,
    /// The URI is not one that can be signed.
    #[error(
        "the URI must be absolute, in visible ASCII, with a host and without user information, such as https://api.example.com/v1"
    )]
    Uri,
    /// The digest was read from a header that has no SHA-256.
    #[error("the body's digest is not known: content-digest had no readable sha-256")]
    ContentDigest,
    /// A text is too short, too long or not printable.
    #[error("{what} must have {least} to {most} printable ASCII characters and no white space at its ends")]
    Text {
        /// What the text is.
        what: &'static str,
        /// The least number of characters.
        least: usize,
        /// The greatest number of characters.
        most: usize,
    },
    /// The time cannot be written into a signature.
    #[error("the time lies outside what a signature can carry")]
    Time,
}

/// The headers to send, in order: `sigilum-*`, `content-digest` with a body, `signature-input`, `signature`.
pub type SignedHeaders = Vec<(HeaderName, HeaderValue)>;

/// Signs a request.
///
/// # Errors
/// When a part cannot stand in a signed request.
pub fn sign(identity: &Identity, request: &Unsigned<'_>) -> Result<SignedHeaders, SignFault> {
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| SignFault::Method)?;
    let target_uri = target_uri(request.uri)?;
    let fields = fields(identity, request)?;

    let covered =
        || ["@method", "@target-uri"].into_iter().chain(fields.iter().map(|(name, _)| name.as_str()));
    let parameters = parameters(identity, request, covered())?;
    let mut base = String::with_capacity(target_uri.len() + identity.certificate_header().len() + 1024);
    write_line("@method", &method.as_str().to_ascii_lowercase(), &mut base);
    write_line("@target-uri", &target_uri, &mut base);
    for (name, value) in &fields {
        write_line(name.as_str(), value, &mut base);
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(&parameters);
    let signature = STANDARD.encode(identity.signature(base.as_bytes()));

    let (digest, named): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|(name, _)| **name == message::CONTENT_DIGEST);
    named
        .into_iter()
        .chain(digest)
        .chain([
            (&message::SIGNATURE_INPUT, format!("{LABEL}={parameters}")),
            (&message::SIGNATURE, format!("{LABEL}=:{signature}:")),
        ])
        .map(|(name, value)| {
            let what = name.as_str();
            let value =
                HeaderValue::try_from(value).map_err(|_| SignFault::Text { what, least: 1, most: 8192 })?;
            Ok((name.clone(), value))
        })
        .collect()
}

/// The value of `@target-uri` for an absolute URI: scheme and host in lower case, no default port, no fragment,
/// `/` for an empty path; path and query byte for byte.
///
/// # Errors
/// [`SignFault::Uri`] where it is not absolute, not in visible ASCII, or has no host or a user's name in it.
pub fn target_uri(uri: &str) -> Result<String, SignFault> {
    let target = Target::of(uri).ok_or(SignFault::Uri)?;
    let scheme = target.scheme.as_bytes();
    let named = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'));
    if !named || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SignFault::Uri);
    }
    let mut out = String::with_capacity(uri.len() + 1);
    push_lower(target.scheme, &mut out);
    out.push_str("://");
    target.write_authority(&mut out).ok_or(SignFault::Uri)?;
    out.push_str(target.path());
    if let Some(query) = target.query {
        out.push('?');
        out.push_str(query);
    }
    Ok(out)
}

/// The label that the SDKs give their signature.
const LABEL: &str = "sig1";

/// The covered headers, in the profile's order.
fn fields(
    identity: &Identity,
    request: &Unsigned<'_>,
) -> Result<Vec<(&'static HeaderName, String)>, SignFault> {
    let mut fields = Vec::with_capacity(8);
    if let Some(digest) = &request.content_digest {
        fields.push((&message::CONTENT_DIGEST, digest.to_header_value().ok_or(SignFault::ContentDigest)?));
    }
    let namespace = identity.namespace().as_str();
    let subject = request.subject.unwrap_or(namespace);
    fields.push((&message::NAMESPACE, namespace.to_owned()));
    fields.push((&message::SUBJECT, line("the subject", subject, message::SUBJECT_CHARACTERS)?));
    if let Some(agent_id) = request.agent_id {
        fields.push((&message::AGENT_ID, line("the agent id", agent_id, message::AGENT_ID_CHARACTERS)?));
    }
    fields.push((&message::AGENT_KEY, identity.public_key().to_string()));
    fields.push((&message::AGENT_CERT, identity.certificate_header().to_owned()));
    Ok(fields)
}

/// A header's value that comes through unchanged: HTTP takes white space at the ends of one away.
fn line(what: &'static str, text: &str, most: usize) -> Result<String, SignFault> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let held = (1..=most).contains(&text.len()) && text.trim() == text && printable;
    held.then(|| text.to_owned()).ok_or(SignFault::Text { what, least: 1, most })
}

/// `("@method" …);created=…;keyid="…";alg="ed25519";nonce="…"`.
fn parameters<'c>(
    identity: &Identity,
    request: &Unsigned<'_>,
    covered: impl Iterator<Item = &'c str>,
) -> Result<String, SignFault> {
    let nonce =
        StringRef::from_str(request.nonce).ok().filter(|nonce| (8..=256).contains(&nonce.as_str().len()));
    let nonce = nonce.ok_or(SignFault::Text { what: "the nonce", least: 8, most: 256 })?;
    let created = sfv::Integer::try_from(request.now.secs()).map_err(|_| SignFault::Time)?;
    let covered = covered.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ");
    let keyid = identity.key_id();
    let mut out = format!("({covered});created={created};keyid=\"{keyid}\";alg=\"ed25519\";nonce=");
    let _ = ItemSerializer::with_buffer(&mut out).bare_item(nonce).finish();
    Ok(out)
}

fn write_line(name: &str, value: &str, base: &mut String) {
    for part in ["\"", name, "\": ", value, "\n"] {
        base.push_str(part);
    }
}
