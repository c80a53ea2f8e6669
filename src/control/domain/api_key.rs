//! The text of a service API key.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::names::{hex, push_hex};

/// What every key begins with.
const PREFIX: &str = "sk_live_";
/// The hexadecimal digits that follow.
const DIGITS: usize = 48;
/// Digits that are kept with the prefix, to recognize a key by.
const SHOWN: usize = 4;

/// A service API key: `sk_live_` and 48 lower-case hexadecimal digits. It is shown once, when it is made; of it only the
/// beginning and the SHA-256 are kept.
pub struct ApiKey(Zeroizing<String>);

/// The text is no service API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a service API key is sk_live_ and 48 hexadecimal digits; what was sent is none")]
pub struct NotAnApiKey;

impl ApiKey {
    /// A new key, from 24 random bytes.
    #[must_use]
    pub fn from_random(bytes: &[u8; DIGITS / 2]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + DIGITS));
        text.push_str(PREFIX);
        push_hex(&mut text, bytes);
        Self(text)
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its beginning, by which people recognize it.
    #[must_use]
    pub fn beginning(&self) -> &str {
        self.0.get(..PREFIX.len() + SHOWN).unwrap_or(PREFIX)
    }

    /// Its SHA-256, in lower-case hexadecimal digits: what it is looked up by.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

impl FromStr for ApiKey {
    type Err = NotAnApiKey;

    fn from_str(text: &str) -> Result<Self, NotAnApiKey> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let holds = |digits: &str| digits.len() == DIGITS && digits.bytes().all(is_digit);
        if text.strip_prefix(PREFIX).is_some_and(holds) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(NotAnApiKey)
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_as_it_was_made_and_nothing_else_is_one() {
        let made = ApiKey::from_random(&[0xa5; 24]);
        let text = format!("sk_live_{}", "a5".repeat(24));
        assert_eq!(made.expose(), text);
        assert_eq!(made.beginning(), "sk_live_a5a5");
        assert_eq!(text.parse::<ApiKey>().unwrap().sha256(), made.sha256());
        for wrong in
            ["", "sk_live_", &text[1..], &format!("{text}0"), &text.to_uppercase(), &text.replace('a', "g")]
        {
            assert_eq!(wrong.parse::<ApiKey>().unwrap_err(), NotAnApiKey, "{wrong}");
        }
        assert_eq!(format!("{made:?}"), "ApiKey([redacted])");
    }
}
