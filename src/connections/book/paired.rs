//! Changes that come over a pairing. The control plane between carries secrets that it cannot read; here it is kept from
//! getting them by what it may command.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::records::{OWN, reference, seals_key};
use super::stored::{Document, NewSecrets, given};
use super::{Book, BookFault};
use crate::names::{ConnectionId, SecretName};
use crate::protocol::sealed::Sealed;
use crate::secret::SecretBytes;
use crate::vault::{Batch, Kind, Vault, VaultFault};

/// Who changes the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// Whoever has admin access.
    Operator,
    /// A paired control plane.
    ControlPlane,
}

/// The key that a seal was made with, as it stands in `enc`: no two seals have the same, unless one is a copy.
const MARK_BYTES: usize = 32;
/// Marks in one record, which is written anew with each of them.
const MARKS_OF_A_PAGE: usize = 256;
/// Seals that a gateway takes over pairings in its life: 27 a day for ten years.
const MOST_SEALS: usize = 100_000;

impl Book {
    /// A secret as it was sent.
    pub(super) fn plain(
        &self,
        name: &SecretName,
        text: Zeroizing<String>,
    ) -> Result<Zeroizing<String>, BookFault> {
        match self.1 {
            Hand::Operator => Ok(text),
            Hand::ControlPlane if reference(&text).is_some() => Err(BookFault::Reference(name.clone())),
            Hand::ControlPlane => Err(BookFault::NotSealed(name.clone())),
        }
    }

    /// Uses a seal up that has opened. Anybody can seal to a public key, the control plane too: so what is in it may be a
    /// reference that it made, to a variable that others filled.
    pub(super) fn admit(&self, sealed: &Sealed, name: &SecretName, text: &str) -> Result<(), BookFault> {
        if self.1 == Hand::Operator {
            return Ok(());
        }
        if reference(text).is_some() {
            return Err(BookFault::Reference(name.clone()));
        }
        // What has opened decodes.
        let mark = URL_SAFE_NO_PAD.decode(&sealed.enc).unwrap_or_default();
        let _turn = self.0.seals.lock().unwrap_or_else(PoisonError::into_inner);
        if use_up(self.0.vault()?, &mark)? { Ok(()) } else { Err(BookFault::SealedAgain(name.clone())) }
    }

    /// Holds a change to this: a secret that the connection keeps goes where it went before, in the way in which it did.
    pub(super) fn keep_to_the_way(
        &self,
        id: &ConnectionId,
        before: &Document,
        after: &Document,
        changed: &NewSecrets,
    ) -> Result<(), BookFault> {
        if self.1 == Hand::Operator {
            return Ok(());
        }
        let (kept, mut names): (BTreeSet<_>, BTreeSet<_>) = {
            let there = self.0.names(id)?;
            let kept = there.iter().filter(|name| !changed.contains_key(name.as_str())).cloned().collect();
            (kept, there)
        };
        for (name, secret) in changed {
            match (name.parse::<SecretName>(), secret) {
                (Ok(name), Some(_)) => drop(names.insert(name)),
                (Ok(name), None) => drop(names.remove(&name)),
                (Err(_), _) => {}
            }
        }
        let mut after = after.clone();
        after.settle_secret(&names)?;
        if !kept.is_empty() && goes_another_way(id, before, &after)? {
            return Err(BookFault::NeededAnew(kept.iter().map(ToString::to_string).collect()));
        }
        Ok(())
    }
}

/// Whether two documents differ in more than what no secret depends on. What a later version adds counts.
fn goes_another_way(id: &ConnectionId, before: &Document, after: &Document) -> Result<bool, BookFault> {
    let is = after.connection(id)?;
    let Ok(mut was) = before.connection(id) else { return Ok(true) };
    was.name.clone_from(&is.name);
    was.status = is.status;
    was.rotation_interval_days = is.rotation_interval_days;
    let mcp = |document: &Document| {
        let text = |field| given(field).map(str::to_owned);
        (text(&document.mcp_transport), text(&document.mcp_endpoint))
    };
    Ok(was != is || before.secret_key() != after.secret_key() || mcp(before) != mcp(after))
}

/// Writes a seal's mark down; false where it stands already. A page that cannot be read is a fault: nobody knows then.
fn use_up(vault: &Vault, mark: &[u8]) -> Result<bool, BookFault> {
    let mut pages = 0;
    let mut last = Vec::new();
    for key in vault.list(Kind::Seals, Some(OWN)) {
        last =
            vault.get(&key).map_err(VaultFault::from)?.map_or_else(Vec::new, |page| page.expose().to_vec());
        if last.chunks(MARK_BYTES).any(|used| used == mark) {
            return Ok(false);
        }
        pages += 1;
    }
    if pages == 0 || last.len() >= MARKS_OF_A_PAGE * MARK_BYTES {
        last.clear();
        pages += 1;
    }
    if (pages - 1) * MARKS_OF_A_PAGE + last.len() / MARK_BYTES >= MOST_SEALS {
        return Err(BookFault::TooMany { what: "sealed secrets that came over a pairing", most: MOST_SEALS });
    }
    last.extend_from_slice(mark);
    let key = seals_key(pages - 1).map_err(VaultFault::from)?;
    vault.commit(Batch::new().put(key, SecretBytes::new(last)))?;
    Ok(true)
}
