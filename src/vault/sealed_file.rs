//! A file sealed under a passphrase: Argon2id and XChaCha20-Poly1305.
//!
//! The file is a head (its form, costs and salt of Argon2id, a nonce's beginning, a check of the passphrase) and then
//! chunks, each sealed. A chunk's nonce has its number and whether it is the last, so that chunks cannot be left out,
//! put in another order or cut off.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::fault::VaultFault;
use super::key_fault::MasterKeyFault;
use super::master_key::{MasterKey, PassphraseCost};
use super::seal::{Key, random};
use super::wire::Cursor;
use crate::secret::SecretString;

/// What a sealed file holds: its first 16 bytes say so, and no file of one form opens as one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedForm {
    magic: &'static [u8; MAGIC_BYTES],
    /// The label of the passphrase's check.
    check: &'static str,
}

/// Why a sealed file was not written or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedFileFault {
    /// The file is something else.
    #[error("the file does not begin as a sealed one of this form does")]
    OtherForm,
    /// The passphrase is another one.
    #[error("the passphrase is not the one of this file, or its first bytes were altered")]
    WrongPassphrase,
    /// A part of the file does not authenticate.
    #[error("the file is damaged or cut short in part {part}")]
    Damaged {
        /// The chunk, from 1.
        part: u32,
    },
    /// The costs of the passphrase are out of bounds.
    #[error(transparent)]
    Passphrase(#[from] MasterKeyFault),
    /// It is too large, or the system gives no random bytes.
    #[error(transparent)]
    Vault(#[from] VaultFault),
    /// The file cannot be read or written.
    #[error("the file cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

const MAGIC_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 19;
const CHECK_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC_BYTES + 12 + SALT_BYTES + NONCE_BYTES;
const CHUNK_BYTES: usize = 64 * 1024;
const SEAL_BYTES: usize = 16;
/// A vault holds no more, and nothing else has as much.
const MOST_BYTES: usize = 512 * 1024 * 1024;

impl SealedForm {
    /// A whole vault.
    pub(super) const VAULT: Self = Self { magic: b"SIGILUM-VAULT-1\n", check: "sigilum-vault-export-v1" };
    /// Identities and registrations, as `sigilum export` writes them.
    pub const MOVE: Self = Self { magic: b"SIGILUM-MOVE-01\n", check: "sigilum-move-v1" };

    /// Whether a file that begins so is of this form.
    #[must_use]
    pub fn begins(self, bytes: &[u8]) -> bool {
        bytes.starts_with(self.magic)
    }

    /// Writes `plain` to `out`, sealed under the passphrase.
    ///
    /// # Errors
    /// When `out` cannot be written, or the costs are out of bounds. What was written by then is of no use.
    pub fn seal(
        self,
        out: &mut dyn Write,
        passphrase: &SecretString,
        cost: PassphraseCost,
        plain: &[u8],
    ) -> Result<(), SealedFileFault> {
        let mut sealer = FileSealer::begin(self, out, passphrase, cost)?;
        sealer.put(plain)?;
        sealer.end()
    }

    /// Proves a whole file and gives what it holds.
    ///
    /// # Errors
    /// When the file is of another form, damaged or too large, or the passphrase is another one.
    pub fn open(
        self,
        input: &mut dyn Read,
        passphrase: &SecretString,
    ) -> Result<Zeroizing<Vec<u8>>, SealedFileFault> {
        let mut bound = [0; HEAD_BYTES];
        let mut check = [0; CHECK_BYTES];
        let cut = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => SealedFileFault::OtherForm,
            _ => SealedFileFault::Io(error),
        };
        input.read_exact(&mut bound).map_err(cut)?;
        let head = Head::decode(self, &bound).ok_or(SealedFileFault::OtherForm)?;
        input.read_exact(&mut check).map_err(cut)?;
        let key = head.key(passphrase)?;
        if !key.holds(self.check, [bound.as_slice()], &check) {
            return Err(SealedFileFault::WrongPassphrase);
        }
        let mut sealed = Vec::new();
        input.take(MOST_BYTES as u64 + 1).read_to_end(&mut sealed)?;
        if sealed.len() > MOST_BYTES {
            return Err(VaultFault::ValueTooLarge { bytes: sealed.len(), most: MOST_BYTES }.into());
        }
        unsealed(&head, &bound, &key, &sealed)
    }
}

fn unsealed(
    head: &Head,
    bound: &[u8],
    key: &Key,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealedFileFault> {
    let count = sealed.chunks(CHUNK_BYTES + SEAL_BYTES).count();
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    for (number, chunk) in (0..).zip(sealed.chunks(CHUNK_BYTES + SEAL_BYTES)) {
        let last = number as usize + 1 == count;
        let opened = key.open_with(head.nonce(number, last), bound, chunk);
        plain.extend_from_slice(&opened.ok_or(SealedFileFault::Damaged { part: number + 1 })?);
    }
    // A file of nothing still has one sealed chunk.
    if count == 0 { Err(SealedFileFault::Damaged { part: 1 }) } else { Ok(plain) }
}

/// The beginning of the file, before the check.
#[derive(Clone, Copy)]
struct Head {
    form: SealedForm,
    cost: PassphraseCost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let PassphraseCost { memory_kib, passes, lanes } = self.cost;
        let costs = [memory_kib.to_be_bytes(), passes.to_be_bytes(), lanes.to_be_bytes()].concat();
        [self.form.magic.as_slice(), &costs, &self.salt, &self.nonce].concat()
    }

    fn decode(form: SealedForm, bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != *form.magic {
            return None;
        }
        let cost = PassphraseCost { memory_kib: cursor.u32()?, passes: cursor.u32()?, lanes: cursor.u32()? };
        Some(Self { form, cost, salt: cursor.array()?, nonce: cursor.array()? })
    }

    fn key(&self, passphrase: &SecretString) -> Result<Key, MasterKeyFault> {
        MasterKey::from_passphrase(passphrase, &self.salt, self.cost).map(|key| key.key().share())
    }

    /// Number of the chunk, and whether it is the last.
    fn nonce(&self, number: u32, last: bool) -> [u8; 24] {
        let end = number.to_be_bytes().into_iter().chain([u8::from(last)]);
        let mut all = self.nonce.into_iter().chain(end);
        std::array::from_fn(|_| all.next().unwrap_or_default())
    }
}

/// A sealed file that is being written.
pub(super) struct FileSealer<'a> {
    out: &'a mut dyn Write,
    head: Head,
    bound: Vec<u8>,
    key: Key,
    pending: Zeroizing<Vec<u8>>,
    number: u32,
}

