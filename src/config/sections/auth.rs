//! `providers[].auth`: what is injected.

use http::{HeaderName, HeaderValue, header};

use crate::config::reader::{Reader, Section};
use crate::config::sentence::{holds, one_of, shown};
use crate::connections::{Auth, SecretSource};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bearer,
    HeaderKey,
    QueryParam,
    Basic,
    None,
}

const MODES: [(&str, Mode); 5] = [
    ("bearer", Mode::Bearer),
    ("header_key", Mode::HeaderKey),
    ("query_param", Mode::QueryParam),
    ("basic", Mode::Basic),
    ("none", Mode::None),
];

impl Mode {
    fn word(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(word, _)| word)
    }

    /// The keys that have a meaning besides `mode`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Bearer | Self::HeaderKey => &["secret", "header", "prefix"],
            Self::QueryParam => &["secret", "param"],
            Self::Basic => &["secret", "user"],
            Self::None => &[],
        }
    }
}

/// Reads `auth` of a provider; `None` where it is wrong. Without `auth` nothing is injected.
pub(super) fn auth(reader: &mut Reader<'_>, provider: &Section<'_>) -> Option<(Auth, Option<SecretSource>)> {
    let section = provider.section(reader, "auth");
    let secret = section.secret(reader, "secret");
    let name = section.parsed(reader, "header", "a header's name", &header_name);
    let prefix = section.parsed(reader, "prefix", "text to stand before the secret", &header_prefix);
    let param = section.parsed(reader, "param", "a query parameter's name", &query_param);
    let user = section.parsed(reader, "user", "a user's name", &basic_user);
    if !provider.has("auth") {
        return Some((Auth::None, None));
    }
    let words = MODES.iter().map(|(word, _)| *word);
    section.need(reader, "mode", &format!("is needed: {}", one_of(words)));
    let mode = section.choice(reader, "mode", &MODES)?;
    report_misplaced(reader, &section, mode);
    if mode != Mode::None {
        section.need(
            reader,
            "secret",
            "is needed: where the secret is read from, such as env:OPENAI_API_KEY",
        );
    }
    let auth = match mode {
        Mode::Bearer => Auth::Header {
            name: name.unwrap_or(header::AUTHORIZATION),
            prefix: prefix.unwrap_or_else(|| "Bearer ".to_owned()),
        },
        Mode::HeaderKey => {
            section.need(reader, "header", "is needed with mode: header_key, such as X-Api-Key");
            Auth::Header { name: name?, prefix: prefix.unwrap_or_default() }
        }
        Mode::QueryParam => Auth::Query { param: param.unwrap_or_else(|| "api_key".to_owned()) },
        Mode::Basic => {
            section.need(reader, "user", "is needed with mode: basic");
            Auth::Basic { user: user? }
        }
        Mode::None => return Some((Auth::None, None)),
    };
    Some((auth, Some(secret?)))
}

fn report_misplaced(reader: &mut Reader<'_>, section: &Section<'_>, mode: Mode) {
    for key in ["secret", "header", "prefix", "param", "user"] {
        if section.has(key) && !mode.keys().contains(&key) {
            section.error(reader, key, format!("has no meaning with mode: {}; leave it out", mode.word()));
        }
    }
}

/// Headers that the proxy itself sets or that steer the connection: a secret in one would break the exchange.
fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 15] = [
        "connection",
        "content-digest",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    let name = name.as_str();
    RESERVED.contains(&name) || name.starts_with("sigilum-") || name.starts_with("signature")
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| holds("a header's name such as X-Api-Key", text))?;
    if is_reserved(&name) {
        return Err(format!(
            "{} steers the exchange itself and cannot carry a secret; name another header",
            shown(text)
        ));
    }
    Ok(name)
}

/// A prefix is part of a header's value. It is not repeated: a secret may stand there by mistake.
fn header_prefix(text: &str) -> Result<String, String> {
    let printable =
        HeaderValue::from_str(text).is_ok() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if printable && text.len() <= 64 {
        Ok(text.to_owned())
    } else {
        Err("takes up to 64 printable ASCII characters, such as \"Token \"".to_owned())
    }
}

fn query_param(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    if (1..=128).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(holds("a query parameter's name such as api_key (letters, digits, - . _ ~)", text))
    }
}

/// RFC 7617: a user has no colon, which ends it. It is not repeated, as what stands behind a colon is a secret.
fn basic_user(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && !text.contains(':') && !text.chars().any(char::is_control);
    if plain {
        Ok(text.to_owned())
    } else {
        Err("takes a user's name without a colon and control characters".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_that_steers_the_exchange_is_refused() {
        for wrong in [
            "Host",
            "Content-Length",
            "connection",
            "Transfer-Encoding",
            "TE",
            "Upgrade",
            "Signature",
            "signature-input",
            "Sigilum-Subject",
            "content-digest",
            "",
            "a b",
            "a:b",
            "x\r\ny",
        ] {
            assert!(header_name(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(header_name("X-Api-Key").unwrap().as_str(), "x-api-key");
    }

    #[test]
    fn prefix_with_a_control_character_is_refused() {
        for wrong in ["a\r\nb", "a\tb", "\u{7f}", "ü", &"a".repeat(65)] {
            assert!(header_prefix(wrong).is_err(), "{wrong:?} was taken");
        }
        assert_eq!(header_prefix("").as_deref(), Ok(""));
    }
}
