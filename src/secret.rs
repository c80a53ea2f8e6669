//! Secret text and bytes: zeroized when dropped, redacted in `Debug`, neither cloned nor serialized.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox};
use zeroize::{Zeroize, Zeroizing};

/// A provider's secret or another text that must never be shown.
pub struct SecretString(SecretBox<str>);

/// Why a text cannot be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFault {
    /// Nothing is there.
    #[error("the secret is empty")]
    Empty,
    /// A control character, which no HTTP header can carry.
    #[error("the secret holds a control character at position {0}; it must be one line of printable text")]
    ControlCharacter(usize),
}

impl SecretString {
    /// Takes the text over. White space and line ends around it, which files and pipes add, are left out.
    ///
    /// # Errors
    /// When nothing is left, or when the text holds a control character.
    pub fn new(mut text: String) -> Result<Self, SecretFault> {
        let kept = text.trim();
        let result = if kept.is_empty() {
            Err(SecretFault::Empty)
        } else if let Some(position) = kept.chars().position(char::is_control) {
            Err(SecretFault::ControlCharacter(position + 1))
        } else {
            Ok(Self(SecretBox::new(kept.into())))
        };
        text.zeroize();
        result
    }

    /// The secret itself. Every call is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString([redacted])")
    }
}

/// Secret bytes: what the vault keeps and gives back.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; any bytes, also none.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Every call is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let secret = SecretString::new("sk-canary\n".into()).unwrap();
        assert_eq!(secret.expose(), "sk-canary");
        assert_eq!(format!("{secret:?}"), "SecretString([redacted])");
        let secret = SecretBytes::new(b"sk-canary".to_vec());
        assert_eq!(secret.expose(), b"sk-canary");
        assert_eq!(format!("{secret:?}"), "SecretBytes([redacted])");
    }

    #[test]
    fn control_characters_and_nothing_are_refused() {
        assert_eq!(SecretString::new(" \n".into()).unwrap_err(), SecretFault::Empty);
        assert_eq!(SecretString::new("a\r\nb".into()).unwrap_err(), SecretFault::ControlCharacter(2));
    }
}