impl<'a> FileSealer<'a> {
    pub(super) fn begin(
        form: SealedForm,
        out: &'a mut dyn Write,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<Self, SealedFileFault> {
        let head = Head { form, cost, salt: random()?, nonce: random()? };
        let (bound, key) = (head.encode(), head.key(passphrase)?);
        out.write_all(&bound)?;
        out.write_all(&key.mac(form.check, [bound.as_slice()]))?;
        let pending = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        Ok(Self { out, head, bound, key, pending, number: 0 })
    }

    pub(super) fn put(&mut self, mut plain: &[u8]) -> Result<(), SealedFileFault> {
        while !plain.is_empty() {
            if self.pending.len() == CHUNK_BYTES {
                self.chunk(false)?;
            }
            let room = (CHUNK_BYTES - self.pending.len()).min(plain.len());
            let (now, later) = plain.split_at(room);
            self.pending.extend_from_slice(now);
            plain = later;
        }
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<(), SealedFileFault> {
        self.chunk(true)?;
        Ok(self.out.flush()?)
    }

    fn chunk(&mut self, last: bool) -> Result<(), SealedFileFault> {
        let sealed = self.key.seal_with(self.head.nonce(self.number, last), &self.bound, &self.pending)?;
        self.out.write_all(&sealed)?;
        self.pending.clear();
        self.number += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 64, passes: 1, lanes: 1 };

    fn secret(text: &str) -> SecretString {
        SecretString::new(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_and_as_its_form_alone() {
        let plain = vec![7; CHUNK_BYTES + 1];
        let mut file = Vec::new();
        SealedForm::MOVE.seal(&mut file, &secret("correct horse"), CHEAP, &plain).unwrap();
        assert!(SealedForm::MOVE.begins(&file) && !SealedForm::VAULT.begins(&file));
        let open = |form: SealedForm, words: &str| form.open(&mut file.as_slice(), &secret(words));
        assert_eq!(*open(SealedForm::MOVE, "correct horse").unwrap(), plain);
        assert!(matches!(open(SealedForm::MOVE, "wrong"), Err(SealedFileFault::WrongPassphrase)));
        assert!(matches!(open(SealedForm::VAULT, "correct horse"), Err(SealedFileFault::OtherForm)));
    }
}
