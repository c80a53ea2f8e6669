//! A secret made ready to be injected: what goes into a request is computed once, when the secret is set.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::fields::{self, PathTemplate};
use super::{Auth, SecretUnreadable};
use crate::secret::SecretString;

/// A secret made ready to be injected. `Debug` shows nothing of it.
pub struct Credential {
    place: Place,
    /// Every form in which an upstream could send it back: as it is, percent-encoded, in base64.
    forms: Vec<Bytes>,
}

/// Where a credential goes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Place {
    /// A header with this whole value, marked sensitive; its bytes are shared, and zeroized with the last copy.
    Header(HeaderName, HeaderValue),
    /// A query parameter: its name, and `name=value` percent-encoded.
    Query(String, QueryPair),
    /// A part of the path, from its slash on, to be put between the base path and the rest.
    Path(PathPart),
}

/// `name=value` of a query, percent-encoded. `Debug` shows nothing of the value.
pub struct QueryPair(Zeroizing<String>);

/// `/…` with the secret in it, percent-encoded, without a slash at its end. `Debug` shows nothing of it.
pub struct PathPart(Zeroizing<String>);

impl QueryPair {
    /// The pair. Every call is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PathPart {
    /// The part of the path. Every call is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for QueryPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryPair([redacted])")
    }
}

impl fmt::Debug for PathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PathPart([redacted])")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential([redacted])")
    }
}

impl Credential {
    /// Where it goes, and with what value.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The forms in which the secret must not reach a client. Clones share the bytes, which are zeroized with the last.
    #[must_use]
    pub fn forms(&self) -> &[Bytes] {
        &self.forms
    }

    /// Makes `secret` ready; `None` where `auth` injects nothing.
    pub(super) fn new(auth: &Auth, secret: &SecretString) -> Result<Option<Self>, SecretUnreadable> {
        let text = secret.expose();
        let mut forms = Forms::default();
        forms.add(text);
        let place = match auth {
            Auth::Header { name, prefix } => {
                let prefix = if text.starts_with(prefix.as_str()) { "" } else { prefix.as_str() };
                Place::Header(name.clone(), sensitive(&[prefix, text])?)
            }
            Auth::Basic { user } => {
                let pair = Zeroizing::new(format!("{user}:{text}"));
                basic(&pair, &mut forms)?
            }
            Auth::BasicPair => {
                let Some((_, password)) = text.split_once(':') else {
                    let needed = "basic authentication takes user:password, or a secret username beside it";
                    return Err(SecretUnreadable::NotInjectable(needed));
                };
                forms.add(password);
                basic(text, &mut forms)?
            }
            Auth::Query { param } => {
                let pair = format!("{}={}", *percent_encoded(param), *percent_encoded(text));
                Place::Query(param.clone(), QueryPair(Zeroizing::new(pair)))
            }
            Auth::Path { template } => Place::Path(path_part(template, text, &mut forms)?),
            Auth::None => return Ok(None),
        };
        Ok(Some(Self { place, forms: forms.done() }))
    }
}

fn basic(pair: &str, forms: &mut Forms) -> Result<Place, SecretUnreadable> {
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let value = sensitive(&["Basic ", &encoded])?;
    forms.push(encoded);
    Ok(Place::Header(http::header::AUTHORIZATION, value))
}

fn path_part(template: &PathTemplate, secret: &str, forms: &mut Forms) -> Result<PathPart, SecretUnreadable> {
    let encoded = encoded_except(secret, b"-._~!$&'()*+,;=:@");
    let part = Zeroizing::new(format!("{}{}{}", template.before(), *encoded, template.after()));
    forms.push(encoded);
    // A secret of dots would lead out of the base path.
    match fields::path_prefix(&part) {
        Ok(whole) if whole.len() == part.len() => Ok(PathPart(part)),
        _ => Err(SecretUnreadable::NotInjectable("in a path it would be a segment of dots")),
    }
}

