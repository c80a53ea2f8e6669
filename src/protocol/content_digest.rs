//! RFC 9530 `Content-Digest`, SHA-256.

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor};
use sfv::{BareItemFromInput, KeyRef, Parser};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The SHA-256 that a `content-digest` header claims for the body. One without a readable SHA-256 matches no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest(Option<[u8; 32]>);

impl ContentDigest {
    /// The digest of `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Some(Sha256::digest(body).into()))
    }

    /// Reads the header (RFC 9530 §2). Other algorithms beside `sha-256` are ignored; a header that is malformed
    /// or has no SHA-256 of 32 bytes gives a digest that matches no body.
    #[must_use]
    pub fn from_header(value: &str) -> Self {
        Self(Parser::new(value).parse_dictionary_with_visitor(Sha256Member(None)).unwrap_or(None))
    }

    /// Whether the body hashed so far is the one claimed, compared in constant time.
    #[must_use]
    pub fn matches(&self, hash: &BodyHash) -> bool {
        let found: [u8; 32] = hash.0.clone().finalize().into();
        self.0.is_some_and(|claimed| claimed.ct_eq(&found).into())
    }

    /// The header's value, `sha-256=:<base64>:`; `None` where no SHA-256 could be read.
    #[must_use]
    pub fn to_header_value(&self) -> Option<String> {
        self.0.map(|digest| format!("sha-256=:{}:", STANDARD.encode(digest)))
    }
}

/// The running SHA-256 of a body. `Default` is the hash of nothing; it is begun again by making a new one.
#[derive(Clone, Default)]
pub struct BodyHash(Sha256);

impl BodyHash {
    /// Takes the next part of the body in.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }
}

impl std::fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyHash(..)")
    }
}

/// Keeps the last `sha-256` member, as RFC 9651 §4.2.2 wants where a key is repeated.
struct Sha256Member(Option<[u8; 32]>);

impl<'de> DictionaryVisitor<'de> for Sha256Member {
    type Out = Option<[u8; 32]>;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok((key.as_str() == "sha-256").then(|| {
            self.0 = None;
            Member(&mut self.0)
        }))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

struct Member<'s>(&'s mut Option<[u8; 32]>);

impl<'de> EntryVisitor<'de> for Member<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(|item: BareItemFromInput<'de>| {
            *self.0 = item.as_byte_sequence().and_then(|bytes| bytes.try_into().ok());
            Ok::<_, Infallible>(Ignored)
        })
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";

    fn hash(parts: &[&str]) -> BodyHash {
        let mut hash = BodyHash::default();
        parts.iter().for_each(|part| hash.update(part.as_bytes()));
        hash
    }

    #[test]
    fn body_in_parts_matches_its_digest() {
        assert_eq!(ContentDigest::of(b"hello").to_header_value().unwrap(), HELLO);
        let digest = ContentDigest::from_header(HELLO);
        assert!(digest.matches(&hash(&["he", "", "llo"])));
        assert!(!digest.matches(&hash(&["hello", "!"])));
        assert!(!digest.matches(&BodyHash::default()));
    }

    #[test]
    fn other_algorithms_and_spelling_that_means_the_same_are_taken() {
        for header in [
            format!("sha-512=:AAAA:, {HELLO}"),
            format!("{HELLO}, sha-512=:AAAA:"),
            format!("{HELLO},md5=1;a=2,x=(1 2)"),
            format!("sha-256=:AAAA:, {HELLO}"),
            format!("  {HELLO};q=1 "),
        ] {
            assert!(ContentDigest::from_header(&header).matches(&hash(&["hello"])), "{header}");
        }
    }

    #[test]
    fn malformed_header_matches_no_body() {
        for header in [
            "",
            "sha-256",
            "sha-256=",
            "sha-256=::",
            "sha-256=:AAAA:",
            "sha-256=\"x\"",
            "sha-256=(1)",
            "md5=:AAAA:",
            "SHA-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
            "sha-256=:LPJNul",
            "ümlaut",
            &format!("{HELLO}, sha-256=:AAAA:"),
        ] {
            let digest = ContentDigest::from_header(header);
            assert!(!digest.matches(&hash(&["hello"])) && !digest.matches(&BodyHash::default()), "{header}");
            assert_eq!(digest.to_header_value(), None, "{header}");
        }
    }
}
