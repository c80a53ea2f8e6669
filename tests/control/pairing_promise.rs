//! The promise, held to through real processes: a provider's secret that an owner seals reaches the provider, and nothing
//! between holds it, on disk, in a log or on the wire.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sigilum::protocol::sealed::{Destination, SealingPublicKey};
use zeroize::Zeroizing;

use super::pairing_wire::{Wire, found};
use crate::gateway::admin_scene::ask;
use crate::support::agent::Agent;
use crate::support::control::Owner;
use crate::support::gateway::{Gateway, Setup};
use crate::support::postgres::Postgres;
use crate::support::raw::{RawClient, Response};
use crate::support::replica::{Estate, Replica};
use crate::support::upstream::{Reply, Upstream};
use crate::support::{eventually, random};

const FIRST: &str = "sk-canary/4711+first=z";
const SECOND: &str = "sk-canary/4712+second=z";
/// Kept as a credential variable.
const THIRD: &str = "sk-canary/4713+third=z";
const SECRETS: [&str; 3] = [FIRST, SECOND, THIRD];
const VARIABLE: &str = "PLANTED_VARIABLE";
/// What must be found wherever the secrets must not, so that a search that finds nothing has looked.
const PLANTED: &str = "planted-service-4711";
/// The same, and it stands in commands alone.
const NAMED: &str = "planted-name-4712";

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
    let ended = Command::new(env!("CARGO_BIN_EXE_sigilum"))
        .args(["gateway", "pair", "--session-id", text("session_id"), "--pair-code", text("pair_code")])
        .args(["--namespace", "acme", "--api-url", api, "--gateway-admin-url", &admin])
        .current_dir(gateway.directory())
        .env_clear()
        .env("HOME", gateway.directory())
        .output()
        .unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Sealed for the connection, or for the variable where there is none.