/// A header value whose bytes live once, shared by every request, and are zeroized at the end.
fn sensitive(parts: &[&str]) -> Result<HeaderValue, SecretUnreadable> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    parts.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes))
        .map_err(|_| SecretUnreadable::NotInjectable("no header can carry it"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The forms of a secret, without repetition.
#[derive(Default)]
struct Forms(Vec<Zeroizing<String>>);

impl Forms {
    /// A text as it is, percent-encoded, and in base64.
    fn add(&mut self, text: &str) {
        self.push(Zeroizing::new(text.to_owned()));
        self.push(percent_encoded(text));
        self.push(Zeroizing::new(STANDARD.encode(text)));
    }

    fn push(&mut self, form: Zeroizing<String>) {
        if !form.is_empty() && !self.0.contains(&form) {
            self.0.push(form);
        }
    }

    fn done(mut self) -> Vec<Bytes> {
        let shared = |form: &mut Zeroizing<String>| {
            Bytes::from_owner(Zeroizing::new(std::mem::take(&mut **form).into_bytes()))
        };
        self.0.iter_mut().map(shared).collect()
    }
}

/// Percent-encoding of all but the unreserved characters (RFC 3986 §2.3).
fn percent_encoded(text: &str) -> Zeroizing<String> {
    encoded_except(text, b"-._~")
}

/// Percent-encoding of all but letters, digits and `plain`.
fn encoded_except(text: &str, plain: &[u8]) -> Zeroizing<String> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let hex = |digit: u8| HEX.get(usize::from(digit)).copied().map_or('0', char::from);
    // As long as it can become, so that no shorter copy of it is left behind.
    let mut encoded = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(['%', hex(byte >> 4), hex(byte & 0xf)]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(auth: &Auth, secret: &str) -> Result<Option<Credential>, SecretUnreadable> {
        Credential::new(auth, &SecretString::new(secret.to_owned()).unwrap())
    }

    fn credential(auth: Auth, secret: &str) -> Credential {
        made(&auth, secret).unwrap().unwrap()
    }

    fn header(credential: &Credential) -> &str {
        match credential.place() {
            Place::Header(_, value) => value.to_str().unwrap(),
            other => panic!("a header was expected, not {other:?}"),
        }
    }

    fn path(template: &str) -> Auth {
        Auth::Path { template: template.parse().unwrap() }
    }

    #[test]
    fn prefix_is_put_before_the_secret_once() {
        let bearer = || Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() };
        assert_eq!(header(&credential(bearer(), "sk-1")), "Bearer sk-1");
        assert_eq!(header(&credential(bearer(), "Bearer sk-1")), "Bearer sk-1");
    }

    #[test]
    fn basic_is_user_and_secret_in_base64() {
        for (auth, secret) in [
            (Auth::Basic { user: "aladdin".to_owned() }, "opensesame"),
            (Auth::BasicPair, "aladdin:opensesame"),
        ] {
            let basic = credential(auth, secret);
            assert_eq!(header(&basic), "Basic YWxhZGRpbjpvcGVuc2VzYW1l");
            for form in ["opensesame", "YWxhZGRpbjpvcGVuc2VzYW1l", "b3BlbnNlc2FtZQ=="] {
                assert!(basic.forms().iter().any(|known| known == form), "{form}");
            }
        }
        assert!(matches!(made(&Auth::BasicPair, "opensesame"), Err(SecretUnreadable::NotInjectable(_))));
    }

    #[test]
    fn query_secret_is_percent_encoded() {
        let query = credential(Auth::Query { param: "api_key".to_owned() }, "a&b=c d");
        match query.place() {
            Place::Query(name, pair) => {
                assert_eq!((name.as_str(), pair.expose()), ("api_key", "api_key=a%26b%3Dc%20d"));
            }
            other => panic!("a query parameter was expected, not {other:?}"),
        }
    }

    #[test]
    fn path_secret_keeps_its_colon_and_cannot_leave_its_segment() {
        for (template, secret, expected) in [
            ("/bot{secret}", "123:AB-c", "/bot123:AB-c"),
            ("/bot{secret}", "a/../b?c#d%", "/bota%2F..%2Fb%3Fc%23d%25"),
            ("/{secret}/v1", "k", "/k/v1"),
        ] {
            match credential(path(template), secret).place() {
                Place::Path(part) => assert_eq!(part.expose(), expected),
                other => panic!("a path was expected, not {other:?}"),
            }
        }
        for (template, secret) in [("/{secret}", ".."), ("/{secret}/x", "."), ("/.{secret}", ".")] {
            assert!(made(&path(template), secret).is_err(), "{template} {secret}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        for auth in [
            Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() },
            Auth::Query { param: "k".to_owned() },
            Auth::Basic { user: "u".to_owned() },
            path("/bot{secret}"),
        ] {
            let credential = credential(auth, "canary-4711");
            let shown = format!("{credential:?} {:?}", credential.place());
            assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
        }
    }
}
