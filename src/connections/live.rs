//! Connections as the data plane uses them: the secret read, and what is injected made ready once.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{Auth, Connection, SecretSource, SecretUnreadable};
use crate::secret::SecretString;

/// A connection and the present value of its secret.
#[derive(Debug)]
pub struct LiveConnection {
    config: Connection,
    current: ArcSwap<Opened>,
}

/// What one reading of the secret gave.
#[derive(Debug)]
struct Opened {
    credential: Result<Option<Arc<Credential>>, SecretUnreadable>,
    /// Of a secret from a file: when the file was last changed.
    modified: Option<SystemTime>,
}

/// A secret made ready to be injected. `Debug` shows nothing of it.
pub struct Credential {
    place: Place,
    /// Every form in which an upstream could send it back: as it is, percent-encoded, in base64 whatever stands around it.
    forms: Vec<Zeroizing<String>>,
}

/// Where a credential goes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Place {
    /// A header with this whole value, marked sensitive; its bytes are shared, and zeroized with the last copy.
    Header(HeaderName, HeaderValue),
    /// A query parameter: its name, and `name=value` percent-encoded.
    Query(String, QueryPair),
}

/// `name=value` of a query, percent-encoded. `Debug` shows nothing of the value.
pub struct QueryPair(Zeroizing<String>);

impl QueryPair {
    /// The pair. Every call is a place to look at in review.
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

    /// The forms in which the secret must not reach a client.
    pub fn forms(&self) -> impl Iterator<Item = &[u8]> {
        self.forms.iter().map(|form| form.as_bytes())
    }

    fn new(auth: &Auth, secret: &SecretString) -> Option<Self> {
        let place = match auth {
            Auth::Header { name, prefix } => {
                let known = secret.expose().starts_with(prefix.as_str());
                let prefix = if known { "" } else { prefix.as_str() };
                Place::Header(name.clone(), sensitive(&[prefix, secret.expose()])?)
            }
            Auth::Basic { user } => {
                let pair = Zeroizing::new(format!("{user}:{}", secret.expose()));
                let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                Place::Header(http::header::AUTHORIZATION, sensitive(&["Basic ", &encoded])?)
            }
            Auth::Query { param } => {
                let pair = format!("{}={}", percent_encoded(param), percent_encoded(secret.expose()));
                Place::Query(param.clone(), QueryPair(Zeroizing::new(pair)))
            }
            Auth::None => return None,
        };
        Some(Self { forms: forms(&place, secret), place })
    }
}

