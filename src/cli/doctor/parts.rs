//! The processes: whether each answers, is ready, and knows what it has to.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use super::super::connection::client::Client;
use super::super::gateway::{self, Which};
use super::super::life::Serving;
use super::super::place::{Place, variable};
use super::super::plane::local_origin;
use super::super::quote::quote;
use super::super::reach::{self, Answer};
use super::super::service::missing_claims;
use super::super::workspace::is_here;
use super::super::{Exit, Failure, Io, connection, private};
use super::{Args, Visit};
use crate::clock::Clock;
use crate::names::ConnectionId;

/// Signatures may be off by 30 s into the future; half of it and less is worth a word.
const SKEW_WARN: Duration = Duration::from_secs(10);
const SKEW_FAIL: Duration = Duration::from_secs(30);
const SERVICE_KEY: &str = "service-api-key-";

/// A process that should run: where, what tells that it is well, and what to type where it is not.
struct Part {
    name: &'static str,
    origin: String,
    path: &'static str,
    /// Whether it is missed where it does not answer.
    needed: bool,
    /// Where it does not answer.
    start: String,
    /// Where it answers that it is not well.
    look: String,
}

impl Visit<'_> {
    /// Control plane, gateway and admin listener.
    pub(super) fn parts(
        &mut self,
        args: &Args,
        config: Option<&Path>,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        reach::asking(|runtime| self.ask_parts(runtime, args, config, io))?
    }

    fn ask_parts(
        &mut self,
        runtime: &Runtime,
        args: &Args,
        config: Option<&Path>,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        let Some(place) = self.place.take() else { return Ok(()) };
        if let Some(answer) = self.control_plane(&place).and_then(|part| self.part(runtime, &part)) {
            self.skew(&answer);
        }
        let Gateway { origin, admin } = self.gateway(&place, config);
        let start = if place.is_local() && config.is_none() {
            "sigilum up"
        } else {
            "sigilum gateway start --daemon"
        };
        let look = if place.is_local() { "sigilum status" } else { "sigilum gateway status" };
        let needed = !place.is_local() || self.workspace.is_some() || config.is_some();
        let part = |name, origin: String| Part {
            name,
            origin,
            path: "/health/ready",
            needed,
            start: start.to_owned(),
            look: look.to_owned(),
        };
        let (gateway, sidecar) = (origin.map(|origin| part("gateway", origin)), part("admin", admin));
        if let Some(gateway) = gateway {
            self.part(runtime, &gateway);
        }
        if self.part(runtime, &sidecar).is_some() {
            let client = Client::new(&sidecar.origin, &args.access, io)?;
            self.vault(&client);
            self.service_keys(&client);
        }
        self.place = Some(place);
        Ok(())
    }

    /// That of the mode; in enterprise mode somebody must name it.
    fn control_plane(&mut self, place: &Place) -> Option<Part> {
        match place.api_url(None) {
            Ok(url) => {
                let origin = url.as_str().trim_end_matches('/').to_owned();
                let ask = || format!("curl -sS {}", quote(&format!("{origin}/health")));
                Some(match place.is_local() {
                    true => Part {
                        name: "control plane",
                        path: "/health/ready",
                        needed: self.workspace.is_some(),
                        start: "sigilum up".to_owned(),
                        look: "sigilum status".to_owned(),
                        origin,
                    },
                    false => Part {
                        name: "control plane",
                        path: "/health",
                        needed: true,
                        start: ask(),
                        look: ask(),
                        origin,
                    },
                })
            }
            Err(failure) => {
                self.fail("control plane", failure.sentence(), "export SIGILUM_REGISTRY_URL=<its URL>");
                None
            }
        }
    }

    /// The gateway that runs here, else where the configuration, the workspace or the mode has it.
    fn gateway(&mut self, place: &Place, config: Option<&Path>) -> Gateway {
        let which = Which::of(config.map(Path::to_owned));
        let serving = match gateway::serving(&which) {
            Ok(serving) => serving,
            Err(failure) => {
                self.fail("gateway", failure.sentence(), "sigilum gateway status");
                None
            }
        };
        if let Some(Serving { gateway, admin: Some(admin), .. }) = serving {
            return Gateway { origin: gateway.into_iter().next(), admin };
        }
        let said = variable("GATEWAY_ADMIN_URL");
        match which.admin_address() {
            Some(address) => Gateway { origin: None, admin: local_origin(address) },
            None => Gateway {
                origin: Some(place.gateway_url().to_owned()),
                admin: place.own_admin_url(said.as_deref()),
            },
        }
    }

    /// Its answer, where there is one. Where there is none, and it should be on this machine, nobody else may listen there.
    fn part(&mut self, runtime: &Runtime, part: &Part) -> Option<Answer> {
        let Part { name, origin, path, needed, start, look } = part;
        match runtime.block_on(reach::get(origin, path)) {
            Ok(answer) if answer.is_ok() => {
                self.ok(name, format!("{origin} is ready"));
                Some(answer)
            }
            Ok(answer) => {
                self.fail(name, format!("{origin}: {}", answer.problem()), look.as_str());
                Some(answer)
            }
            Err(cause) => {
                if *needed {
                    self.fail(name, format!("{origin} cannot be reached: {cause}"), start.as_str());
                }
                self.port(name, origin);
                None
            }
        }
    }

    fn skew(&mut self, answer: &Answer) {
        let Some(theirs) = answer.date else { return };
        let ours = Clock::system().now();
        let skew = ours.since(theirs).max(theirs.since(ours));
        let detail = format!("the control plane's clock is {} s off this one", skew.as_secs());
        let fix = "timedatectl set-ntp true";
        match skew {
            skew if skew > SKEW_FAIL => self.fail("clock", detail, fix),
            skew if skew > SKEW_WARN => self.warn("clock", detail, fix),
            _ => self.ok("clock", "this clock agrees with the control plane's"),
        }
    }

    fn vault(&mut self, client: &Client) {
        let answer = match client.get("/api/admin/gateway") {
            Ok(answer) => answer,
            Err(failure) => return self.not_told("vault", &failure),
        };
        match answer.get("vault") {
            Some(Value::Object(vault)) => match vault.get("problem").and_then(Value::as_str) {
                None => {
                    let records = vault.get("records").and_then(Value::as_u64).unwrap_or_default();
                    self.ok("vault", format!("it is open and takes writes, with {records} records"));
                }
                Some(problem) => {
                    let fix = "sigilum down, mend it, then sigilum vault verify";
                    self.fail("vault", format!("it takes no writes: {problem}"), fix);
                }
            },
            _ => self.warn(
                "vault",
                "this gateway has none, so it keeps no secret",
                "set vault.master_key in its configuration",
            ),
        }
    }

    /// The admin API's refusal is no fault of the gateway's.
    fn not_told(&mut self, check: &'static str, failure: &Failure) {
        let detail = format!("the admin API does not tell: {}", failure.sentence());
        if failure.exit() == Exit::NotAuthorized {
            self.warn(check, detail, "export GATEWAY_ADMIN_TOKEN=<the gateway's admin token>");
        } else {
            self.fail(check, detail, "sigilum gateway status");
        }
    }

    /// Each service that was added here has a key, and the gateway has it too.
    fn service_keys(&mut self, client: &Client) {
        let directory = std::fs::read_dir(private::WORKSPACE).into_iter().flatten().flatten();
        let slugs: BTreeSet<ConnectionId> = directory
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(SERVICE_KEY)?.parse().ok())
            .collect();
        for slug in slugs {
            match connection::find(client, &slug) {
                Ok(Some(_)) => {}
                // A native service verifies requests itself.
                Ok(None) => continue,
                Err(failure) => return self.not_told("service keys", &failure),
            }
            let key = connection::service_key(client, &slug);
            let has_key = |known: &Value| known.get("has_key") == Some(&Value::Bool(true));
            let fix =
                format!("sigilum service add --service-slug {slug} --mode gateway, with its other flags");
            match key.ok().filter(has_key).map(|known| missing_claims(&known)) {
                Some(None) => self.ok("service keys", format!("the gateway has the key of {slug}")),
                Some(Some(why)) => {
                    let detail = format!("the gateway does not receive the claims of {slug}: {why}");
                    self.fail("service keys", detail, fix);
                }
                None => {
                    self.fail("service keys", format!("the gateway does not have the key of {slug}"), fix);
                }
            }
        }
    }

    /// Whether another program has the port of what does not answer. A port elsewhere is nobody's to free here, and the
    /// look-up of its name may take long.
    fn port(&mut self, name: &str, origin: &str) {
        if !is_here(origin) {
            return;
        }
        let addresses = Url::parse(origin).ok().and_then(|url| url.socket_addrs(|| None).ok());
        let Some(address) = addresses.into_iter().flatten().next() else { return };
        let taken = TcpListener::bind(address);
        if taken.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            let port = address.port();
            let detail = format!("port {port}, which the {name} needs, is taken by another program");
            self.fail("ports", detail, format!("ss -ltnp 'sport = :{port}' shows which; stop it"));
        }
    }
}

/// Where a gateway is.
struct Gateway {
    /// Its data plane's first origin, where that is known.
    origin: Option<String>,
    admin: String,
}
