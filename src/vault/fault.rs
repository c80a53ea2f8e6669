//! What goes wrong with a vault, in sentences that say the way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::key_fault::MasterKeyFault;
use super::key_id::MasterKeyId;
use super::record::{RecordKey, RecordKeyFault};

/// What goes wrong with a vault as a whole. No variant ever holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultFault {
    /// Another process has it open.
    #[error("the vault {path} is open in another process; stop that one first, or use its admin API")]
    InUse {
        /// Its directory.
        path: PathBuf,
    },
    /// The master key is not the one that the vault was closed with.
    #[error(
        "the vault wants master key {wanted}, and the one given is {given}; set vault.master_key (or vault.passphrase) to where {wanted} is read from"
    )]
    WrongMasterKey {
        /// The one that opens it.
        wanted: MasterKeyId,
        /// The one that was given.
        given: MasterKeyId,
    },
    /// There is no master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyFault),
    /// The directory is there and holds no header.
    #[error(
        "{path} is no vault: it has no header; restore it from a backup, or move what is in it away to begin anew"
    )]
    NoHeader {
        /// The directory.
        path: PathBuf,
    },
    /// Both copies of the header are damaged: no key is left that opens anything.
    #[error(
        "the header of the vault {path} is damaged in both copies ({what}), and without it nothing opens; restore the vault from a backup"
    )]
    HeaderDamaged {
        /// The vault's directory.
        path: PathBuf,
        /// What was seen.
        what: &'static str,
    },
    /// Records are lost, altered, swapped or from earlier.
    #[error(transparent)]
    Damaged(#[from] Box<Findings>),
    /// The vault is an older copy than the one that the anchor saw.
    #[error(
        "the vault {path} is an older copy: it ends at write {writes}, and the anchor {anchor} has seen write {seen}; restore the latest copy, or type `sigilum vault verify --accept-loss --config FILE` to go on with this one"
    )]
    OlderCopy {
        /// The vault's directory.
        path: PathBuf,
        /// Writes in it.
        writes: u64,
        /// The anchor's file.
        anchor: PathBuf,
        /// Writes that the anchor has seen.
        seen: u64,
    },
    /// The anchor is as far as the vault, and saw another history.
    #[error(
        "the vault {path} and the anchor {anchor} do not belong together: {what}; restore the latest copy, or type `sigilum vault verify --accept-loss --config FILE` to go on with this one"
    )]
    AnchorOther {
        /// The vault's directory.
        path: PathBuf,
        /// The anchor's file.
        anchor: PathBuf,
        /// How it shows.
        what: &'static str,
    },
    /// There is an anchor and no vault.
    #[error(
        "the vault {path} is not there, and the anchor {anchor} is; restore the vault, or remove the anchor to begin anew"
    )]
    Gone {
        /// The vault's directory.
        path: PathBuf,
        /// The anchor's file.
        anchor: PathBuf,
    },
    /// The file system is full, or a quota is. What was there before still is.
    #[error("no space is left for the vault; nothing was written")]
    NoSpace,
    /// A write failed in a way after which the files cannot be trusted to take another.
    #[error(
        "the vault takes no more writes since one failed ({cause}); reads go on; mend the cause and restart"
    )]
    Poisoned {
        /// What failed.
        cause: String,
    },
    /// The storage engine does not answer.
    #[error(
        "the vault's storage has not answered for {seconds} s; it takes no more writes, reads go on; restart"
    )]
    Stalled {
        /// How long was waited.
        seconds: u64,
    },
    /// Too many writes wait already.
    #[error("too many writes to the vault are waiting; try again")]
    Busy,
    /// A record that was to be made stands.
    #[error("the {0} stands already")]
    Exists(RecordKey),
    /// An owner or a name that cannot be one.
    #[error(transparent)]
    Key(#[from] RecordKeyFault),
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// A value is too large.
    #[error("a value of {bytes} bytes is too large; at most {most}")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The largest that is taken.
        most: usize,
    },
    /// The vault has as many records, or as large, as it takes.
    #[error(
        "the vault would hold {records} records of {bytes} bytes together; at most {most_records} of {most_bytes}"
    )]
    TooMuch {
        /// Records there would be.
        records: usize,
        /// Bytes there would be.
        bytes: u64,
        /// Records at most.
        most_records: usize,
        /// Bytes at most.
        most_bytes: u64,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes, so nothing can be sealed")]
    NoRandom,
    /// A file or directory of the vault cannot be read or written.
    #[error("{path} cannot be {action}: {cause}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// The storage engine fails outside reading and writing records.
    #[error("the vault's storage in {path} fails: {what}")]
    Store {
        /// The storage engine's directory.
        path: PathBuf,
        /// What it says.
        what: String,
    },
}

/// Why one record cannot be read; the others go on. No variant ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// It does not authenticate: altered, or sealed for another place.
    #[error("the {key} does not authenticate: it was altered, or sealed for another place; set it anew")]
    Unreadable {
        /// Which.
        key: RecordKey,
    },
    /// Its data key is not in the header.
    #[error("the {key} is sealed with data key {number}, which the vault does not have; set it anew")]
    UnknownDataKey {
        /// Which.
        key: RecordKey,
        /// The data key's number.
        number: u32,
    },
}

/// What is wrong with a vault's records: what its two halves, storage and ledger, say of each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// The vault's directory.
    pub path: PathBuf,
    /// The last write that the ledger proves; `None` where it proves nothing.
    pub ledger_writes: Option<u64>,
    /// Bytes at the ledger's end that prove nothing.
    pub ledger_unproven_bytes: u64,
    /// The last write that the storage has; `None` where it does not say.
    pub store_writes: Option<u64>,
    /// Why the storage cannot be read, where it cannot.
    pub store_fault: Option<String>,
    /// Whether the storage proves by itself that its records are all there and unaltered.
    pub store_whole: bool,
    /// Records that the ledger has and the storage has not.
    pub missing: Vec<RecordKey>,
    /// Records that the storage has in another form than the ledger: altered, swapped or from earlier.
    pub altered: Vec<RecordKey>,
    /// Records that the storage has and the ledger has not.
    pub unexpected: Vec<RecordKey>,
}

/// How many addresses a sentence names before it counts the rest.
const NAMED: usize = 5;

impl std::error::Error for Findings {}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the vault {} is damaged: ", self.path.display())?;
        match (self.store_writes, &self.store_fault) {
            (_, Some(fault)) => write!(f, "its storage cannot be read ({fault})")?,
            (Some(writes), None) => write!(f, "its storage ends at write {writes}")?,
            (None, None) => f.write_str("its storage has no manifest")?,
        }
        match self.ledger_writes {
            Some(writes) => write!(f, ", its ledger proves write {writes}")?,
            None => f.write_str(", its ledger proves nothing")?,
        }
        if self.ledger_unproven_bytes > 0 {
            write!(f, " and {} bytes of it nothing", self.ledger_unproven_bytes)?;
        }
        for (what, keys) in
            [("missing", &self.missing), ("altered", &self.altered), ("unexpected", &self.unexpected)]
        {
            if !keys.is_empty() {
                write!(f, "; {} {what} in the storage: {}", keys.len(), named(keys))?;
            }
        }
        f.write_str(
            "; restore it from a backup, or type `sigilum vault verify --accept-loss --config FILE`, which mends what can be mended and lists what is gone",
        )
    }
}

fn named(keys: &[RecordKey]) -> String {
    let mut named: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    if keys.len() > NAMED {
        named.push(format!("and {} more", keys.len() - NAMED));
    }
    named.join(", ")
}

/// Whether the system says that a file system or a quota is full.
pub(super) fn is_no_space(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