fn sealed(shown: &Value, connection: Option<&str>, secret: &str) -> Value {
    let key: SealingPublicKey =
        shown["gateway"]["sealing_key"]["public_key"].as_str().unwrap().parse().unwrap();
    let name = if connection.is_some() { "api_key" } else { VARIABLE };
    let connection = connection.map(|id| id.parse().unwrap());
    let destination = Destination {
        gateway_id: shown["gateway"]["gateway_id"].as_str().unwrap(),
        connection: connection.as_ref(),
        secret: &name.parse().unwrap(),
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

/// What stood between the owner and the provider while secrets went by.
struct Between {
    to_gateway: Wire,
    to_owner: Wire,
    gateway_log: String,
}

impl Between {
    /// The owner at the one replica sets, rotates and uses secrets of a gateway whose socket is at the other, which may
    /// be the same.
    fn of(near: &Replica, far: &Replica, owner: &Owner) -> Self {
        let (to_gateway, to_owner) = (Wire::before(far.address()), Wire::before(near.address()));
        let speaker = Speaker { line: &to_owner, token: &owner.token };
        let service = speaker.done("POST", "/v1/services", &json!({ "slug": PLANTED }));
        let keys = format!("/v1/services/{}/keys", service["id"].as_str().unwrap());
        let key = speaker.done("POST", &keys, &json!({ "all_services": true }));
        let gateway = Setup::new()
            .set("identity.namespace", "acme")
            .set("control_plane.url", to_gateway.origin())
            .set("control_plane.service_api_key", "env:SERVICE_KEY")
            .set("telemetry.log.level", "trace")
            .env("SERVICE_KEY", key["key"].as_str().unwrap())
            .start();
        let session = speaker.done("POST", "/v1/gateway/pairing/start", &json!({}));
        pair(&gateway, &session, &to_gateway.origin());
        secrets_go_by(&speaker, session["session_id"].as_str().unwrap(), &gateway);
        let (_, gateway_log) = gateway.stop();
        Self { to_gateway, to_owner, gateway_log }
    }

    /// Panics where a secret stands in what was between, or in these other places.
    fn assert_silent(&self, others: Vec<(&str, Vec<u8>)>) {
        let to_gateway = self.to_gateway.bytes();
        let replied = found(&to_gateway, r#"{\"connections\":[{"#);
        assert!(replied.is_some(), "the gateway's own messages are not read");
        let own = [
            ("gateway's log", self.gateway_log.clone().into_bytes()),
            ("line to the gateway", to_gateway),
            ("line to the owner", self.to_owner.bytes()),
        ];
        for (place, bytes) in own.into_iter().chain(others) {
            assert!(
                found(&bytes, PLANTED).is_some(),
                "the search of the {place} does not find what is there"
            );
            for secret in SECRETS {
                assert_eq!(found(&bytes, secret), None, "the {place} holds the secret");
            }
        }
    }
}

fn secrets_go_by(owner: &Speaker<'_>, session: &str, gateway: &Gateway) {
    let (agent, upstream) = (Agent::new("acme"), Upstream::answering(Reply::Echo));
    let last = || upstream.requests().pop().unwrap().header("authorization").map(str::to_owned);
    let bearer = |secret: &str| Some(format!("Bearer {secret}"));
    let shown = owner.get(&format!("/v1/gateway/pairing/status?session_id={session}"));
    let secret = sealed(&shown, Some(PLANTED), FIRST);
    let connection =
        json!({ "id": PLANTED, "name": NAMED, "base_url": upstream.url(), "secrets": { "api_key": secret } });
    owner.command(session, "POST", "/api/admin/connections", connection);
    approved(owner, gateway, &agent);
    assert_eq!(last(), bearer(FIRST));

    let path = format!("/api/admin/connections/{PLANTED}");
    let rotation = json!({ "secrets": { "api_key": sealed(&shown, Some(PLANTED), SECOND) } });
    owner.command(session, "POST", &format!("{path}/rotate"), rotation);
    let tested = owner.command(session, "POST", &format!("{path}/test"), json!({ "test_path": "/me" }));
    assert_eq!(tested["status"], "pass", "{tested}");
    assert_eq!(last(), bearer(SECOND));

    let variable = json!({ "key": VARIABLE, "value": sealed(&shown, None, THIRD) });
    owner.command(session, "POST", "/api/admin/credential-variables", variable);
    // Which connection refers to it is said at the gateway.
    let local = json!({ "id": "local", "base_url": upstream.url(),
                        "secrets": { "api_key": format!("{{{{{VARIABLE}}}}}") } });
    let made = ask(gateway.admin_address(), "POST", "/api/admin/connections", Some(&local));
    assert_eq!(made.status, 201, "{}", made.text());
    owner.command(session, "POST", "/api/admin/connections/local/test", json!({ "test_path": "/me" }));
    assert_eq!(last(), bearer(THIRD));
    owner.command(session, "GET", "/api/admin/connections", Value::Null);
}

/// All files of a directory and of those in it, one after the other, and how many they are.
fn files(directory: &Path) -> (Vec<u8>, usize) {
    let (mut bytes, mut count, mut left) = (Vec::new(), 0, vec![directory.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.is_file() {
                bytes.extend(std::fs::read(path).unwrap());
                count += 1;
            }
        }
    }
    (bytes, count)
}

#[test]
fn provider_s_secret_is_nowhere_between_its_owner_and_its_provider() {
    let estate = Estate::on_sqlite();
    let owner = estate.owner("acme");
    let mut replica = estate.replica();
    replica.start();
    let between = Between::of(&replica, &replica, &owner);
    // The log of writes ahead among them.
    let data = estate.data();
    assert!(data.join("sigilum.db").exists() && data.join("sigilum.db-wal").exists());
    between.assert_silent(vec![
        ("database", files(&data).0),
        ("control plane's log", replica.output().into_bytes()),
    ]);
}

#[test]
fn provider_s_secret_is_nowhere_between_two_replicas_either() {
    let postgres = Postgres::start();
    let estate = Estate::on(&postgres);
    let owner = estate.owner("acme");
    let mut replicas = [estate.replica(), estate.replica()];
    replicas.iter_mut().for_each(Replica::start);
    let between = Between::of(&replicas[0], &replicas[1], &owner);
    postgres.run("CHECKPOINT");
    let cluster = postgres.directory().join("data");
    for part in ["base", "pg_wal"] {
        let (bytes, count) = files(&cluster.join(part));
        assert!(count > 0, "{part} is empty");
        for secret in SECRETS {
            assert_eq!(found(&bytes, secret), None, "{part} holds the secret");
        }
    }
    // The commands went by way of the database, and what is gone from its tables still lies there.
    let written = files(&cluster.join("pg_wal")).0;
    assert!(found(&written, NAMED).is_some(), "no command is found in the log of writes ahead");
    let logs = replicas.iter().map(Replica::output).collect::<String>();
    between.assert_silent(vec![("cluster", files(&cluster).0), ("replicas' logs", logs.into_bytes())]);
}
