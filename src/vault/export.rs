//! A whole vault in one file, sealed under a passphrase: for moving, and for backups that need no master key.
//!
//! The file is a head (costs and salt of Argon2id, a nonce's beginning, a check of the passphrase) and then chunks, each
//! sealed with XChaCha20-Poly1305. A chunk's nonce has its number and whether it is the last, so that chunks cannot be
//! left out, put in another order or cut off.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::batch::Batch;
use super::fault::{RecordFault, VaultFault};
use super::key_fault::MasterKeyFault;
use super::master_key::{MasterKey, PassphraseCost};
use super::open::Vault;
use super::record::RecordKey;
use super::seal::{Key, random};
use super::wire::{Cursor, put_bytes};
use crate::secret::{SecretBytes, SecretString};

/// What becomes of records of the import that the vault has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// There must be no record in the vault at all.
    Refuse,
    /// Those of the vault stay.
    Keep,
    /// Those of the import replace them.
    Replace,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Records that were not there before.
    pub added: usize,
    /// Records that took the place of others.
    pub replaced: usize,
    /// Records of the vault that stayed.
    pub kept: usize,
}

/// Why a vault was not exported or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportFault {
    /// The file is something else.
    #[error("the file is no export of a vault: it does not begin with SIGILUM-VAULT-1")]
    NotAnExport,
    /// The passphrase is another one.
    #[error("the passphrase is not the one of this export, or the first bytes of the file were altered")]
    WrongPassphrase,
    /// A part of the file does not authenticate.
    #[error("the export is damaged or cut short in part {part}; nothing was imported")]
    Damaged {
        /// The chunk, from 1.
        part: u32,
    },
    /// There are records in the vault, and none were to be replaced or kept.
    #[error("the vault holds {records} records; choose whether those that are in both are kept or replaced")]
    NotEmpty {
        /// How many.
        records: usize,
    },
    /// The costs of the passphrase are out of bounds.
    #[error(transparent)]
    Passphrase(#[from] MasterKeyFault),
    /// A record cannot be read, so an export would be without it.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// The vault cannot be written.
    #[error(transparent)]
    Vault(#[from] VaultFault),
    /// The file cannot be read or written.
    #[error("the export cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

const MAGIC: &[u8; 16] = b"SIGILUM-VAULT-1\n";
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 19;
const CHECK_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + 12 + SALT_BYTES + NONCE_BYTES;
const CHUNK_BYTES: usize = 64 * 1024;
const SEAL_BYTES: usize = 16;
const CHECK: &str = "sigilum-vault-export-v1";
/// Records that one write of an import takes.
const AT_ONCE: usize = 500;
/// A vault holds no more, so an export that does is none.
const MOST_BYTES: usize = 512 * 1024 * 1024;

impl Vault {
    /// Writes every record to `out`, sealed under the passphrase; gives how many.
    ///
    /// # Errors
    /// When a record cannot be read or `out` not written. What was written by then is of no use.
    pub fn export(
        &self,
        out: &mut dyn Write,
        passphrase: &SecretString,
        cost: PassphraseCost,
    ) -> Result<usize, ExportFault> {
        let head = Head { cost, salt: random()?, nonce: random()? };
        let mut sealer = Sealer::begin(out, head, passphrase)?;
        let mut records = 0;
        for key in self.all() {
            // A record that went in the meantime is not part of what is exported.
            let Some(value) = self.get(&key)? else { continue };
            let mut plain = Zeroizing::new(Vec::with_capacity(value.expose().len() + 1024));
            put_bytes(&mut plain, &key.encode());
            put_bytes(&mut plain, value.expose());
            sealer.put(&plain)?;
            records += 1;
        }
        sealer.end()?;
        Ok(records)
    }

    /// Reads an export into this vault. The whole file is proven before anything is written.
    ///
    /// # Errors
    /// When file or passphrase do not hold, the vault is not empty and was to be, or a write fails. After a failed write
    /// a part of the records may be there; importing again with [`Existing::Replace`] ends it.
    pub fn import(
        &self,
        input: &mut dyn Read,
        passphrase: &SecretString,
        existing: Existing,
    ) -> Result<Imported, ExportFault> {
        let there = self.state().records;
        if existing == Existing::Refuse && there > 0 {
            return Err(ExportFault::NotEmpty { records: there });
        }
        let mut done = Imported::default();
        let mut batch = Batch::new();
        for (key, value) in unseal(input, passphrase)? {
            let stands = self.contains(&key);
            match (stands, existing) {
                (true, Existing::Keep) => {
                    done.kept += 1;
                    continue;
                }
                (true, _) => done.replaced += 1,
                (false, _) => done.added += 1,
            }
            batch = batch.put(key, value);
            if batch.changes.len() >= AT_ONCE {
                self.commit(std::mem::take(&mut batch))?;
            }
        }
        self.commit(batch)?;
        Ok(done)
    }
}

/// The beginning of the file, before the check.
#[derive(Clone, Copy)]
struct Head {
    cost: PassphraseCost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let PassphraseCost { memory_kib, passes, lanes } = self.cost;
        let costs = [memory_kib.to_be_bytes(), passes.to_be_bytes(), lanes.to_be_bytes()].concat();
        [MAGIC.as_slice(), &costs, &self.salt, &self.nonce].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.array()? != *MAGIC {
            return None;
        }
        let cost = PassphraseCost { memory_kib: cursor.u32()?, passes: cursor.u32()?, lanes: cursor.u32()? };
        Some(Self { cost, salt: cursor.array()?, nonce: cursor.array()? })
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

struct Sealer<'a> {
    out: &'a mut dyn Write,
    head: Head,
    bound: Vec<u8>,
    key: Key,
    pending: Zeroizing<Vec<u8>>,
    number: u32,
}

impl<'a> Sealer<'a> {
    fn begin(out: &'a mut dyn Write, head: Head, passphrase: &SecretString) -> Result<Self, ExportFault> {
        let (bound, key) = (head.encode(), head.key(passphrase)?);
        out.write_all(&bound)?;
        out.write_all(&key.mac(CHECK, [bound.as_slice()]))?;
        let pending = Zeroizing::new(Vec::with_capacity(CHUNK_BYTES));
        Ok(Self { out, head, bound, key, pending, number: 0 })
    }

    fn put(&mut self, mut plain: &[u8]) -> Result<(), ExportFault> {
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

    fn end(mut self) -> Result<(), ExportFault> {
        self.chunk(true)?;
        Ok(self.out.flush()?)
    }

    fn chunk(&mut self, last: bool) -> Result<(), ExportFault> {
        let sealed = self.key.seal_with(self.head.nonce(self.number, last), &self.bound, &self.pending)?;
        self.out.write_all(&sealed)?;
        self.pending.clear();
        self.number += 1;
        Ok(())
    }
}

/// Proves the whole file and gives its records.
fn unseal(
    input: &mut dyn Read,
    passphrase: &SecretString,
) -> Result<Vec<(RecordKey, SecretBytes)>, ExportFault> {
    let mut bound = [0; HEAD_BYTES];
    let mut check = [0; CHECK_BYTES];
    let cut = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ExportFault::NotAnExport,
        _ => ExportFault::Io(error),
    };
    input.read_exact(&mut bound).map_err(cut)?;
    let head = Head::decode(&bound).ok_or(ExportFault::NotAnExport)?;
    input.read_exact(&mut check).map_err(cut)?;
    let key = head.key(passphrase)?;
    if !key.holds(CHECK, [bound.as_slice()], &check) {
        return Err(ExportFault::WrongPassphrase);
    }
    let mut sealed = Vec::new();
    input.take(MOST_BYTES as u64 + 1).read_to_end(&mut sealed)?;
    let count = sealed.chunks(CHUNK_BYTES + SEAL_BYTES).count();
    if sealed.len() > MOST_BYTES {
        return Err(ExportFault::Vault(VaultFault::ValueTooLarge { bytes: sealed.len(), most: MOST_BYTES }));
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    for (number, chunk) in (0..).zip(sealed.chunks(CHUNK_BYTES + SEAL_BYTES)) {
        let last = number as usize + 1 == count;
        let opened = key.open_with(head.nonce(number, last), &bound, chunk);
        plain.extend_from_slice(&opened.ok_or(ExportFault::Damaged { part: number + 1 })?);
    }
    // An export of nothing still has one sealed chunk.
    if count == 0 {
        return Err(ExportFault::Damaged { part: 1 });
    }
    records(&plain).ok_or(ExportFault::NotAnExport)
}

fn records(plain: &[u8]) -> Option<Vec<(RecordKey, SecretBytes)>> {
    let mut cursor = Cursor::new(plain);
    let mut records = Vec::new();
    while !cursor.rest().is_empty() {
        records.push((cursor.key()?, SecretBytes::new(cursor.bytes()?.to_vec())));
    }
    Some(records)
}
