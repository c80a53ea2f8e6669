//! The promise, held to through real processes: a provider's secret that an owner seals reaches the provider, and nothing
//! between holds it, on disk, in a log or on the wire.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sigilum::protocol::sealed::{Destination, SealingPublicKey};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::pairing_wire::{Wire, found};
use crate::support::agent::Agent;
use crate::support::gateway::{Gateway, Setup};
use crate::support::raw::{RawClient, Response};
use crate::support::upstream::{Reply, Upstream};
use crate::support::{eventually, random};

const FIRST: &str = "sk-canary/4711+first=z";
const SECOND: &str = "sk-canary/4712+second=z";
/// What must be found wherever the secret must not, so that a search that finds nothing has looked.
const PLANTED: &str = "planted-service-4711";
const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef-tests";

/// `sigilum api start` as a process, its output in a file.
struct Plane {
    child: Child,
    directory: TempDir,
    address: SocketAddr,
    token: String,
}

impl Plane {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let log = File::create(directory.path().join("api.log")).unwrap();
        let child = command(directory.path(), &["api", "start", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut plane = Self { child, directory, address: nobody, token: String::new() };
        let prefix = "[ok] Control plane listening on http://";
        plane.address = eventually("the control plane to listen", || {
            let log = String::from_utf8(plane.log()).unwrap();
            log.lines().find_map(|line| line.strip_prefix(prefix)?.trim_end_matches('/').parse().ok())
        });
        let owner =
            ["api", "owner", "create", "--namespace", "acme", "--email", "ops@acme.example", "--json"];
        let made = command(plane.directory.path(), &owner).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        plane.token = made["token"].as_str().unwrap().to_owned();
        plane
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("api.log")).unwrap()
    }

    /// Every file of its database, the log of writes ahead among them.
    fn database(&self) -> Vec<u8> {
        let data = self.directory.path().join(".local/api-data");
        let files: Vec<_> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
        let names = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
        assert!(names.clone().any(|name| name == "sigilum.db"), "{files:?}");
        assert!(names.clone().any(|name| name.ends_with("-wal")), "{files:?}");
        files.into_iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- what the control plane wrote ---\n{}", String::from_utf8_lossy(&self.log()));
        }
    }
}

fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sigilum"));
    command
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .env("JWT_SECRET", JWT_SECRET);
    command
}

/// An owner with its token, who speaks over a recorded line.
struct Speaker<'a> {
    line: &'a Wire,
    token: &'a str,
}

impl Speaker<'_> {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        let (host, token, body) = (self.line.address(), self.token, body.to_string());
        let mut client = RawClient::connect(host);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ));
        client.response_to(method)
    }

    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body);
        assert!([200, 201].contains(&answer.status), "{method} {path}: {}", answer.text());
        answer.json()
    }

    fn get(&self, path: &str) -> Value {
        self.done("GET", path, &json!({}))
    }

    /// A command to the gateway, which must do it.
    fn command(&self, session: &str, method: &str, path: &str, body: Value) -> Value {
        let sent = json!({ "session_id": session, "method": method, "path": path, "body": body });
        let answer = self.done("POST", "/v1/gateway/pairing/command", &sent);
        assert!([200, 201].contains(&answer["status"].as_u64().unwrap()), "{answer}");
        serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
    }
}

