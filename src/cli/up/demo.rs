//! What `up --demo` adds: a provider, a service whose key the gateway holds, and nothing that is approved.

use std::fs;
use std::io::Write as _;
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
use crate::control::domain::service::ServiceMode;
use crate::control::store::{NewKey, NewService};
use crate::names::{ConnectionId, Namespace, ServiceSlug, hex};
use crate::secret::SecretString;

const SLUG: &str = "openai";

/// The demo's parts that run; they end when it is dropped.
pub(super) struct Demo {
    _echo: Echo,
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
        runtime.block_on(register(plane, &site.namespace, &service_key))?;
        settings.service_api_key = Some(SecretSource::File(service_key));
        Ok(Self { _echo: echo })
    }
}

/// Makes the service where there is none, and a key of it where the file holds none that opens it.
async fn register(plane: &ControlPlane, owner: &Namespace, file: &Path) -> Result<(), Failure> {
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
        return Ok(());
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
    private::write(file, format!("{}\n", key.expose()).as_bytes())
}

fn random() -> Result<Zeroizing<[u8; 24]>, Failure> {
    let mut bytes = Zeroizing::new([0_u8; 24]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(bytes)
}

/// Prints the way from refused to allowed and back. `program` and `home` are quoted.
pub(super) fn instructions(io: &mut Io<'_>, program: &str, home: &str, gateway: &str) -> Result<(), Failure> {
    writeln!(
        io.out,
        "[ok] Demo ready: an agent that nobody has approved, and `{SLUG}`, an echo provider that wants a key.\n\n\
         Paste these into another terminal, in this directory:\n  \
         {program} --home {home} curl {gateway}/proxy/{SLUG}/v1/models\n    \
         refused with AUTH_CLAIM_REQUIRED; the answer names the claim that now waits for its owner\n  \
         {program} claim list\n  \
         {program} claim approve <claim id>\n    \
         the first command passes now; the gateway adds the key, which the agent never sees\n  \
         {program} claim revoke <claim id>\n    \
         from then on it is refused again, within a second\n\n\
         For an OpenAI client library, run the local signing agent and point the library at it:\n  \
         {program} --home {home} agent --gateway {gateway}\n  \
         export OPENAI_BASE_URL=http://127.0.0.1:38200/proxy/{SLUG}/v1 OPENAI_API_KEY=unused"
    )?;
    Ok(())
}
