//! Places, as for streams: so many in all, and so many of one owner's, so that no owner takes those of the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock::lock;
use crate::names::Namespace;

/// The places, and who has taken them.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_of_owner: usize,
    /// Owners that have some, which are no more than there are places.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_owner: HashMap<Namespace, usize>,
}

/// A place that was taken, given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    owner: Namespace,
}

impl Places {
    pub(super) fn new(most: usize, most_of_owner: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_owner, taken: Mutex::default() })
    }

    /// A place for what is this owner's; `None` where it, or everybody, has as many as there may be.
    pub(super) fn take(self: &Arc<Self>, owner: &Namespace) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let own = taken.of_owner.get(owner).copied().unwrap_or(0);
        if taken.all >= self.most || own >= self.most_of_owner {
            return None;
        }
        taken.all += 1;
        taken.of_owner.insert(owner.clone(), own + 1);
        Some(Place { places: Arc::clone(self), owner: owner.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        taken.all = taken.all.saturating_sub(1);
        let left = taken.of_owner.get_mut(&self.owner).map_or(0, |own| {
            *own = own.saturating_sub(1);
            *own
        });
        if left == 0 {
            taken.of_owner.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_takes_no_more_than_its_own_places_and_gives_them_back() {
        let places = Places::new(3, 2);
        let (acme, mallory) = ("acme".parse().unwrap(), "mallory".parse().unwrap());
        let two = [places.take(&mallory).unwrap(), places.take(&mallory).unwrap()];
        assert!(places.take(&mallory).is_none());
        let last = places.take(&acme).unwrap();
        assert!(places.take(&acme).is_none(), "there is no place left");
        drop((two, last));
        assert!(lock(&places.taken).of_owner.is_empty());
        assert!(places.take(&mallory).is_some());
    }
}
