//! The forms in which a secret could come back: as it is, percent-encoded, in base64 whatever stands around it.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use zeroize::Zeroizing;

/// A shorter piece of base64 stands in other texts by chance.
const LEAST_BASE64: usize = 8;

/// The forms of a secret, without repetition.
#[derive(Default)]
pub(super) struct Forms(Vec<Zeroizing<String>>);

impl Forms {
    /// A text in all of its forms.
    pub(super) fn add(&mut self, text: &str) {
        let encoded = percent_encoded(text);
        self.push(Zeroizing::new(lower_case_digits(&encoded)));
        self.push(encoded);
        self.push(Zeroizing::new(text.to_owned()));
        for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            self.push(Zeroizing::new(alphabet.encode(text)));
            for before in ["", "-", "--"] {
                if let Some(inside) = inside_base64(&alphabet, before, text) {
                    self.push(inside);
                }
            }
        }
    }

    /// One form. Padding of base64 is left out, since what stands around decides about it.
    pub(super) fn push(&mut self, form: Zeroizing<String>) {
        let kept = form.trim_end_matches('=');
        let kept = if kept.is_empty() { form.as_str() } else { kept };
        if !kept.is_empty() && !self.0.iter().any(|known| known.as_str() == kept) {
            self.0.push(Zeroizing::new(kept.to_owned()));
        }
    }

    /// The longest first, so that what is masked of a text is as much as can be. The bytes are zeroized with their last
    /// clone.
    pub(super) fn done(mut self) -> Vec<Bytes> {
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let shared = |form: &mut Zeroizing<String>| {
            Bytes::from_owner(Zeroizing::new(std::mem::take(&mut **form).into_bytes()))
        };
        self.0.iter_mut().map(shared).collect()
    }
}

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

/// Percent-encoding of all but the unreserved characters (RFC 3986 §2.3).
pub(super) fn percent_encoded(text: &str) -> Zeroizing<String> {
    encoded_except(text, b"-._~")
}

/// Percent-encoding of all but letters, digits and `plain`.
pub(super) fn encoded_except(text: &str, plain: &[u8]) -> Zeroizing<String> {
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
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn forms(secret: &str) -> Vec<Bytes> {
        let mut forms = Forms::default();
        forms.add(secret);
        forms.done()
    }

    #[test]
    fn base64_of_any_text_around_a_secret_holds_a_form_of_it() {
        let secret = "sk>>>???canary-47";
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "d", "de", "def"] {
                let text = format!("{before}{secret}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let holds =
                        |form: &Bytes| encoded.as_bytes().windows(form.len()).any(|part| part == form);
                    assert!(forms(secret).iter().any(holds), "{encoded}");
                }
            }
        }
    }

    #[test]
    fn forms_of_a_short_secret_are_no_chance_finds() {
        let forms: Vec<_> =
            forms("a/b").iter().map(|form| String::from_utf8_lossy(form).into_owned()).collect();
        assert_eq!(forms, ["a%2Fb", "a%2fb", "YS9i", "a/b"]);
    }
}
