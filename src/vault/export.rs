//! A whole vault in one file, sealed under a passphrase: for moving, and for backups that need no master key.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::batch::Batch;
use super::fault::{RecordFault, VaultFault};
use super::key_fault::MasterKeyFault;
use super::master_key::PassphraseCost;
use super::open::Vault;
use super::record::RecordKey;
use super::sealed_file::{FileSealer, SealedFileFault, SealedForm};
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

/// Records that one write of an import takes.
const AT_ONCE: usize = 500;

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
        let mut sealer = FileSealer::begin(SealedForm::VAULT, out, passphrase, cost)?;
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
        let plain = SealedForm::VAULT.open(input, passphrase)?;
        for (key, value) in records(&plain).ok_or(ExportFault::NotAnExport)? {
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

impl From<SealedFileFault> for ExportFault {
    fn from(fault: SealedFileFault) -> Self {
        match fault {
            SealedFileFault::OtherForm => Self::NotAnExport,
            SealedFileFault::WrongPassphrase => Self::WrongPassphrase,
            SealedFileFault::Damaged { part } => Self::Damaged { part },
            SealedFileFault::Passphrase(fault) => Self::Passphrase(fault),
            SealedFileFault::Vault(fault) => Self::Vault(fault),
            SealedFileFault::Io(error) => Self::Io(error),
        }
    }
}

fn records(plain: &[u8]) -> Option<Vec<(RecordKey, SecretBytes)>> {
    let mut cursor = Cursor::new(plain);
    let mut records = Vec::new();
    while !cursor.rest().is_empty() {
        records.push((cursor.key()?, SecretBytes::new(cursor.bytes()?.to_vec())));
    }
    Some(records)
}
