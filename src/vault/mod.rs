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
mod ledger;
mod lock;
mod master_key;
mod open;
mod reconcile;
mod record;
mod seal;
mod store;
mod verify;
mod wire;
mod writer;

pub use batch::{Batch, VERSIONS_KEPT};
pub use export::{Existing, ExportFault, Imported};
pub use fault::{Findings, RecordFault, VaultFault};
pub use master_key::{
    MasterKey, MasterKeyFault, MasterKeyId, MasterKeySource, NotAKeyId, PassphraseCost, TextSource,
};
pub use open::{Vault, VaultOptions, VaultState};
pub use record::{Kind, RecordKey, RecordKeyFault};
pub use verify::{Losses, Verified};
pub use writer::Health;
