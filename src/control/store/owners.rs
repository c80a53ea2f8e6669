//! Namespaces and owners.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::owner::{NamespaceRecord, Owner, OwnerSettings};
use crate::names::Namespace;

impl Store {
    /// Makes the namespace where there is none, and adds the owner where there is none with this address.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_owner(
        &self,
        namespace: &Namespace,
        email: &str,
        now: UnixTime,
    ) -> Result<Owner, StoreFault> {
        let _ = (namespace, email, now);
        unimplemented!()
    }

    /// The owner of this id, if it is still one of a namespace that stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owner(&self, id: &str) -> Result<Option<Owner>, StoreFault> {
        let _ = id;
        unimplemented!()
    }

    /// The namespace, if it stands.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn namespace(&self, namespace: &Namespace) -> Result<Option<NamespaceRecord>, StoreFault> {
        let _ = namespace;
        unimplemented!()
    }

    /// Replaces the owner's policy.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_settings(
        &self,
        namespace: &Namespace,
        settings: &OwnerSettings,
    ) -> Result<(), StoreFault> {
        let _ = (namespace, settings);
        unimplemented!()
    }

    /// Removes the namespace with its owners, services, keys and webhooks; its approved claims and those on its
    /// services are revoked, through the feed and the outbox. What is left of its claims keeps the DID `deactivated`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_namespace(&self, namespace: &Namespace, now: UnixTime) -> Result<(), StoreFault> {
        let _ = (namespace, now);
        unimplemented!()
    }

    /// What is known of a namespace's keys, for its DID document.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn did_state(&self, namespace: &Namespace) -> Result<DidState, StoreFault> {
        let _ = namespace;
        unimplemented!()
    }
}

/// What a DID document is made from.
#[derive(Debug, Clone, PartialEq)]
pub enum DidState {
    /// No such namespace, and no claim of it.
    Unknown,
    /// It is gone, and claims are left.
    Deactivated,
    /// It stands; the keys are those of its approved claims, each once, at most 256, oldest first.
    Active {
        /// Its keys.
        keys: Vec<crate::protocol::PublicKey>,
        /// When it was made.
        created_at: UnixTime,
        /// When its keys last changed.
        updated_at: UnixTime,
    },
}
