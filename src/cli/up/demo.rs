//! What `up --demo` adds: a provider, a service whose key the gateway holds, and an agent whose claim waits.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::super::ground::Ground;
use super::super::{Failure, Io, private};
use super::echo::Echo;
use super::site::Site;
use crate::clock::Clock;
use crate::config::Settings;
use crate::connections::{Auth, Connection, Endpoint, SecretSource};
use crate::control::ControlPlane;
use crate::control::domain::api_key::ApiKey;
use crate::control::domain::claim::{ClaimFilter, ClaimStatus, Decision, Submission, Submitted};
use crate::control::domain::service::ServiceMode;
use crate::control::store::{NewKey, NewService};
use crate::names::{ClaimId, ConnectionId, Namespace, ServiceId, ServiceSlug, hex};
use crate::secret::SecretString;

const SLUG: &str = "openai";
/// The file with the id of the agent's claim.
const CLAIM: &str = "claim-id";

/// The demo's parts that run; they end when it is dropped.
pub(super) struct Demo {
    _echo: Echo,
    claim: ClaimId,
}

impl Demo {
    /// Starts the provider, registers the service, and tells the gateway of both.
    pub(super) fn prepare(
        ground: &Ground,
        plane: &ControlPlane,
        site: &Site,
        settings: &mut Settings,
    ) -> Result<Self, Failure> {
        let key = site.file("provider-key");
        if !key.exists() {
            private::write(&key, format!("sk-demo-{}", hex(&*random()?)).as_bytes())?;
        }
        let secret = SecretString::new(fs::read_to_string(&key)?)?;
        let runtime = ground.runtime();
        let echo = runtime.block_on(Echo::start(secret)).context("the echo provider cannot listen")?;
        let connection: ConnectionId = SLUG.parse()?;
        settings.connections = vec![Connection {
            endpoints: vec![Endpoint { url: format!("http://{}", echo.address()).parse()?, weight: 1 }],
            auth: Auth::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() },
            secret: Some(SecretSource::File(std::path::absolute(&key)?)),
            ..Connection::named(connection)
        }];
        let service_key = std::path::absolute(site.file(&format!("service-api-key-{SLUG}")))?;
        let service = runtime.block_on(register(plane, &site.namespace, &service_key))?;
        settings.service_api_key = Some(SecretSource::File(service_key));
        let claim = runtime.block_on(ask(plane, site, service))?;
        private::write(&site.file(CLAIM), claim.as_str().as_bytes())?;
        Ok(Self { _echo: echo, claim })
    }

    /// The claim that waits.
    pub(super) fn claim(&self) -> &ClaimId {
        &self.claim
    }
}

/// Makes the service where there is none, and a key of it where the file holds none that opens it.
async fn register(plane: &ControlPlane, owner: &Namespace, file: &Path) -> Result<ServiceId, Failure> {
    let (store, now) = (&plane.store, Clock::system().now());
    let slug: ServiceSlug = SLUG.parse()?;
    let service = match store.service_of_slug(owner, &slug).await? {
        Some(service) => service,
        None => {
            let new = NewService {
                slug,
                name: "OpenAI (echo)".to_owned(),
                domain: "localhost".to_owned(),
                description: "The demo's echo provider".to_owned(),
                mode: ServiceMode::Gateway,
                upstream_url: None,
            };
            store.add_service(owner, new, plane.config.limits.services_per_owner, now).await??
        }
    };
    if let Ok(text) = fs::read_to_string(file).map(Zeroizing::new)
        && let Ok(key) = text.trim().parse::<ApiKey>()
        && let Some(caller) = store.caller_of_key(&key.sha256(), now).await?
        && caller.service.id == service.id
    {
        return Ok(service.id);
    }
    // Keys whose text is lost would only use up the number that there may be.
    for lost in store.keys(owner, &service.id).await?? {
        store.revoke_key(owner, &service.id, &lost.id).await??;
    }
    let key = ApiKey::from_random(&*random()?);
    let new = NewKey {
        name: "demo".to_owned(),
        prefix: key.beginning().to_owned(),
        sha256: key.sha256(),
        all_services: false,
    };
    store.add_key(owner, &service.id, new, plane.config.limits.keys_per_service, now).await??;
    private::write(file, format!("{}\n", key.expose()).as_bytes())?;
    Ok(service.id)
}

/// Asks for the agent's claim, as its first call would, so that its id can be printed. What an earlier demo has approved
/// is taken back: each begins with an agent that nobody has approved.
async fn ask(plane: &ControlPlane, site: &Site, service_id: ServiceId) -> Result<ClaimId, Failure> {
    let (store, owner, now) = (&plane.store, &site.namespace, Clock::system().now());
    let approved =
        ClaimFilter { status: Some(ClaimStatus::Approved), service: None, limit: 1_000, offset: 0 };
    for claim in store.claims_of(owner, &approved).await?.0 {
        // One that ended at this moment is as good.
        let _ = store.decide_claim(owner, &claim.id, Decision::Revoke, &site.email(), now).await?;
    }
    let submission = Submission {
        namespace: owner.clone(),
        public_key: *site.home().load(owner)?.public_key(),
        service_id,
        subject: owner.to_string(),
        agent_id: None,
        agent_name: None,
        agent_ip: Ipv4Addr::LOCALHOST.into(),
        scopes: Vec::new(),
        ttl_seconds: None,
        nonce: format!("demo-{}", hex(&*random()?)),
    };
    match store.submit_claim(submission, now).await?? {
        Submitted::Made(claim) | Submitted::Standing(claim) => Ok(claim.id),
    }
}

fn random() -> Result<Zeroizing<[u8; 24]>, Failure> {
    let mut bytes = Zeroizing::new([0_u8; 24]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(bytes)
}

/// Prints the way from refused to allowed and back. `program` is how this program is called, `agent` how it is called
/// as the demo's agent; the demo's own files are in `files`. `place` is how the directory is called, and the line that goes
/// there, or nothing.
pub(super) fn instructions(
    io: &mut Io<'_>,
    program: &str,
    agent: &str,
    gateway: &str,
    files: &Path,
    (place, enter): (&str, &str),
) -> Result<(), Failure> {
    let claim = fs::read_to_string(files.join(CLAIM)).context("the demo's claim is not known")?;
    writeln!(
        io.out,
        "[ok] Demo ready: an agent that nobody has approved, and `{SLUG}`, an echo provider that wants a key.\n\n\
         Paste these into another terminal, in {place} directory:\n  \
         {enter}{agent} curl {gateway}/proxy/{SLUG}/v1/models\n    \
         # refused with AUTH_CLAIM_REQUIRED; the answer names the claim that waits for its owner\n  \
         {program} claim list\n  \
         {program} claim approve {claim}\n  \
         {agent} curl {gateway}/proxy/{SLUG}/v1/models\n    \
         # passes; the gateway has added the provider's key, which the agent never sees\n  \
         {program} claim revoke {claim}\n    \
         # the same call is refused again, within a second\n\n\
         For an OpenAI client library, run the local signing agent and point the library at it:\n  \
         {agent} agent\n  \
         export OPENAI_BASE_URL=http://127.0.0.1:38200/proxy/{SLUG}/v1 OPENAI_API_KEY=unused"
    )?;
    Ok(())
}
