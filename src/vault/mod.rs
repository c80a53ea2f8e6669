//! Secrets and connections on disk: sealed, durable when a write returns, and never silently less than they were.
//!
//! A vault is a directory with three parts. The *header* holds the data keys and the key of the MACs, sealed under the
//! master key. The *store* is fjall, with the sealed records and a MACed manifest over them. The *ledger* has every
//! write once more, MACed and in order. Store and ledger must agree at open; `docs/vault.md` says how and why.
//!
//! Everything here blocks, writes for the length of some fsyncs. None of it belongs on a proxy worker thread but
//! [`Vault::get`], [`Vault::latest`], [`Vault::history`] and [`Vault::list`], which read from memory.

mod anchor;
mod batch;
mod contents;
mod create;
mod export;
mod fault;
mod files;
mod header;
mod inventory;
mod key_fault;
mod key_id;
mod ledger;
mod lock;
mod master_key;
mod open;
mod options;
mod reconcile;
mod record;
mod resolve;
mod seal;
mod sealed_file;
mod shared;
mod store;
mod text_source;
mod unlock;
mod verify;
mod wire;
mod writer;

pub use batch::{Batch, VERSIONS_KEPT};
pub use export::{Existing, ExportFault, Imported};
pub use fault::{Findings, RecordFault, VaultFault};
pub use key_fault::MasterKeyFault;
pub use key_id::{MasterKeyId, NotAKeyId};
pub use master_key::{MasterKey, MasterKeySource, PassphraseCost};
pub use open::{Vault, VaultState};
pub use options::VaultOptions;
pub use record::{Kind, RecordKey, RecordKeyFault};
pub use sealed_file::{SealedFileFault, SealedForm};
pub use shared::Health;
pub use text_source::TextSource;
pub use verify::{Losses, Verified};
