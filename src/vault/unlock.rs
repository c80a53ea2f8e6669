//! Opening a vault's keys, and reading its parts.

use super::anchor::{Anchor, Seen};
use super::fault::VaultFault;
use super::header::Header;
use super::ledger::Reading;
use super::options::VaultOptions;
use super::reconcile::Layout;
use super::seal::{Keyring, Tag};
use super::store::{Store, StoreFault, StoreReading};

/// A vault whose keys are open, and nothing else yet.
pub(super) struct Unlocked {
    pub(super) layout: Layout,
    pub(super) header: Header,
    /// Whether both copies of the header are the same.
    pub(super) alike: bool,
    pub(super) keys: Keyring,
}

impl Unlocked {
    pub(super) fn read(options: &VaultOptions) -> Result<Self, VaultFault> {
        let (header, alike) = Header::read(&options.directory)?;
        let master = header.master_key(&options.master_key, &options.directory)?;
        let keys = header.unlock(&master, &options.directory)?;
        Ok(Self { layout: Layout::new(&options.directory), header, alike, keys })
    }

    /// One that is not there proves nothing, like one that is damaged.
    pub(super) fn ledger(&self) -> Result<Reading, VaultFault> {
        let path = self.layout.ledger();
        match Reading::of(&path, &self.keys) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Reading::default()),
            Err(cause) => Err(VaultFault::Io { path, action: "read", cause }),
            Ok(reading) => Ok(reading),
        }
    }
}

/// Opens the storage and reads all of it. One that is not there is not made.
pub(super) fn read_store(
    layout: &Layout,
    keys: &Keyring,
) -> (Option<Store>, Result<StoreReading, StoreFault>) {
    match Store::open(&layout.store(), keys) {
        Ok(store) => {
            let reading = store.read();
            (Some(store), reading)
        }
        Err(fault) => (None, Err(fault)),
    }
}

/// Whether the vault is as far as its anchor.
pub(super) fn check_anchor(
    options: &VaultOptions,
    unlocked: &Unlocked,
    counter: u64,
    chain: Tag,
) -> Result<(), VaultFault> {
    let Some(path) = options.anchor() else { return Ok(()) };
    let seen = Anchor::read(path, &unlocked.keys).map_err(|cause| VaultFault::Io {
        path: path.to_owned(),
        action: "read",
        cause,
    })?;
    let other = |what| {
        let (path, anchor) = (options.directory.clone(), path.to_owned());
        Err(VaultFault::AnchorOther { path, anchor, what })
    };
    match seen {
        Seen::Nothing if unlocked.header.anchored => other("the vault had an anchor, and none is there"),
        Seen::Nothing => Ok(()),
        Seen::Other => other("the anchor is damaged, or another vault's"),
        Seen::Point(seen) if seen.counter > counter => Err(VaultFault::OlderCopy {
            path: options.directory.clone(),
            writes: counter,
            anchor: path.to_owned(),
            seen: seen.counter,
        }),
        Seen::Point(seen) if seen.counter == counter && seen.chain != chain => {
            other("both have seen as many writes, and not the same ones")
        }
        Seen::Point(_) => Ok(()),
    }
}