fn pair(gateway: &Gateway, session: &Value, api: &str) {
    let admin = format!("http://{}", gateway.admin_address());
    let text = |name: &str| session[name].as_str().unwrap();
    let args = ["gateway", "pair", "--session-id", text("session_id"), "--pair-code", text("pair_code")];
    let ended = command(gateway.directory(), &args)
        .args(["--namespace", "acme", "--api-url", api, "--gateway-admin-url", &admin])
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

fn sealed(shown: &Value, secret: &str) -> Value {
    let key: SealingPublicKey =
        shown["gateway"]["sealing_key"]["public_key"].as_str().unwrap().parse().unwrap();
    let destination = Destination {
        gateway_id: shown["gateway"]["gateway_id"].as_str().unwrap(),
        connection: Some(&PLANTED.parse().unwrap()),
        secret: &"api_key".parse().unwrap(),
    };
    json!({ "sealed": key.seal(secret, destination, Zeroizing::new(random())).unwrap() })
}

/// Asks for a claim by using the service, has it approved, and uses it then.
fn approved(owner: &Speaker<'_>, gateway: &Gateway, agent: &Agent) {
    let target = format!("/proxy/{PLANTED}/v1/models");
    // Until the gateway has read the new service's claims it refuses for another reason.
    eventually("a request that wants a claim", || {
        (gateway.send(&agent.get(gateway.url(), &target)).status == 403).then_some(())
    });
    let claim = eventually("a claim that waits", || {
        let claims = owner.get("/v1/namespaces/acme/claims?status=pending");
        claims["claims"][0]["claim_id"].as_str().map(str::to_owned)
    });
    owner.done("POST", &format!("/v1/claims/{claim}/approve"), &json!({}));
    eventually("a request that passes", || {
        (gateway.send(&agent.get(gateway.url(), &target)).status == 200).then_some(())
    });
}

#[test]
fn provider_s_secret_is_nowhere_between_its_owner_and_its_provider() {
    let plane = Plane::start();
    let (to_gateway, to_owner) = (Wire::before(plane.address), Wire::before(plane.address));
    let owner = Speaker { line: &to_owner, token: &plane.token };
    let service = owner.done("POST", "/v1/services", &json!({ "slug": PLANTED }));
    let keys = format!("/v1/services/{}/keys", service["id"].as_str().unwrap());
    let key = owner.done("POST", &keys, &json!({ "all_services": true }));
    let (agent, upstream) = (Agent::new("acme"), Upstream::answering(Reply::Echo));
    let gateway = Setup::new()
        .set("identity.namespace", "acme")
        .set("control_plane.url", to_gateway.origin())
        .set("control_plane.service_api_key", "env:SERVICE_KEY")
        .set("telemetry.log.level", "trace")
        .env("SERVICE_KEY", key["key"].as_str().unwrap())
        .start();

    let session = owner.done("POST", "/v1/gateway/pairing/start", &json!({}));
    pair(&gateway, &session, &to_gateway.origin());
    let id = session["session_id"].as_str().unwrap();
    let shown = owner.get(&format!("/v1/gateway/pairing/status?session_id={id}"));
    let connection =
        json!({ "id": PLANTED, "base_url": upstream.url(), "secrets": { "api_key": sealed(&shown, FIRST) } });
    owner.command(id, "POST", "/api/admin/connections", connection);
    approved(&owner, &gateway, &agent);
    let last = || upstream.requests().pop().unwrap().header("authorization").map(str::to_owned);
    assert_eq!(last(), Some(format!("Bearer {FIRST}")));

    let path = format!("/api/admin/connections/{PLANTED}");
    let rotation = json!({ "secrets": { "api_key": sealed(&shown, SECOND) } });
    owner.command(id, "POST", &format!("{path}/rotate"), rotation);
    let tested = owner.command(id, "POST", &format!("{path}/test"), json!({ "test_path": "/me" }));
    assert_eq!(tested["status"], "pass", "{tested}");
    assert_eq!(last(), Some(format!("Bearer {SECOND}")));
    owner.command(id, "GET", "/api/admin/connections", Value::Null);

    let (_, gateway_log) = gateway.stop();
    for (place, bytes) in [
        ("database", plane.database()),
        ("control plane's log", plane.log()),
        ("gateway's log", gateway_log.into_bytes()),
        ("line to the gateway", to_gateway.bytes()),
        ("line to the owner", to_owner.bytes()),
    ] {
        assert!(found(&bytes, PLANTED).is_some(), "the search of the {place} does not find what is there");
        for secret in [FIRST, SECOND] {
            assert_eq!(found(&bytes, secret), None, "the {place} holds the secret");
        }
    }
    let replied = found(&to_gateway.bytes(), r#"{\"connections\":[{"#);
    assert!(replied.is_some(), "the gateway's own messages are not read");
}
