//! Claims without an owner's decision: for tests alone.

use super::change::Line;
use super::ends::{AUTO, End};
use super::record::{claim, parsed, select_claims};
use super::services::NewService;
use super::{Store, StoreFault, owners, random, retrying, services};
use crate::clock::UnixTime;
use crate::control::domain::claim::{ClaimRecord, ClaimStatus};
use crate::control::domain::service::ServiceMode;
use crate::names::{ClaimId, Namespace, ServiceId, ServiceSlug};
use crate::protocol::PublicKey;

impl Store {
    /// Makes an approved claim, or revokes one, without the owner: for `POST /v1/test/seed` alone. Of the services
    /// with this slug it is the namespace's own, or else the oldest; the namespace and the service are made where
    /// there are none.
    ///
    /// # Errors
    /// When the namespace was deleted. When the database fails.
    pub async fn seed_claim(
        &self,
        namespace: &Namespace,
        service: &ServiceSlug,
        key: &PublicKey,
        approved: bool,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        retrying(|| self.try_seed(namespace, service, key, approved, now)).await
    }

    async fn try_seed(
        &self,
        namespace: &Namespace,
        slug: &ServiceSlug,
        key: &PublicKey,
        approved: bool,
        now: UnixTime,
    ) -> Result<(), StoreFault> {
        let mut change = self.change().await?;
        owners::make_namespace(&mut change.transaction, namespace, now).await?;
        if change.lock_namespace(namespace).await?.is_none() {
            return Err(StoreFault::NamespaceGone(namespace.clone()));
        }
        let found = sqlx::query(
            "SELECT id, owner FROM services WHERE slug = $1 \
             ORDER BY CASE WHEN owner = $2 THEN 0 ELSE 1 END, created_at, id LIMIT 1",
        )
        .bind(slug.as_str())
        .bind(namespace.as_str())
        .fetch_optional(&mut *change.transaction)
        .await?;
        let (id, owner): (ServiceId, Namespace) = match found {
            Some(row) => (parsed(&row, "id")?, parsed(&row, "owner")?),
            None if !approved => return Ok(()),
            None => {
                let made = services::record(namespace, &seeded(slug), now)?;
                change.insert_service(&made).await?;
                (made.id, made.owner)
            }
        };
        let select = select_claims!(
            "WHERE namespace = $1 AND public_key = $2 AND service_id = $3 AND status IN ('pending', 'approved')"
        );
        let row = sqlx::query(self.backend().for_update(select))
            .bind(namespace.as_str())
            .bind(key.to_string())
            .bind(id.as_str())
            .fetch_optional(&mut *change.transaction)
            .await?;
        let standing = row.as_ref().map(claim).transpose()?;
        let stands = standing.as_ref().is_some_and(|claim| {
            claim.status == ClaimStatus::Approved && claim.expires_at.is_none_or(|end| end > now)
        });
        let mut lines = Vec::new();
        if !(approved && stands) {
            if let Some(standing) = standing {
                change.end(vec![standing], &End::revoked(now), &mut lines).await?;
            }
            if approved {
                let made = approved_claim(namespace, key, (id, slug.clone(), owner), now)?;
                change.insert_claim(&made, None).await?;
                lines.push(Line::approved(&made, now)?);
            }
        }
        change.append(&lines).await?;
        change.commit().await
    }
}

fn seeded(slug: &ServiceSlug) -> NewService {
    NewService {
        slug: slug.clone(),
        name: slug.to_string(),
        domain: "localhost".to_owned(),
        description: "Made by a test".to_owned(),
        mode: ServiceMode::Gateway,
        upstream_url: None,
    }
}

fn approved_claim(
    namespace: &Namespace,
    key: &PublicKey,
    (service_id, service, service_owner): (ServiceId, ServiceSlug, Namespace),
    now: UnixTime,
) -> Result<ClaimRecord, StoreFault> {
    Ok(ClaimRecord {
        id: ClaimId::from_random(random()?),
        namespace: namespace.clone(),
        public_key: *key,
        service_id,
        service,
        service_owner,
        subject: namespace.to_string(),
        agent_id: None,
        agent_name: None,
        agent_ip: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        status: ClaimStatus::Approved,
        scopes: Vec::new(),
        created_at: now,
        approved_at: Some(now),
        decided_at: Some(now),
        decided_by: Some(AUTO.to_owned()),
        expires_at: None,
        first_approver: None,
    })
}
