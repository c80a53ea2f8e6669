//! What a record is called: kind, owner, name and version, and the one encoding of these that everything binds to.

use std::fmt;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A connection's document.
    Connection,
    /// A connection's secret.
    Secret,
    /// A shared credential variable.
    Variable,
    /// A service's API key at the control plane.
    ServiceKey,
    /// The service catalog.
    Catalog,
    /// A key of the gateway's own.
    GatewayKey,
    /// Marks of sealed secrets that were used up.
    Seals,
}

const KINDS: [Kind; 7] = [
    Kind::Connection,
    Kind::Secret,
    Kind::Variable,
    Kind::ServiceKey,
    Kind::Catalog,
    Kind::GatewayKey,
    Kind::Seals,
];

impl Kind {
    /// Its number on disk, which never changes; never 0.
    fn number(self) -> u8 {
        match self {
            Self::Connection => 1,
            Self::Secret => 2,
            Self::Variable => 3,
            Self::ServiceKey => 4,
            Self::Catalog => 5,
            Self::GatewayKey => 6,
            Self::Seals => 7,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::Secret => "secret",
            Self::Variable => "variable",
            Self::ServiceKey => "service key",
            Self::Catalog => "catalog",
            Self::GatewayKey => "gateway key",
            Self::Seals => "used seals",
        })
    }
}

/// The address of one record. Two records with the same address cannot both be in a vault.
///
/// Addresses are not secret: they stand on disk as they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    kind: Kind,
    owner: String,
    name: String,
    version: u64,
}

/// Why a text cannot be an owner or a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordKeyFault {
    /// Empty or too long.
    #[error("a record's {part} has {bytes} bytes; it must have 1 to {LONGEST_BYTES}")]
    Length {
        /// `owner` or `name`.
        part: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A control character.
    #[error("a record's {part} holds a control character; it must be printable text")]
    ControlCharacter {
        /// `owner` or `name`.
        part: &'static str,
    },
}

/// Connection ids, namespaces and variable names are all shorter.
const LONGEST_BYTES: usize = 256;

impl RecordKey {
    /// An address. `owner` is whose it is (a connection id; for what is the gateway's own, `-`), `name` which of the
    /// owner's, and `version` counts secrets from 1; what has no versions has 0.
    ///
    /// # Errors
    /// When owner or name is empty, longer than 256 bytes, or holds a control character.
    pub fn new(kind: Kind, owner: &str, name: &str, version: u64) -> Result<Self, RecordKeyFault> {
        for (part, text) in [("owner", owner), ("name", name)] {
            if text.is_empty() || text.len() > LONGEST_BYTES {
                return Err(RecordKeyFault::Length { part, bytes: text.len() });
            }
            if text.chars().any(char::is_control) {
                return Err(RecordKeyFault::ControlCharacter { part });
            }
        }
        Ok(Self { kind, owner: owner.to_owned(), name: name.to_owned(), version })
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Which of the owner's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version; 0 where there are none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same record in another version.
    #[must_use]
    pub fn with_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// Whether the two differ in nothing but the version.
    #[must_use]
    pub fn is_version_of(&self, other: &Self) -> bool {
        self.kind == other.kind && self.owner == other.owner && self.name == other.name
    }

    /// The least address of a kind and an owner, where a walk over its records begins; `None` is every owner.
    pub(super) fn first_of(kind: Kind, owner: Option<&str>) -> Self {
        Self { kind, owner: owner.unwrap_or_default().to_owned(), name: String::new(), version: 0 }
    }

    /// The least address of a record's versions.
    pub(super) fn first_version(kind: Kind, owner: &str, name: &str) -> Self {
        Self { kind, owner: owner.to_owned(), name: name.to_owned(), version: 0 }
    }

    /// Unambiguous: every part is of fixed length or has its length before it. This is the key on disk, the data that
    /// the seal binds, and what the ledger names.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind.number()];
        for text in [&self.owner, &self.name] {
            // `new` and `decode` let nothing longer than 256 bytes through.
            bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.version.to_be_bytes());
        bytes
    }

    /// Reads what `encode` wrote; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first()?;
        let (owner, rest) = decode_text(rest)?;
        let (name, rest) = decode_text(rest)?;
        let version = u64::from_be_bytes(rest.try_into().ok()?);
        Self::new(Kind::from_number(*number)?, owner, name, version).ok()
    }
}

fn decode_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

impl fmt::Display for RecordKey {
    /// `secret openai/api_key, version 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.owner, self.name)?;
        if self.version == 0 { Ok(()) } else { write!(f, ", version {}", self.version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_is_read_back_and_tells_neighbours_apart() {
        let key = RecordKey::new(Kind::Secret, "openai", "api_key", 7).unwrap();
        assert_eq!(RecordKey::decode(&key.encode()), Some(key.clone()));
        assert_eq!(key.to_string(), "secret openai/api_key, version 7");
        let shifted = RecordKey::new(Kind::Secret, "openaia", "pi_key", 7).unwrap();
        assert_ne!(key.encode(), shifted.encode());
    }

    #[test]
    fn bytes_that_are_no_address_are_refused() {
        let key = RecordKey::new(Kind::Variable, "-", "KEY", 0).unwrap().encode();
        for length in 0..key.len() {
            assert_eq!(RecordKey::decode(&key[..length]), None, "{length}");
        }
        let mut longer = key.clone();
        longer.push(0);
        assert_eq!(RecordKey::decode(&longer), None);
        let mut unknown = key;
        unknown[0] = 99;
        assert_eq!(RecordKey::decode(&unknown), None);
    }

    #[test]
    fn empty_long_and_unprintable_parts_are_refused() {
        let long = "b".repeat(257);
        let fault = |owner, name| RecordKey::new(Kind::Secret, owner, name, 1).unwrap_err();
        assert_eq!(fault("", "a"), RecordKeyFault::Length { part: "owner", bytes: 0 });
        assert_eq!(fault("a", &long), RecordKeyFault::Length { part: "name", bytes: 257 });
        assert_eq!(fault("a\n", "b"), RecordKeyFault::ControlCharacter { part: "owner" });
    }
}
