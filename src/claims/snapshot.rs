//! Pages that were read, to be put into the index when the stream has caught up with them, or as they are.

use std::collections::HashMap;

use super::index::Delta;
use super::page::Cursor;
use super::reader::Reading;
use crate::clock::UnixTime;
use crate::names::{ClaimId, ConnectionId};
use crate::policy::Claim;

/// The claims of some services.
pub(super) struct Snapshot {
    pub(super) services: Vec<ConnectionId>,
    claims: HashMap<ClaimId, Claim>,
    /// Where the feed stood before any of it was read.
    pub(super) cursor: Option<Cursor>,
    pub(super) begun: UnixTime,
}

impl Snapshot {
    /// Nothing yet.
    pub(super) fn begun(begun: UnixTime) -> Self {
        Self { services: Vec::new(), claims: HashMap::new(), cursor: None, begun }
    }

    /// Takes the pages of one service, in the order of their reading.
    pub(super) fn add(&mut self, service: ConnectionId, reading: Reading) {
        self.cursor = self.cursor.take().or(reading.cursor);
        self.claims.extend(reading.claims.into_iter().map(|claim| (claim.id.clone(), claim)));
        self.services.push(service);
    }

    /// Takes out the pages of these services.
    pub(super) fn take(&mut self, wanted: impl Fn(&ConnectionId) -> bool) -> Self {
        let (services, other_services) =
            std::mem::take(&mut self.services).into_iter().partition(|service| wanted(service));
        let (claims, other_claims) =
            std::mem::take(&mut self.claims).into_iter().partition(|(_, claim)| wanted(&claim.service));
        (self.services, self.claims) = (other_services, other_claims);
        Self { services, claims, cursor: self.cursor.clone(), begun: self.begun }
    }

    /// The claims after these changes, and what they change of other services.
    pub(super) fn changed_by(mut self, deltas: Vec<Delta>) -> (Vec<ConnectionId>, Vec<Claim>, Vec<Delta>) {
        let mut others = Vec::new();
        for delta in deltas {
            match delta {
                Delta::Approved(claim) if self.services.contains(&claim.service) => {
                    self.claims.insert(claim.id.clone(), claim);
                }
                Delta::Approved(claim) => others.push(Delta::Approved(claim)),
                Delta::Withdrawn(id) => {
                    self.claims.remove(&id);
                    others.push(Delta::Withdrawn(id));
                }
            }
        }
        (self.services, self.claims.into_values().collect(), others)
    }
}