/// A header value whose bytes live once, shared by every request, and are zeroized at the end.
fn sensitive(parts: &[&str]) -> Option<HeaderValue> {
    let bytes = Zeroizing::new(parts.concat().into_bytes());
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Percent-encoding of all but the unreserved characters (RFC 3986 §2.3).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            use fmt::Write as _;
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The longest first, so that what is masked of a text is as much as can be.
fn forms(place: &Place, secret: &SecretString) -> Vec<Zeroizing<String>> {
    let plain = secret.expose();
    let encoded = Zeroizing::new(percent_encoded(plain));
    let lower = Zeroizing::new(lower_case_digits(&encoded));
    let mut forms = vec![Zeroizing::new(plain.to_owned()), lower, encoded];
    for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        forms.push(Zeroizing::new(alphabet.encode(plain)));
        forms.extend(["", "-", "--"].iter().filter_map(|before| inside_base64(&alphabet, before, plain)));
    }
    if let Place::Header(_, value) = place
        && let Some(basic) = value.as_bytes().strip_prefix(b"Basic ")
    {
        let pair = String::from_utf8_lossy(basic);
        forms.push(Zeroizing::new(pair.trim_end_matches('=').to_owned()));
    }
    forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

/// A shorter piece of base64 stands in other texts by chance.
const LEAST_BASE64: usize = 8;

/// What the base64 of a text shows of the secret behind `before` (its length modulo 3 counts), whatever follows: the
/// characters that come from the secret alone.
fn inside_base64(alphabet: &GeneralPurpose, before: &str, secret: &str) -> Option<Zeroizing<String>> {
    let text = Zeroizing::new([before, secret].concat());
    let encoded = Zeroizing::new(alphabet.encode(text.as_bytes()));
    let (first, whole) = ((before.len() * 8).div_ceil(6), text.len() * 8 / 6);
    let inside = encoded.get(first..whole).filter(|inside| inside.len() >= LEAST_BASE64);
    inside.map(|inside| Zeroizing::new(inside.to_owned()))
}

/// The same percent-encoding as other encoders write it.
fn lower_case_digits(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    lower
}

impl LiveConnection {
    /// Reads the secret of `config` now. One that cannot be read leaves the connection without it: see
    /// [`LiveConnection::credential`].
    #[must_use]
    pub fn open(config: Connection) -> Self {
        let current = ArcSwap::from_pointee(Opened::read(&config));
        Self { config, current }
    }

    /// As configured.
    #[must_use]
    pub fn config(&self) -> &Connection {
        &self.config
    }

    /// What is injected now; `Ok(None)` where nothing is.
    ///
    /// # Errors
    /// Why the secret could not be read, as a sentence.
    pub fn credential(&self) -> Result<Option<Arc<Credential>>, String> {
        match &self.current.load().credential {
            Ok(credential) => Ok(credential.clone()),
            Err(unreadable) => Err(unreadable.to_string()),
        }
    }

    /// Reads the secret again where it comes from a file that has changed, or could not be read before.
    /// Gives whether it was read anew.
    pub fn refresh(&self) -> bool {
        let Some(SecretSource::File(path)) = &self.config.secret else { return false };
        let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let changed = {
            let current = self.current.load();
            current.modified != modified || current.credential.is_err()
        };
        if changed {
            self.current.store(Arc::new(Opened::read(&self.config)));
        }
        changed
    }
}

impl Opened {
    fn read(config: &Connection) -> Self {
        // The time is taken first: a change between the two is then seen at the next refresh.
        let modified = match &config.secret {
            Some(SecretSource::File(path)) => std::fs::metadata(path).and_then(|meta| meta.modified()).ok(),
            _ => None,
        };
        let credential = match &config.secret {
            None => Ok(None),
            Some(source) => source.read().map(|secret| Credential::new(&config.auth, &secret).map(Arc::new)),
        };
        Self { credential, modified }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(auth: Auth, secret: &str) -> Credential {
        Credential::new(&auth, &SecretString::new(secret.to_owned()).unwrap()).unwrap()
    }

    fn header(credential: &Credential) -> &str {
        match credential.place() {
            Place::Header(_, value) => value.to_str().unwrap(),
            Place::Query(..) => panic!("a header was expected"),
        }
    }

    #[test]
    fn prefix_is_put_before_the_secret_once() {
        let bearer = || Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() };
        assert_eq!(header(&credential(bearer(), "sk-1")), "Bearer sk-1");
        assert_eq!(header(&credential(bearer(), "Bearer sk-1")), "Bearer sk-1");
    }

    #[test]
    fn basic_is_user_and_secret_in_base64() {
        let basic = credential(Auth::Basic { user: "aladdin".to_owned() }, "opensesame");
        assert_eq!(header(&basic), "Basic YWxhZGRpbjpvcGVuc2VzYW1l");
        assert!(basic.forms().any(|form| form == b"YWxhZGRpbjpvcGVuc2VzYW1l"));
    }

    #[test]
    fn base64_of_any_text_around_a_secret_holds_a_form_of_it() {
        let secret = "sk>>>???canary-47";
        let header = || Auth::Header { name: http::header::AUTHORIZATION, prefix: String::new() };
        let credential = credential(header(), secret);
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "d", "de", "def"] {
                let text = format!("{before}{secret}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let holds = |form: &[u8]| encoded.as_bytes().windows(form.len()).any(|part| part == form);
                    assert!(credential.forms().any(holds), "{encoded}");
                }
            }
        }
    }

    #[test]
    fn forms_of_a_short_secret_are_no_chance_finds() {
        let credential = credential(Auth::Query { param: "k".to_owned() }, "a/b");
        let forms: Vec<_> =
            credential.forms().map(|form| String::from_utf8_lossy(form).into_owned()).collect();
        assert_eq!(forms, ["a%2Fb", "a%2fb", "YS9i", "a/b"]);
    }

    #[test]
    fn query_secret_is_percent_encoded() {
        let query = credential(Auth::Query { param: "api_key".to_owned() }, "a&b=c d");
        match query.place() {
            Place::Query(name, pair) => {
                assert_eq!((name.as_str(), pair.expose()), ("api_key", "api_key=a%26b%3Dc%20d"));
            }
            Place::Header(..) => panic!("a query parameter was expected"),
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        for auth in [
            Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() },
            Auth::Query { param: "k".to_owned() },
            Auth::Basic { user: "u".to_owned() },
        ] {
            let credential = credential(auth, "canary-4711");
            let shown = format!("{credential:?} {:?}", credential.place());
            assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
        }
    }
}
