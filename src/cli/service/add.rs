//! `sigilum service add`: registers a service, makes its API key and, in gateway mode, its connection.

use serde_json::{Map, Value, json};

use super::super::connection::client::{Access, HEADING};
use super::super::control_client::{Control, ControlArgs, text};
use super::super::owner_token::{Absent, OwnerCalls};
use super::super::place::Place;
use super::gateway::{AuthMode, Gateway, Wanted};
use super::key::{ServiceKey, service_key};
use super::offline::Fallback;
use super::source::Source;
use super::{Exit, Failure, Global, Io, Report, list, remember};
use crate::connections::BaseUrl;
use crate::control::domain::service::ServiceMode;
use crate::names::{ConnectionId, SecretName, ServiceSlug, hex};
use crate::secret::SecretString;

/// What stands in a key's place.
const HIDDEN: &str = "sk_****** (hidden)";
const UPSTREAM: &str = "Gateway mode";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Add {
    /// The service's slug, unique in the namespace
    #[arg(long, value_name = "SLUG")]
    service_slug: ServiceSlug,
    /// Its name for people [default: the slug]
    #[arg(long, value_name = "NAME")]
    service_name: Option<String>,
    /// What it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Its domain [default: localhost]
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// The owner's e-mail address, where the owner is made [default: <namespace>@local.sigilum]
    #[arg(long, value_name = "EMAIL")]
    email: Option<String>,
    /// native: it verifies requests itself; gateway: through a gateway
    #[arg(long, value_name = "MODE", default_value = "native", value_parser = mode)]
    mode: ServiceMode,
    /// Where the upstream is
    #[arg(long, value_name = "URL", help_heading = UPSTREAM)]
    upstream_base_url: Option<String>,
    /// How the secret goes to the upstream [default: bearer]
    #[arg(long, value_name = "MODE", value_enum, help_heading = UPSTREAM)]
    auth_mode: Option<AuthMode>,
    /// The header or the query's parameter that the secret goes into
    #[arg(long, value_name = "NAME", help_heading = UPSTREAM)]
    upstream_header: Option<String>,
    /// What stands before the secret, such as "Bearer "
    #[arg(long, value_name = "TEXT", help_heading = UPSTREAM)]
    auth_prefix: Option<String>,
    /// The secret's name at the gateway [default: access_token for bearer, else api_key]
    #[arg(long, value_name = "KEY", help_heading = UPSTREAM)]
    upstream_secret_key: Option<SecretName>,
    #[command(flatten, next_help_heading = UPSTREAM)]
    source: Source,
    /// Print the key and the secret
    #[arg(long)]
    reveal_secrets: bool,
    /// Where the gateway's admin API is [default: the local stack's, else http://127.0.0.1:38100]
    #[arg(long, env = "GATEWAY_ADMIN_URL", hide_env_values = true, value_name = "URL", help_heading = HEADING)]
    gateway_admin_url: Option<String>,
    #[command(flatten)]
    fallback: Fallback,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn mode(word: &str) -> Result<ServiceMode, String> {
    ServiceMode::from_word(word).ok_or_else(|| "it is native or gateway".to_owned())
}

pub(super) fn run(add: &Add, global: &Global, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let report =
        Report::new(format!("Service registered: {}", add.service_slug)).field("mode", add.mode.word());
    let report = match add.mode {
        ServiceMode::Native => add.native(report, global, io),
        ServiceMode::Gateway => add.gateway(report, global, io),
    }?;
    report.write(&mut io.out, add.json)?;
    Ok(Exit::Done)
}

impl Add {
    fn native(&self, report: Report, global: &Global, io: &mut Io<'_>) -> Result<Report, Failure> {
        let of_gateway = self.upstream_base_url.is_some()
            || self.auth_mode.is_some()
            || self.upstream_header.is_some()
            || self.auth_prefix.is_some()
            || self.upstream_secret_key.is_some()
            || self.source.is_named()
            || self.fallback.is_said();
        if of_gateway {
            return Err(Failure::usage("a native service has no upstream at a gateway")
                .hint("say --mode gateway, or leave the upstream's flags away"));
        }
        let owner = OwnerCalls::new(&Place::here(None)?, &self.control, self.absent(), global, io)?;
        let id = self.register(&owner.control)?;
        let ServiceKey { key, file } = service_key(&owner.control, &id, &self.service_slug)?;
        Ok(report
            .field("service_id", id)
            .field("api_key", self.shown(&key))
            .field("key_file", file.display().to_string()))
    }

    fn gateway(&self, report: Report, global: &Global, io: &mut Io<'_>) -> Result<Report, Failure> {
        let id = ConnectionId::from(&self.service_slug);
        let given = self.source.read(io)?;
        let place = Place::here(None)?;
        // Both ends are asked before anything is changed at one of them.
        let url = place.admin_url(self.gateway_admin_url.as_deref());
        let gateway = Gateway::find(&url, &self.access, &self.fallback, io)?;
        let stands = gateway.view(&id)?;
        let secret_key = self.secret_key(stands.as_ref())?;
        let wanted = self.wanted(&id, stands.as_ref(), &secret_key)?;
        let secret = match (given, &stands) {
            (Some(secret), _) => Some(secret),
            (None, Some(view)) if has(view, &secret_key) || self.needs_none(view) => None,
            (None, _) => Some(random(&self.service_slug, io)?),
        };
        let owner = OwnerCalls::new(&place, &self.control, self.absent(), global, io)?;
        let service_id = self.register(&owner.control)?;
        let ServiceKey { key, file } = service_key(&owner.control, &service_id, &self.service_slug)?;
        let revealed =
            secret.as_ref().filter(|_| self.reveal_secrets).map(|secret| secret.expose().to_owned());
        let view = gateway.put(&wanted, secret, io)?;
        let shown = self.shown(&key);
        gateway.put_service_key(&id, key, io)?;
        if let Some(why) = gateway.await_claims(&id) {
            writeln!(
                io.err,
                "warning: the gateway has not received the claims of {id}: {why}; until it has, agents get AUTH_CLAIMS_UNAVAILABLE, and `sigilum doctor` tells more"
            )?;
        }
        let connection_file = remember(&id, &secret_key, &view)?;
        let mut report = report
            .field("service_id", service_id)
            .field("api_key", shown)
            .field("upstream_url", wanted.base_url.unwrap_or(text(&view, "base_url")))
            .field("auth_mode", text(&view, "auth_mode"))
            .field("connection_id", id.as_str())
            .field("secret_key", secret_key.as_str());
        if let Some(secret) = revealed {
            report = report.field("secret_value", secret);
        }
        Ok(report
            .field("key_file", file.display().to_string())
            .field("connection_file", connection_file.display().to_string()))
    }

    fn absent(&self) -> Absent<'_> {
        Absent::Made(self.email.as_deref())
    }

    fn name(&self) -> &str {
        self.service_name.as_deref().unwrap_or(self.service_slug.as_str())
    }

    /// The secret's name: as it is said, else that of the connection that stands, else the mode's.
    fn secret_key(&self, stands: Option<&Value>) -> Result<SecretName, Failure> {
        if let Some(key) = &self.upstream_secret_key {
            return Ok(key.clone());
        }
        let standing = stands.map_or("", |view| text(view, "auth_secret_key"));
        let usual = self.auth_mode.unwrap_or(AuthMode::Bearer).secret_key();
        Ok(if standing.is_empty() { usual } else { standing }.parse()?)
    }

    /// What the gateway would refuse later is refused before anything is changed.
    fn wanted<'a>(
        &'a self,
        id: &'a ConnectionId,
        stands: Option<&Value>,
        secret_key: &'a SecretName,
    ) -> Result<Wanted<'a>, Failure> {
        let new = stands.is_none();
        let base_url = self.upstream_base_url.as_deref();
        match base_url {
            None if new => {
                return Err(Failure::usage("a gateway service needs its upstream")
                    .hint("name it with --upstream-base-url URL"));
            }
            None => {}
            Some(url) => {
                url.parse::<BaseUrl>()
                    .map_err(|fault| Failure::usage(format!("--upstream-base-url: {fault}")))?;
            }
        }
        let auth_mode = self.auth_mode.or(new.then_some(AuthMode::Bearer));
        let standing = stands.map(|view| text(view, "auth_mode"));
        let changes_mode = standing.is_some() && auth_mode.is_some_and(|mode| Some(mode.word()) != standing);
        if auth_mode == Some(AuthMode::HeaderKey) && self.upstream_header.is_none() && (new || changes_mode) {
            return Err(Failure::usage("header_key needs the header that the secret goes into")
                .hint("name it with --upstream-header X-API-Key"));
        }
        Ok(Wanted {
            id,
            stands: !new,
            name: self.service_name.as_deref().or(new.then_some(self.service_slug.as_str())),
            base_url,
            auth_mode,
            changes_mode,
            header: self.upstream_header.as_deref(),
            prefix: self.auth_prefix.as_deref(),
            secret_key,
        })
    }

    /// Whether the connection that stands injects nothing, and is to go on so.
    fn needs_none(&self, view: &Value) -> bool {
        self.auth_mode.is_none() && self.upstream_secret_key.is_none() && text(view, "auth_mode") == "none"
    }

    /// Registers the service, or changes what is said of the one that stands; gives its id.
    fn register(&self, control: &Control) -> Result<String, Failure> {
        let slug = self.service_slug.as_str();
        let services = list::all(control)?;
        let service = match services.iter().find(|service| text(service, "slug") == slug) {
            None => control.post(&["v1", "services"], &self.new_service())?,
            Some(service) => {
                let changes = self.changes(service);
                if changes.is_empty() {
                    service.clone()
                } else {
                    control.patch(&["v1", "services", text(service, "id")], &changes.into())?
                }
            }
        };
        match text(&service, "id") {
            "" => Err(anyhow::anyhow!("the control plane does not say the service's id").into()),
            id => Ok(id.to_owned()),
        }
    }

    fn new_service(&self) -> Value {
        let mut body = Map::from_iter([
            ("name".to_owned(), json!(self.name())),
            ("slug".to_owned(), json!(self.service_slug.as_str())),
            ("domain".to_owned(), json!(self.domain.as_deref().unwrap_or("localhost"))),
            ("description".to_owned(), json!(self.description.as_deref().unwrap_or_default())),
            ("mode".to_owned(), json!(self.mode.word())),
        ]);
        if let Some(url) = &self.upstream_base_url {
            body.insert("upstream_url".to_owned(), json!(url));
        }
        body.into()
    }

    /// Of what is said, what is not so yet.
    fn changes(&self, service: &Value) -> Map<String, Value> {
        let said = [
            ("name", self.service_name.as_deref()),
            ("domain", self.domain.as_deref()),
            ("description", self.description.as_deref()),
            ("mode", Some(self.mode.word())),
            ("upstream_url", self.upstream_base_url.as_deref()),
        ];
        let changed = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let changed = changed.filter(|(name, value)| text(service, name) != *value);
        let mut changes: Map<String, Value> =
            changed.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        if self.mode == ServiceMode::Native && !text(service, "upstream_url").is_empty() {
            changes.insert("upstream_url".to_owned(), Value::Null);
        }
        changes
    }

    fn shown(&self, key: &SecretString) -> String {
        if self.reveal_secrets { key.expose().to_owned() } else { HIDDEN.to_owned() }
    }
}

/// Whether the connection has a secret of this name.
fn has(view: &Value, key: &SecretName) -> bool {
    let keys = view.get("credential_keys").and_then(Value::as_array);
    keys.into_iter().flatten().any(|name| name.as_str() == Some(key.as_str()))
}

/// A secret that nobody gave.
fn random(slug: &ServiceSlug, io: &mut Io<'_>) -> Result<SecretString, Failure> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    writeln!(
        io.err,
        "warning: no secret is named, so a random one is made; set the upstream's own with `sigilum service secret set --service-slug {slug} --upstream-secret-env NAME`"
    )?;
    Ok(SecretString::new(hex(&*bytes))?)
}
