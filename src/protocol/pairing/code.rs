//! The code that an owner copies from the dashboard to the gateway's machine.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::names::{SessionId, hex};

/// A to Z and 2 to 9 without I, L and O, which are read as other characters.
const ALPHABET: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";
const LENGTH: usize = 8;
/// The greatest multiple of the alphabet's length that a byte reaches: a byte from there on would favour some letters.
const FAIR: u8 = 248;
/// Says what the digest is of, so that it is no other one's.
const PURPOSE: &[u8] = b"sigilum-pair-code-v1\n";

/// A pair code: 8 characters of A to Z and 2 to 9 without I, L and O. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PairCode(String);

/// The text is no pair code. It is not repeated, since it may be one but for a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pair code has 8 characters of A to Z and 2 to 9, without I, L and O")]
pub struct NotAPairCode;

impl PairCode {
    /// A code from random bytes; `None` where they are too few for eight fair characters, which 64 practically never are.
    #[must_use]
    pub fn from_random(bytes: &[u8]) -> Option<Self> {
        let fair = bytes.iter().filter(|byte| **byte < FAIR);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        let code: String = letters.take(LENGTH).map(|letter| char::from(*letter)).collect();
        (code.len() == LENGTH).then_some(Self(code))
    }

    /// The code itself, to be shown once, or sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for PairCode {
    type Err = NotAPairCode;

    /// In any case of letters.
    fn from_str(text: &str) -> Result<Self, NotAPairCode> {
        let code = text.to_ascii_uppercase();
        let held = code.len() == LENGTH && code.bytes().all(|byte| ALPHABET.contains(&byte));
        if held { Ok(Self(code)) } else { Err(NotAPairCode) }
    }
}

impl fmt::Debug for PairCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairCode([redacted])")
    }
}

/// What is kept of a code: the SHA-256 of the session's id and the code, in lower-case hex. A text that can be no code
/// has a digest too, which is no code's.
#[must_use]
pub fn code_digest(session: &SessionId, code: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(PURPOSE);
    hash.update(session.as_str());
    hash.update(b"\n");
    hash.update(code.to_ascii_uppercase());
    let digest: [u8; 32] = hash.finalize().into();
    hex(&digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_made_of_letters_that_are_not_mistaken() {
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(PairCode::from_random(&every).unwrap().expose(), "ABCDEFGH");
        assert!(PairCode::from_random(&[255; 64]).is_none());
        for letter in "ILO01".bytes() {
            assert!(!ALPHABET.contains(&letter));
        }
        assert_eq!(ALPHABET.len() * 8, usize::from(FAIR));
    }

    #[test]
    fn code_is_read_in_any_case_and_held_to_its_form() {
        assert_eq!("abcd2345".parse::<PairCode>().unwrap().expose(), "ABCD2345");
        for wrong in ["", "ABCD234", "ABCD23456", "ABCDI234", "ABCD0234", "ABCD-234", "ÄBCD234"] {
            assert!(wrong.parse::<PairCode>().is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", "ABCD2345".parse::<PairCode>().unwrap()), "PairCode([redacted])");
    }

    #[test]
    fn digest_is_one_session_s_alone_and_of_either_case() {
        let (one, other) = (SessionId::from_random([1; 16]), SessionId::from_random([2; 16]));
        assert_eq!(code_digest(&one, "ABCD2345"), code_digest(&one, "abcd2345"));
        assert_ne!(code_digest(&one, "ABCD2345"), code_digest(&other, "ABCD2345"));
        assert_eq!(code_digest(&one, "x").len(), 64);
    }
}
