//! The cryptography: sealing with XChaCha20-Poly1305, and MACs with HMAC-SHA-256.

use std::collections::BTreeMap;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::fault::{RecordFault, VaultFault};
use super::record::RecordKey;
use crate::secret::SecretBytes;

/// A MAC, or a hash: 32 bytes.
pub(super) type Tag = [u8; 32];

/// A symmetric key.
pub(super) struct Key(Zeroizing<[u8; 32]>);

const NONCE_BYTES: usize = 24;
/// The first byte of a sealed record.
const RECORD_FORMAT: u8 = 1;
/// Format and number of the data key, before nonce and ciphertext.
const RECORD_HEAD_BYTES: usize = 5;

impl Key {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn random() -> Result<Self, VaultFault> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(|_| VaultFault::NoRandom)?;
        Ok(Self(bytes))
    }

    /// Another owner of the same key.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A fresh nonce, then the ciphertext of `plain`, which opens only with the same `bound`.
    pub(super) fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, VaultFault> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let mut sealed = nonce.to_vec();
        sealed.extend(self.seal_with(nonce, bound, plain)?);
        Ok(sealed)
    }

    /// The ciphertext under a nonce that the caller vouches for: it is used once.
    pub(super) fn seal_with(
        &self,
        nonce: [u8; NONCE_BYTES],
        bound: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, VaultFault> {
        XChaCha20Poly1305::new(&(*self.0).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: bound })
            // Only a text of more than 256 GiB cannot be sealed.
            .map_err(|_| VaultFault::ValueTooLarge { bytes: plain.len(), most: LARGEST_VALUE_BYTES })
    }

    /// Opens what `seal` made; `None` where key, bound data or bytes are others.
    pub(super) fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        self.open_with(*nonce, bound, ciphertext)
    }

    /// Opens what `seal_with` made.
    pub(super) fn open_with(
        &self,
        nonce: [u8; NONCE_BYTES],
        bound: &[u8],
        ciphertext: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        XChaCha20Poly1305::new(&(*self.0).into())
            .decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: bound })
            .ok()
            .map(Zeroizing::new)
    }

    /// A MAC over the parts; the label says what for.
    pub(super) fn mac<'a>(&self, label: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> Tag {
        self.started(label, parts).finalize().into_bytes().into()
    }

    /// Whether `tag` is the MAC over the parts, in constant time.
    pub(super) fn holds<'a>(
        &self,
        label: &'a str,
        parts: impl IntoIterator<Item = &'a [u8]>,
        tag: &[u8],
    ) -> bool {
        self.started(label, parts).verify_slice(tag).is_ok()
    }

    fn started<'a>(&self, label: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
        // HMAC fills a key up with zeros to the hash's block (RFC 2104 §2).
        let block = Zeroizing::new(std::array::from_fn::<u8, 64, _>(|i| self.0.get(i).copied().unwrap_or(0)));
        let mut mac = Hmac::<Sha256>::new(&(*block).into());
        for part in [label.as_bytes()].into_iter().chain(parts) {
            // With its length before each part, two lists of parts never give the same bytes.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// The largest value that a record takes: a service catalog with its templates is far smaller.
pub(super) const LARGEST_VALUE_BYTES: usize = 1024 * 1024;

/// Fresh random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], VaultFault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| VaultFault::NoRandom)?;
    Ok(bytes)
}

/// A vault's own random name: what is sealed in one does not open in another.
pub(super) type VaultId = [u8; 16];

/// The keys of an open vault.
pub(super) struct Keyring {
    pub(super) vault: VaultId,
    /// The key of the MACs.
    pub(super) integrity: Key,
    /// The data key that seals, and its number.
    pub(super) current: (u32, Key),
    /// Data keys by number that only open what they sealed once.
    pub(super) retired: BTreeMap<u32, Key>,
}

impl Keyring {
    /// For a new vault.
    pub(super) fn create() -> Result<Self, VaultFault> {
        let (vault, integrity, current) = (random()?, Key::random()?, (1, Key::random()?));
        Ok(Self { vault, integrity, current, retired: BTreeMap::new() })
    }

