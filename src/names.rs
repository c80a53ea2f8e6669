//! Names that are valid because they exist: each is made by parsing, and none can be changed after.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not the name that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Shorter or longer than the name may be, in characters.
    #[error("{what} must have {} characters, this one has {found}", span(*least, *most))]
    Length {
        /// What the name names.
        what: &'static str,
        /// The least number of characters.
        least: usize,
        /// The greatest number of characters.
        most: usize,
        /// The number found.
        found: usize,
    },
    /// A character outside the name's alphabet, or at a place where it may not stand.
    #[error("{what} may hold {alphabet}; the character {found:?} at position {position} is not one of them")]
    Character {
        /// What the name names.
        what: &'static str,
        /// The alphabet, in words.
        alphabet: &'static str,
        /// The character found.
        found: char,
        /// Its position, from 1.
        position: usize,
    },
}

fn span(least: usize, most: usize) -> String {
    if least == most { least.to_string() } else { format!("{least} to {most}") }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let parse: fn(&str) -> Result<Arc<str>, NameError> = $parse;
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

name!(
    /// A namespace: `^[a-z0-9][a-z0-9-]{1,62}[a-z0-9]$`. Input is lower-cased first.
    Namespace,
    |text| slug("a namespace", &text.to_ascii_lowercase(), 3)
);
name!(
    /// The id of a provider connection, also the slug of the service that a claim names:
    /// `^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`.
    ConnectionId,
    |text| slug("a connection id", text, 1)
);
name!(
    /// A claim's id, as the control plane made it: 1 to 128 visible ASCII characters.
    ClaimId,
    |text| visible("a claim id", text, 1, 128)
);
name!(
    /// The name of one secret of a connection: letters, digits, `_`, `-` and `.`, up to 128.
    SecretName,
    |text| safe("a secret's name", text, 1)
);
name!(
    /// A request's id: the client's where it is 8 to 128 safe characters, else one of ours.
    RequestId,
    |text| safe("a request id", text, 8)
);

name!(
    /// A service's slug: `^[a-z0-9][a-z0-9-]{1,62}[a-z0-9]$`, unique per owner. Every slug is a [`ConnectionId`] too.
    ServiceSlug,
    |text| slug("a service slug", text, 3)
);
name!(
    /// A service's id: `svc_` and 32 hexadecimal digits.
    ServiceId,
    |text| prefixed("a service id", "svc_", text)
);
name!(
    /// The id of a service API key: `key_` and 32 hexadecimal digits.
    ApiKeyId,
    |text| prefixed("a key id", "key_", text)
);
name!(
    /// A webhook's id: `wh_` and 32 hexadecimal digits.
    WebhookId,
    |text| prefixed("a webhook id", "wh_", text)
);
name!(
    /// The id of one delivery of a webhook: `del_` and 32 hexadecimal digits. The same at every attempt.
    DeliveryId,
    |text| prefixed("a delivery id", "del_", text)
);
name!(
    /// The id of a pairing session: `ps_` and 32 hexadecimal digits.
    SessionId,
    |text| prefixed("a session id", "ps_", text)
);
name!(
    /// The id of a usage event, as the gateway made it: 1 to 128 visible ASCII characters.
    UsageEventId,
    |text| visible("a usage event id", text, 1, 128)
);

/// Makes ids of our own: the prefix and 32 hexadecimal digits.
macro_rules! random_id {
    ($name:ident, $prefix:literal) => {
        impl $name {
            /// An id of our own, from 16 random bytes.
            #[must_use]
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(format!("{}{}", $prefix, hex(&bytes)).into())
            }
        }
    };
}

random_id!(RequestId, "req_");
random_id!(ClaimId, "cl_");
random_id!(ServiceId, "svc_");
random_id!(ApiKeyId, "key_");
random_id!(WebhookId, "wh_");
random_id!(DeliveryId, "del_");
random_id!(SessionId, "ps_");
random_id!(UsageEventId, "ue_");

impl From<&ServiceSlug> for ConnectionId {
    fn from(slug: &ServiceSlug) -> Self {
        Self(Arc::clone(&slug.0))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

/// Puts bytes behind `text` as lower-case hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0x0f));
    }
}

fn prefixed(what: &'static str, prefix: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    length(what, text, prefix.len() + 32, prefix.len() + 32)?;
    let alphabet = "its prefix and then the digits 0 to 9 and a to f";
    let mut expected = prefix.chars();
    characters(what, alphabet, text, |_, c| match expected.next() {
        Some(letter) => c == letter,
        None => matches!(c, '0'..='9' | 'a'..='f'),
    })?;
    Ok(text.into())
}

fn length(what: &'static str, text: &str, least: usize, most: usize) -> Result<(), NameError> {
    let found = text.chars().count();
    if (least..=most).contains(&found) { Ok(()) } else { Err(NameError::Length { what, least, most, found }) }
}

fn characters(
    what: &'static str,
    alphabet: &'static str,
    text: &str,
    mut allowed: impl FnMut(usize, char) -> bool,
) -> Result<(), NameError> {
    match text.chars().enumerate().find(|(position, c)| !allowed(*position, *c)) {
        None => Ok(()),
        Some((position, found)) => {
            Err(NameError::Character { what, alphabet, found, position: position + 1 })
        }
    }
}

fn slug(what: &'static str, text: &str, least: usize) -> Result<Arc<str>, NameError> {
    length(what, text, least, 64)?;
    let last = text.len().saturating_sub(1);
    characters(what, "a to z, 0 to 9 and, inside, hyphens", text, |position, c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || (c == '-' && position != 0 && position != last)
    })?;
    Ok(text.into())
}

fn visible(what: &'static str, text: &str, least: usize, most: usize) -> Result<Arc<str>, NameError> {
    length(what, text, least, most)?;
    characters(what, "visible ASCII characters", text, |_, c| c.is_ascii_graphic())?;
    Ok(text.into())
}

fn safe(what: &'static str, text: &str, least: usize) -> Result<Arc<str>, NameError> {
    length(what, text, least, 128)?;
    characters(what, "letters, digits, '_', '-' and '.'", text, |_, c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
    })?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_lower_cased_and_held_to_its_form() {
        assert_eq!("Alice-1".parse::<Namespace>().unwrap().as_str(), "alice-1");
        for wrong in ["", "ab", "-abc", "abc-", "a_c", "a c", &"a".repeat(65), "ümlaut"] {
            assert!(wrong.parse::<Namespace>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn request_id_of_a_client_is_taken_only_when_safe() {
        assert!("abcd-1234".parse::<RequestId>().is_ok());
        for wrong in ["short", "has space", "new\nline1", "ümlaut123", &"a".repeat(129)] {
            assert!(wrong.parse::<RequestId>().is_err(), "{wrong:?} was taken");
        }
        let bytes = *b"\x00\x01\x0f\x10\xff56789abcdef";
        assert_eq!(RequestId::from_random(bytes).as_str(), "req_00010f10ff3536373839616263646566");
    }

    #[test]
    fn error_says_what_is_wrong_and_where() {
        let error = "open_ai".parse::<ConnectionId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "a connection id may hold a to z, 0 to 9 and, inside, hyphens; the character '_' at position 5 is not one of them"
        );
    }
}
