//! What stands in a database before its control plane begins: one service, its key, claims that are approved, and agents
//! whose claim waits for its owner.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sigilum::clock::{Clock, UnixTime};
use sigilum::control::TokenKey;
use sigilum::control::domain::claim::{Submission, Submitted};
use sigilum::control::domain::service::{ServiceMode, ServiceRecord};
use sigilum::control::store::{DatabaseUrl, NewKey, NewService, Store};
use sigilum::secret::{SecretBytes, SecretString};

use super::samples;

/// The service, and the gateways' id of it.
pub const SERVICE: &str = "bench";
/// Opens all services of their owner.
pub const SERVICE_KEY: &str = "sk_live_0123456789abcdef0123456789abcdef0123456789abcdef";
pub const JWT_SECRET: &str = "a-secret-of-some-length-0123456789abcdef";
/// The first agent whose claim waits; those before it are approved.
pub const WAITING: u32 = 1_000_000;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An agent whose claim waits, and its owner's token.
pub struct Waiting {
    pub agent: u32,
    pub claim: String,
    pub token: String,
}

/// Fills a new database: `approved` agents from 0 on, `waiting` ones from [`WAITING`] on.
pub fn fill(database: &str, approved: u32, waiting: u32) -> Result<Vec<Waiting>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let store = Store::open(&url(database)).await.map_err(|fault| fault.to_string())?;
        let filling = Filling { store, now: Clock::system().now() };
        let service = filling.service().await?;
        filling.approved(0..approved).await?;
        let waiting = filling.waiting(&service, WAITING..WAITING + waiting).await;
        filling.store.close().await;
        waiting
    })
}

fn url(text: &str) -> DatabaseUrl {
    match text.strip_prefix("sqlite:") {
        Some(path) => DatabaseUrl::Sqlite(PathBuf::from(path)),
        None => DatabaseUrl::Postgres(SecretString::new(text.to_owned()).unwrap()),
    }
}

struct Filling {
    store: Store,
    now: UnixTime,
}

impl Filling {
    async fn service(&self) -> Result<ServiceRecord, String> {
        let (store, now) = (&self.store, self.now);
        let owner = "bench-owner".parse().unwrap();
        store.add_owner(&owner, "owner@example.com", now).await.map_err(|fault| fault.to_string())?;
        let new = NewService {
            slug: SERVICE.parse().unwrap(),
            name: SERVICE.to_owned(),
            domain: "localhost".to_owned(),
            description: String::new(),
            mode: ServiceMode::Gateway,
            upstream_url: None,
        };
        let made = store.add_service(&owner, new, 1, now).await.map_err(|fault| fault.to_string())?;
        let service = made.map_err(|fault| fault.to_string())?;
        let sha256: String =
            Sha256::digest(SERVICE_KEY.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let new = NewKey {
            name: "gateways".to_owned(),
            prefix: "sk_live_0123".to_owned(),
            sha256,
            all_services: true,
        };
        let key = store.add_key(&owner, &service.id, new, 1, now).await;
        key.map_err(|fault| fault.to_string())?.map_err(|fault| fault.to_string())?;
        Ok(service)
    }

    async fn approved(&self, agents: Range<u32>) -> Result<(), String> {
        let slug = SERVICE.parse().unwrap();
        for agent in agents {
            let identity = samples::identity(agent);
            let (namespace, key) = (identity.namespace(), identity.public_key());
            let seeded = self.store.seed_claim(namespace, &slug, key, true, self.now).await;
            seeded.map_err(|fault| fault.to_string())?;
            if (agent + 1) % 20_000 == 0 {
                eprintln!("{} claims are made", agent + 1);
            }
        }
        Ok(())
    }

    async fn waiting(&self, service: &ServiceRecord, agents: Range<u32>) -> Result<Vec<Waiting>, String> {
        let tokens = TokenKey::new(SecretBytes::new(JWT_SECRET.as_bytes().to_vec())).unwrap();
        let mut waiting = Vec::new();
        for agent in agents {
            let identity = samples::identity(agent);
            let owner = self.store.add_owner(identity.namespace(), "owner@example.com", self.now).await;
            let owner = owner.map_err(|fault| fault.to_string())?;
            let submission = Submission {
                namespace: identity.namespace().clone(),
                public_key: *identity.public_key(),
                service_id: service.id.clone(),
                subject: identity.namespace().to_string(),
                agent_id: None,
                agent_name: None,
                agent_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                scopes: Vec::new(),
                ttl_seconds: None,
                nonce: format!("a-nonce-of-agent-{agent}"),
            };
            let submitted = self.store.submit_claim(submission, self.now).await;
            match submitted.map_err(|fault| fault.to_string())?.map_err(|fault| fault.to_string())? {
                Submitted::Made(claim) => waiting.push(Waiting {
                    agent,
                    claim: claim.id.to_string(),
                    token: tokens.issue(&owner, DAY, self.now).expose().to_owned(),
                }),
                Submitted::Standing(claim) => return Err(format!("claim {} stood already", claim.id)),
            }
        }
        Ok(waiting)
    }
}