    /// The same keys with a new data key; the one until now is retired.
    pub(super) fn with_new_data_key(&self) -> Result<Self, VaultFault> {
        let mut next = self.share();
        let number = next.current.0.saturating_add(1);
        let (old, key) = std::mem::replace(&mut next.current, (number, Key::random()?));
        next.retired.insert(old, key);
        Ok(next)
    }

    /// Another owner of the same keys.
    pub(super) fn share(&self) -> Self {
        Self {
            vault: self.vault,
            integrity: self.integrity.share(),
            current: (self.current.0, self.current.1.share()),
            retired: self.retired.iter().map(|(number, key)| (*number, key.share())).collect(),
        }
    }

    fn data_key(&self, number: u32) -> Option<&Key> {
        if number == self.current.0 { Some(&self.current.1) } else { self.retired.get(&number) }
    }

    /// The value as it stands on disk.
    pub(super) fn seal(&self, key: &RecordKey, value: &SecretBytes) -> Result<Vec<u8>, VaultFault> {
        let (number, data_key) = &self.current;
        let mut stored = vec![RECORD_FORMAT];
        stored.extend(number.to_be_bytes());
        stored.extend(data_key.seal(&self.bound(key), value.expose())?);
        Ok(stored)
    }

    /// The value behind what stands on disk.
    pub(super) fn open(&self, key: &RecordKey, stored: &[u8]) -> Result<SecretBytes, RecordFault> {
        let unreadable = || RecordFault::Unreadable { key: key.clone() };
        let number = data_key_of(stored).ok_or_else(unreadable)?;
        let data_key =
            self.data_key(number).ok_or_else(|| RecordFault::UnknownDataKey { key: key.clone(), number })?;
        let sealed = stored.get(RECORD_HEAD_BYTES..).ok_or_else(unreadable)?;
        let mut plain = data_key.open(&self.bound(key), sealed).ok_or_else(unreadable)?;
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }

    /// What a record's seal binds besides the value: the vault, and kind, owner, name and version.
    fn bound(&self, key: &RecordKey) -> Vec<u8> {
        [b"sigilum-vault-record-v1\0".as_slice(), &self.vault, &key.encode()].concat()
    }
}

/// Number of the data key that a stored value was sealed with.
pub(super) fn data_key_of(stored: &[u8]) -> Option<u32> {
    let (head, _) = stored.split_first_chunk::<RECORD_HEAD_BYTES>()?;
    let [RECORD_FORMAT, number @ ..] = head else { return None };
    Some(u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::super::record::Kind;
    use super::*;

    fn key(owner: &str, version: u64) -> RecordKey {
        RecordKey::new(Kind::Secret, owner, "api_key", version).unwrap()
    }

    #[test]
    fn record_opens_under_its_own_address_alone() {
        let keys = Keyring::create().unwrap();
        let stored = keys.seal(&key("openai", 1), &SecretBytes::new(b"sk-canary".to_vec())).unwrap();
        assert_eq!(keys.open(&key("openai", 1), &stored).unwrap().expose(), b"sk-canary");
        for other in [key("linear", 1), key("openai", 2)] {
            assert!(matches!(keys.open(&other, &stored), Err(RecordFault::Unreadable { .. })));
        }
        let mut neighbour = keys.share();
        neighbour.vault = [7; 16];
        assert!(neighbour.open(&key("openai", 1), &stored).is_err());
    }

    #[test]
    fn record_with_any_byte_altered_does_not_open() {
        let keys = Keyring::create().unwrap();
        let stored = keys.seal(&key("openai", 1), &SecretBytes::new(b"sk-canary".to_vec())).unwrap();
        for position in 0..stored.len() {
            let mut altered = stored.clone();
            altered[position] ^= 1;
            assert!(keys.open(&key("openai", 1), &altered).is_err(), "byte {position}");
        }
    }

    #[test]
    fn macs_tell_the_bounds_of_parts() {
        let key = Key::random().unwrap();
        let mac = key.mac("test", [b"ab".as_slice(), b"c"]);
        assert!(key.holds("test", [b"ab".as_slice(), b"c"], &mac));
        assert!(!key.holds("test", [b"a".as_slice(), b"bc"], &mac));
        assert!(!key.holds("other", [b"ab".as_slice(), b"c"], &mac));
    }
}
