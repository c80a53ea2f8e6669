//! Services and their keys.

use super::{Store, StoreFault};
use crate::clock::UnixTime;
use crate::control::domain::service::{
    ApiKeyRecord, ServiceCaller, ServiceChange, ServiceFault, ServiceMode, ServiceRecord,
};
use crate::names::{ApiKeyId, Namespace, ServiceId, ServiceSlug};

/// A service to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewService {
    /// Its slug.
    pub slug: ServiceSlug,
    /// Its name.
    pub name: String,
    /// Its domain.
    pub domain: String,
    /// What it is.
    pub description: String,
    /// How agents reach it.
    pub mode: ServiceMode,
    /// Where its gateway sends requests.
    pub upstream_url: Option<String>,
}

impl Store {
    /// Makes a service.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: when the slug is taken, or the owner has `most` services.
    pub async fn add_service(
        &self,
        owner: &Namespace,
        new: NewService,
        most: u64,
        now: UnixTime,
    ) -> Result<Result<ServiceRecord, ServiceFault>, StoreFault> {
        let _ = (owner, new, most, now);
        unimplemented!()
    }

    /// The owner's services, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn services(&self, owner: &Namespace) -> Result<Vec<ServiceRecord>, StoreFault> {
        let _ = owner;
        unimplemented!()
    }

    /// One of the owner's services.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn service(
        &self,
        owner: &Namespace,
        id: &ServiceId,
    ) -> Result<Option<ServiceRecord>, StoreFault> {
        let _ = (owner, id);
        unimplemented!()
    }

    /// One of the owner's services, by its slug.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn service_of_slug(
        &self,
        owner: &Namespace,
        slug: &ServiceSlug,
    ) -> Result<Option<ServiceRecord>, StoreFault> {
        let _ = (owner, slug);
        unimplemented!()
    }

    /// Changes a service.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: when there is no such service.
    pub async fn change_service(
        &self,
        owner: &Namespace,
        id: &ServiceId,
        change: ServiceChange,
        now: UnixTime,
    ) -> Result<Result<ServiceRecord, ServiceFault>, StoreFault> {
        let _ = (owner, id, change, now);
        unimplemented!()
    }

    /// Removes a service with its keys and webhooks; its approved claims are revoked, through the feed.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: when there is no such service.
    pub async fn delete_service(
        &self,
        owner: &Namespace,
        id: &ServiceId,
        now: UnixTime,
    ) -> Result<Result<(), ServiceFault>, StoreFault> {
        let _ = (owner, id, now);
        unimplemented!()
    }

    /// Keeps the SHA-256 (lower-case hex) of a key.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service, or `most` active keys.
    #[allow(clippy::too_many_arguments)]
    pub async fn add_key(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        name: &str,
        prefix: &str,
        sha256: &str,
        all_services: bool,
        most: u64,
        now: UnixTime,
    ) -> Result<Result<ApiKeyRecord, ServiceFault>, StoreFault> {
        let _ = (owner, service, name, prefix, sha256, all_services, most, now);
        unimplemented!()
    }

    /// The active keys of a service, oldest first.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service.
    pub async fn keys(
        &self,
        owner: &Namespace,
        service: &ServiceId,
    ) -> Result<Result<Vec<ApiKeyRecord>, ServiceFault>, StoreFault> {
        let _ = (owner, service);
        unimplemented!()
    }

    /// Ends a key.
    ///
    /// # Errors
    /// Outer: when the database fails. Inner: no such service or key.
    pub async fn revoke_key(
        &self,
        owner: &Namespace,
        service: &ServiceId,
        key: &ApiKeyId,
        now: UnixTime,
    ) -> Result<Result<(), ServiceFault>, StoreFault> {
        let _ = (owner, service, key, now);
        unimplemented!()
    }

    /// Who holds the key with this SHA-256 (lower-case hex); notes at most once a minute that it was used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn caller_of_key(
        &self,
        sha256: &str,
        now: UnixTime,
    ) -> Result<Option<ServiceCaller>, StoreFault> {
        let _ = (sha256, now);
        unimplemented!()
    }
}
