//! The processes: whether each answers, is ready, and knows what it has to.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use super::super::reach::{self, Answer};
use super::super::service::missing_claims;
use super::super::{Failure, workspace};
use super::Visit;
use crate::clock::Clock;

/// Signatures may be off by 30 s into the future; half of it and less is worth a word.
const SKEW_WARN: Duration = Duration::from_secs(10);
const SKEW_FAIL: Duration = Duration::from_secs(30);
/// Where the local stack is, when nothing says otherwise.
const LOCAL: [(&str, &str); 3] = [
    ("control plane", "http://127.0.0.1:8787"),
    ("gateway", "http://127.0.0.1:38100"),
    ("admin", "http://127.0.0.1:38101"),
];
const SERVICE_KEY: &str = "service-api-key-";

impl Visit<'_> {
    /// Control plane, gateway and admin listener.
    pub(super) fn parts(&mut self) -> Result<(), Failure> {
        let runtime = reach::runtime()?;
        let Some(workspace) = self.workspace.clone() else {
            self.ports();
            return Ok(());
        };
        let answers = [
            ("control plane", &workspace.api_url),
            ("gateway", &workspace.gateway_url),
            ("admin", &workspace.admin_url),
        ]
        .map(|(name, origin)| self.part(&runtime, name, origin));
        let [control, gateway, admin] = answers;
        if let Some(answer) = control {
            self.skew(&answer);
        }
        if gateway.is_none() && admin.is_none() {
            self.ports_of([&workspace.api_url, &workspace.gateway_url, &workspace.admin_url]);
        }
        if admin.is_some() {
            self.vault(&runtime, &workspace.admin_url);
            self.service_keys(&runtime, &workspace.admin_url);
        }
        Ok(())
    }

    /// Its answer, where there is one.
    fn part(&mut self, runtime: &Runtime, name: &'static str, origin: &str) -> Option<Answer> {
        match runtime.block_on(reach::get(origin, "/health/ready")) {
            Ok(answer) if answer.is_ok() => {
                self.ok(name, format!("{origin} is ready"));
                Some(answer)
            }
            Ok(answer) => {
                self.fail(name, format!("{origin}: {}", answer.problem()), "sigilum status");
                Some(answer)
            }
            Err(cause) => {
                self.fail(name, format!("{origin} cannot be reached: {cause}"), "sigilum up");
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

    fn vault(&mut self, runtime: &Runtime, admin: &str) {
        let answer = match runtime.block_on(reach::get(admin, "/api/admin/gateway")) {
            Ok(answer) if answer.is_ok() => answer,
            Ok(answer) => {
                let fix = "export GATEWAY_ADMIN_TOKEN=<the gateway's admin token>";
                return self.warn("vault", format!("the admin API does not tell: {}", answer.problem()), fix);
            }
            Err(cause) => {
                return self.fail("vault", format!("the admin API does not tell: {cause}"), "sigilum status");
            }
        };
        match answer.json.get("vault") {
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

    /// Each service that was added here has a key, and the gateway has it too.
    fn service_keys(&mut self, runtime: &Runtime, admin: &str) {
        let directory = std::fs::read_dir(workspace::DIRECTORY).into_iter().flatten().flatten();
        let slugs: BTreeSet<String> = directory
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(SERVICE_KEY).map(str::to_owned))
            .collect();
        for slug in slugs {
            let connection = runtime.block_on(reach::get(admin, &format!("/api/admin/connections/{slug}")));
            if connection.as_ref().is_ok_and(|answer| answer.status == 404) {
                // A native service verifies requests itself.
                continue;
            }
            let key = runtime.block_on(reach::get(admin, &format!("/api/admin/service-api-keys/{slug}")));
            let is_set =
                |answer: &Answer| answer.is_ok() && answer.json.get("has_key") == Some(&Value::Bool(true));
            let fix =
                format!("sigilum service add --service-slug {slug} --mode gateway, with its other flags");
            match key.ok().filter(is_set).map(|answer| missing_claims(&answer.json)) {
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

    fn ports(&mut self) {
        self.ports_of(LOCAL.map(|(_, origin)| origin));
    }

    /// Where nothing of ours answers, nobody else may listen.
    fn ports_of(&mut self, origins: [&str; 3]) {
        for ((name, _), origin) in LOCAL.into_iter().zip(origins) {
            let address =
                Url::parse(origin).ok().and_then(|url| url.socket_addrs(|| None).ok()?.into_iter().next());
            let Some(address) = address else { continue };
            let taken = TcpListener::bind(address);
            if taken.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
                let port = address.port();
                let detail = format!("port {port}, which the {name} needs, is taken by another program");
                self.fail("ports", detail, format!("ss -ltnp 'sport = :{port}' shows which; stop it"));
            }
        }
    }
}
